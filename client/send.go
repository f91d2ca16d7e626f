package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
)

// DefaultDrainWindow is how long streams stay open after the end of their task.
const DefaultDrainWindow = 30 * time.Second

// Option of Send and Connect.
type Option func(*Session)

// DrainWindow sets how long open streams may go on after the end of the task, so that what is under way arrives; default
// 30 s. With 0 they end with the task.
func DrainWindow(d time.Duration) Option { return func(s *Session) { s.drain = max(d, 0) } }

// AsProvider connects with the rights of the task's agent, which belongs to the same account, instead of those of the one
// who sent it.
func AsProvider() Option { return func(s *Session) { s.role = "provider" } }

// Send sends a task and returns a session that follows it. What is wrong with the message is found before anything is
// sent. Without an idempotency key of the message's own, one is made up, so that a lost answer does not send it twice.
func (c *Client) Send(ctx context.Context, m Message, options ...Option) (*Session, error) {
	fail := func(err error) (*Session, error) {
		return nil, fmt.Errorf("send a task to agent %s: %w", m.Agent, translate(err))
	}
	if c.consumer.IsAnonymous() {
		return fail(errors.New("a visitor without an account cannot send tasks: set Options.APIKey, TokenEndpoint or TokenFunc instead of Anonymous"))
	}
	if m.Agent == "" {
		return nil, errors.New("send a task: it names no agent: set Message.Agent")
	}
	if err := m.check(); err != nil {
		return fail(err)
	}
	s := c.newSession(options)
	mode, err := c.mode(ctx, m.Agent)
	if err != nil {
		return fail(err)
	}
	parts, uploadSession, err := c.upload(ctx, m)
	if err != nil {
		return fail(err)
	}
	if trace, ok := wire.ParseTraceparent(m.Traceparent); ok {
		wire.SetCallerTrace(parts, trace)
	}
	request := backend.SendRequest{
		AgentName: m.Agent, BillingMode: mode, Parts: parts, OwnerID: firstNonEmpty(m.OwnerID, c.OwnerID), IdempotencyKey: firstNonEmpty(m.IdempotencyKey, uuid.NewString()),
		UploadSessionID: uploadSession, ConsumerPublicKey: m.ConsumerPublicKey, Push: optional(m.Push), Retry: optional(m.Retry),
	}
	if m.Duration != 0 {
		request.Kind, request.DurationMinutes = wire.Pipe, int(m.Duration/time.Minute)
	}
	if m.Stream != StreamDefault {
		on := m.Stream == StreamOn
		request.Stream = &on
	}
	result, err := c.consumer.SendMessage(ctx, request)
	if _, ok := errors.AsType[*BillingModeMismatchError](translate(err)); ok && c.BillingMode == "" {
		// The agent was registered again since the lookup. A second mismatch is an error.
		c.forgetMode(m.Agent)
		if mode, lookUpErr := c.mode(ctx, m.Agent); lookUpErr == nil && mode != request.BillingMode {
			request.BillingMode = mode
			result, err = c.consumer.SendMessage(ctx, request)
		}
	}
	if err != nil {
		return fail(c.unclear(ctx, request, err))
	}
	sent := func(err error) (*Session, error) { // it runs, and nobody knows of it
		return fail(&UnclearError{Agent: m.Agent, IdempotencyKey: request.IdempotencyKey, err: err, client: c, request: request})
	}
	s.taskID, s.agent, s.queued, s.pushConfigID = result.TaskID, m.Agent, result.Queued, result.PushConfigID
	s.idempotent = result.Idempotent && m.IdempotencyKey != "" // with another key it is only our own repetition
	s.channel, s.token = result.Channel, result.ReadToken
	s.ran = !s.idempotent
	if s.idempotent && result.State.Final() {
		s.known = result.State
	}
	if s.channel == "" || s.token == "" {
		if err := s.renewToken(ctx); err != nil {
			return sent(err)
		}
	}
	keys := c.keyset(request.BillingMode)
	if result.Keys.SubscribeKey != "" {
		keys = result.Keys
	}
	if s.link, err = c.link(keys); err != nil {
		return sent(err)
	}
	if err := c.add(s); err != nil {
		return sent(err)
	}
	return s, nil
}

// upload converts parts for the message: texts and small files go inside it; larger files are uploaded now.
func (c *Client) upload(ctx context.Context, m Message) (out []wire.Part, uploadSession string, err error) {
	for _, p := range m.Parts {
		w := wire.Part{PartID: p.ID, ContentType: p.MIMEType, Text: p.text}
		if !p.IsFile() {
			out = append(out, w)
			continue
		}
		f, err := p.file()
		if err != nil {
			return nil, "", fmt.Errorf("read the file of part %q: %w", p.ID, err)
		}
		w.ContentType = f.mimeType
		if f.size > int64(c.InlineLimit) {
			uploadSession, err = c.consumer.UploadInput(ctx, backend.Upload{
				AgentName: m.Agent, PartID: p.ID, SessionID: uploadSession,
				FileName: f.name, MIMEType: f.mimeType, Size: f.size, Open: f.open,
			})
			if err != nil {
				return nil, "", &UploadError{PartID: p.ID, FileName: f.name, Status: statusOf(err), err: translate(err)}
			}
			out = append(out, w)
			continue
		}
		data, err := readAll(f, int64(c.InlineLimit))
		if err != nil {
			return nil, "", fmt.Errorf("read the file of part %q: %w", p.ID, err)
		}
		ref := wire.InlineRef(wire.Artifact{FileName: f.name, MIMEType: f.mimeType, Data: data})
		w.File = &ref
		out = append(out, w)
	}
	return out, uploadSession, nil
}

func firstNonEmpty(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
