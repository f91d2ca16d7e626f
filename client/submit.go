package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// Request is a task to submit.
type Request struct {
	AgentName string
	Parts     []Part
	// Kind defaults to wire.Request.
	Kind wire.TaskKind
	// DurationMinutes of a pipe task: 1 to 43,200.
	DurationMinutes int
	// Stream requests live streams (true), suppresses them (false) or lets the network decide (nil).
	Stream *bool
	// IdempotencyKey makes a second Submit with the same key return the first task.
	IdempotencyKey string
}

func (r Request) check() error {
	if err := wire.CheckAgentName(r.AgentName); err != nil {
		return err
	}
	switch r.Kind {
	case wire.Pipe:
		if r.DurationMinutes < 1 || r.DurationMinutes > wire.MaxPipeMinutes {
			return fmt.Errorf("a pipe task needs a duration from 1 to %d minutes, not %d", wire.MaxPipeMinutes, r.DurationMinutes)
		}
	case "", wire.Request:
		if r.DurationMinutes != 0 {
			return errors.New("only a pipe task has a duration")
		}
	default:
		return fmt.Errorf("task kind %q is neither %q nor %q", r.Kind, wire.Request, wire.Pipe)
	}
	for _, p := range r.Parts {
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

// Submit submits a task and returns a session that follows it.
func (c *TaskClient) Submit(ctx context.Context, r Request) (*Session, error) {
	fail := func(err error) (*Session, error) {
		return nil, fmt.Errorf("submit a task to agent %s: %w", r.AgentName, err)
	}
	if err := r.check(); err != nil {
		return fail(err)
	}
	mode, err := c.mode(ctx, r.AgentName)
	if err != nil {
		return fail(err)
	}
	parts, uploadSession, err := c.send(ctx, r.AgentName, r.Parts)
	if err != nil {
		return fail(err)
	}
	message := backend.SendRequest{
		AgentName: r.AgentName, BillingMode: mode, Parts: parts, IdempotencyKey: r.IdempotencyKey, UploadSessionID: uploadSession,
		Stream: r.Stream, Kind: r.Kind, DurationMinutes: r.DurationMinutes,
	}
	result, err := c.consumer.SendMessage(ctx, message)
	if e, ok := errors.AsType[*backend.RPCError](err); ok && e.AppCode == "BillingModeMismatch" {
		// The agent was registered again since the lookup. A second mismatch is an error.
		c.forgetMode(r.AgentName)
		if mode, lookUpErr := c.mode(ctx, r.AgentName); lookUpErr == nil && mode != message.BillingMode {
			message.BillingMode = mode
			result, err = c.consumer.SendMessage(ctx, message)
		}
	}
	if err != nil {
		return fail(err)
	}
	s := &Session{client: c, taskID: result.TaskID, queued: result.Queued, idempotent: result.Idempotent, channel: result.Channel, token: result.ReadToken}
	if s.channel == "" || s.token == "" {
		if err := s.renewToken(ctx); err != nil {
			return fail(err)
		}
	}
	keys := result.Keys
	if keys.SubscribeKey == "" {
		keys = c.network.CDM.Keyset(message.BillingMode)
	}
	if s.link, err = c.link(keys); err != nil {
		return fail(err)
	}
	return s, nil
}

// Attach returns a session for a task that was submitted earlier, by this client or another.
func (c *TaskClient) Attach(ctx context.Context, taskID string) (*Session, error) {
	fail := func(err error) (*Session, error) { return nil, fmt.Errorf("attach to task %s: %w", taskID, err) }
	row, err := c.consumer.GetTask(ctx, taskID)
	if err != nil {
		return fail(err)
	}
	s := &Session{client: c, taskID: taskID}
	if err := s.renewToken(ctx); err != nil {
		return fail(err)
	}
	mode, err := c.mode(ctx, row.AgentName)
	switch {
	case errors.Is(err, backend.ErrNotFound):
		// The agent is not registered any more, so nothing names the keyset; the token is valid for only one of the two.
		mode, err = c.probe(ctx, s)
	}
	if err != nil {
		return fail(err)
	}
	if s.link, err = c.link(c.network.CDM.Keyset(mode)); err != nil {
		return fail(err)
	}
	return s, nil
}

// probe finds the keyset for which the session's token is valid.
func (c *TaskClient) probe(ctx context.Context, s *Session) (wire.BillingMode, error) {
	var err error
	for _, mode := range []wire.BillingMode{wire.Free, wire.Paid} {
		var l *link.Link
		if l, err = c.link(c.network.CDM.Keyset(mode)); err != nil {
			return "", err
		}
		if _, err = l.History(ctx, s.channel, s.token, ""); err == nil {
			return mode, nil
		}
		if e, ok := errors.AsType[*link.StatusError](err); !ok || e.Status != http.StatusForbidden {
			return "", err
		}
	}
	return "", err
}
