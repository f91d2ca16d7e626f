package pluginsdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// Message is a task for another agent.
type Message struct {
	Agent string
	Parts []Input
	// Duration makes it a pipe task, whole minutes; 0 is a request task.
	Duration time.Duration
	// IdempotencyKey makes a second Call with the same key return the first task.
	IdempotencyKey string
	// OwnerID that the network records; empty for the owner of this agent.
	OwnerID string
	// Detached lets the called task go on when this task ends or its session is closed. Otherwise it is canceled then.
	Detached bool
	// TraceContext is the W3C trace context of a span of the handler's own (key "traceparent"), as OpenTelemetry's
	// propagation.TraceContext puts it into a propagation.MapCarrier. Without it the called task belongs to this task.
	TraceContext map[string]string
}

// Input is one part of a Message, made by TextInput, JSONInput or FileInput.
type Input struct {
	// ID is that of the input in the called agent's card; ContentType may be empty.
	ID, ContentType string

	text string
	name string
	file io.Reader
	err  error
}

// TextInput is a text.
func TextInput(id, text string) Input { return Input{ID: id, text: text} }

// JSONInput is the input of a form: any value that encodes to JSON.
func JSONInput(id string, v any) Input {
	b, err := json.Marshal(v)
	if err != nil {
		err = fmt.Errorf("encode part %q: %w", id, err)
	}
	return Input{ID: id, ContentType: "application/json", text: string(b), err: err}
}

// FileInput is a file, which is read to its end while it is sent.
func FileInput(id, name string, r io.Reader) Input { return Input{ID: id, name: name, file: r} }

// Session is a task that this task has sent to another agent. It must be closed; the end of this task closes it, too.
type Session struct {
	taskID             string
	queued, idempotent bool
	host               *host
	caller             string
	cancel             context.CancelFunc
	received           chan struct{} // closed when the last event is here

	mu     sync.Mutex // guards what follows
	events []CallEvent
	err    error
	more   chan struct{} // closed when there is more
}

// CallEvent is one event of a called task.
type CallEvent struct {
	// Type is "progress", "artifact", "terminal" and others.
	Type string `json:"type"`
	// Message is a status text.
	Message string `json:"message"`
	// State, Error, Reason and CompletionReason are those of the end.
	State            string `json:"state"`
	Error            string `json:"error"`
	Reason           string `json:"reason"`
	CompletionReason string `json:"completionReason"`
	// Raw is the whole event, a JSON object.
	Raw json.RawMessage `json:"-"`
}

// Completed reports whether a terminal event is that of a task that succeeded.
func (e CallEvent) Completed() bool { return e.State == "completed" }

// callFileChunk is how much of a file goes into one message.
const callFileChunk = 256 << 10

// Call gives a task to another agent, on behalf of the owner of this agent, and returns once the network has it. The
// credentials stay in the daemon.
func (t *Task) Call(ctx context.Context, m Message) (*Session, error) {
	fail := func(err error) (*Session, error) { return nil, fmt.Errorf("call agent %s: %w", m.Agent, err) }
	client, err := t.host.dial()
	if err != nil {
		return fail(err)
	}
	call := &handlerv1.AgentCall{TaskId: t.ID, AgentName: m.Agent, IdempotencyKey: m.IdempotencyKey, OwnerId: m.OwnerID, Detached: m.Detached, TraceContext: m.TraceContext}
	if m.Duration != 0 {
		call.Duration = durationpb.New(m.Duration)
	}
	for _, in := range m.Parts {
		if in.err != nil {
			return fail(in.err)
		}
		part := &handlerv1.CallPart{PartId: in.ID, ContentType: in.ContentType, Content: &handlerv1.CallPart_Text{Text: in.text}}
		if in.file != nil {
			part.Content = &handlerv1.CallPart_File{File: &handlerv1.File{Name: in.name}}
		}
		call.Parts = append(call.Parts, part)
	}
	// The session outlives this call: ctx ends only the sending.
	life, cancel := context.WithCancel(t.host.authorized(context.WithoutCancel(ctx)))
	stop := context.AfterFunc(ctx, cancel)
	stream, err := client.CallAgent(life)
	if err == nil {
		err = sendCall(stream, call, m.Parts)
	}
	var first *handlerv1.CallAgentResponse
	if err == nil {
		first, err = stream.Recv()
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return fail(said(err))
	}
	sub := first.GetSubmitted()
	s := &Session{
		taskID: sub.GetTaskId(), queued: sub.GetQueued(), idempotent: sub.GetIdempotent(), host: t.host, caller: t.ID, cancel: cancel,
		received: make(chan struct{}), more: make(chan struct{}),
	}
	go s.receive(stream.Recv)
	return s, nil
}

// sendCall sends a call with its files. io.EOF means that the answer says why it failed.
func sendCall(stream interface {
	Send(*handlerv1.CallAgentRequest) error
	CloseSend() error
}, call *handlerv1.AgentCall, parts []Input) error {
	err := stream.Send(&handlerv1.CallAgentRequest{Call: call})
	buf := make([]byte, callFileChunk)
	for i, in := range parts {
		for in.file != nil && err == nil {
			n, readErr := io.ReadFull(in.file, buf)
			if n > 0 {
				err = stream.Send(&handlerv1.CallAgentRequest{PartIndex: int32(i), Data: buf[:n]})
			}
			if readErr == io.EOF || readErr == io.ErrUnexpectedEOF {
				break
			}
			if readErr != nil {
				return fmt.Errorf("read the file of part %q: %w", in.ID, readErr)
			}
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return stream.CloseSend()
}

// said is the sentence of an error of the daemon.
func said(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() != codes.Canceled && s.Code() != codes.DeadlineExceeded {
		return errors.New(s.Message())
	}
	return err
}

// receive collects the events until the task has ended or the session is closed.
func (s *Session) receive(next func() (*handlerv1.CallAgentResponse, error)) {
	defer close(s.received)
	defer s.cancel()
	for {
		m, err := next()
		s.mu.Lock()
		if err != nil {
			s.err = err
		} else {
			e := CallEvent{Raw: m.GetEventJson()}
			_ = json.Unmarshal(e.Raw, &e) // the daemon sends objects
			s.events = append(s.events, e)
		}
		close(s.more)
		s.more = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// TaskID is the id of the called task.
func (s *Session) TaskID() string { return s.taskID }

// Queued reports that no instance of the agent was free when the task was sent.
func (s *Session) Queued() bool { return s.queued }

// Idempotent reports that the idempotency key belongs to a task that was sent before.
func (s *Session) Idempotent() bool { return s.idempotent }

// Events yields the events of the called task from its beginning. It ends after the terminal event, or with an error. It may
// be called more than once.
func (s *Session) Events(ctx context.Context) iter.Seq2[CallEvent, error] {
	return func(yield func(CallEvent, error) bool) {
		for n := 0; ; n++ {
			e, err := s.event(ctx, n)
			if err != nil {
				yield(CallEvent{}, fmt.Errorf("follow task %s: %w", s.taskID, said(err)))
				return
			}
			if !yield(e, nil) || e.Type == "terminal" {
				return
			}
		}
	}
}

func (s *Session) event(ctx context.Context, n int) (CallEvent, error) {
	for {
		s.mu.Lock()
		if n < len(s.events) {
			defer s.mu.Unlock()
			return s.events[n], nil
		}
		err, more := s.err, s.more
		s.mu.Unlock()
		if err != nil {
			return CallEvent{}, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return CallEvent{}, ctx.Err()
		}
	}
}

// Wait waits for the terminal event. A task that failed or was canceled is no error here: see Completed.
func (s *Session) Wait(ctx context.Context) (CallEvent, error) {
	for e, err := range s.Events(ctx) {
		if err != nil {
			return CallEvent{}, err
		}
		if e.Type == "terminal" {
			return e, nil
		}
	}
	return CallEvent{}, fmt.Errorf("follow task %s: its events ended without an outcome", s.taskID)
}

// CallArtifact is an output of a called task.
type CallArtifact struct {
	OutputID, FileName, MIMEType string
	Size                         int64

	index int
}

// Artifacts returns the artifacts that have been seen so far.
func (s *Session) Artifacts() []CallArtifact {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []CallArtifact
	for _, e := range s.events {
		var m struct {
			OutputID    string
			ArtifactRef *struct {
				FileName, MIMEType string
				Size               int64
			}
		}
		if e.Type != "artifact" || json.Unmarshal(e.Raw, &m) != nil || m.ArtifactRef == nil {
			continue
		}
		out = append(out, CallArtifact{m.OutputID, m.ArtifactRef.FileName, m.ArtifactRef.MIMEType, m.ArtifactRef.Size, len(out)})
	}
	return out
}

// Download gets an artifact as a whole.
func (s *Session) Download(ctx context.Context, a CallArtifact) ([]byte, error) {
	r, err := s.Open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Open starts the download of an artifact. Only a reader that ends with io.EOF has delivered it. The caller closes it.
func (s *Session) Open(ctx context.Context, a CallArtifact) (io.ReadCloser, error) {
	client, err := s.host.dial()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(s.host.authorized(ctx))
	r := &callReader{what: fmt.Sprintf("download artifact %q of task %s", a.FileName, s.taskID), cancel: cancel}
	stream, err := client.DownloadCallArtifact(ctx, &handlerv1.DownloadCallArtifactRequest{
		TaskId: s.caller, CalledTaskId: s.taskID, ArtifactIndex: int32(a.index),
	})
	if err == nil {
		r.next = stream.Recv
		var first *handlerv1.DownloadCallArtifactResponse
		if first, err = stream.Recv(); err == nil {
			r.rest = first.GetData()
		}
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%s: %w", r.what, said(err))
	}
	return r, nil
}

// callReader is an artifact that is being downloaded.
type callReader struct {
	what   string
	next   func() (*handlerv1.DownloadCallArtifactResponse, error)
	cancel context.CancelFunc
	rest   []byte
	err    error
}

// Read implements io.Reader.
func (r *callReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		m, err := r.next()
		switch {
		case err == io.EOF:
			r.err = io.EOF
		case err != nil:
			r.err = fmt.Errorf("%s: %w", r.what, said(err))
		default:
			r.rest = m.GetData()
		}
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// Close ends the download.
func (r *callReader) Close() error {
	r.cancel()
	return nil
}

// Cancel asks the called task to end; the outcome arrives as an event.
func (s *Session) Cancel(ctx context.Context) error { return s.control(ctx, "cancel") }

// Terminate ends the called task for good.
func (s *Session) Terminate(ctx context.Context) error { return s.control(ctx, "terminate") }

// Pause asks the called agent to pause.
func (s *Session) Pause(ctx context.Context) error { return s.control(ctx, "pause") }

// Resume asks a paused agent to go on.
func (s *Session) Resume(ctx context.Context) error { return s.control(ctx, "resume") }

// Retry asks the network to run the called task once more.
func (s *Session) Retry(ctx context.Context) error { return s.control(ctx, "retry") }

func (s *Session) control(ctx context.Context, verb string) error {
	client, err := s.host.dial()
	if err == nil {
		_, err = client.ControlCall(s.host.authorized(ctx), &handlerv1.ControlCallRequest{TaskId: s.caller, CalledTaskId: s.taskID, Verb: verb})
	}
	if err != nil {
		return fmt.Errorf("%s task %s: %w", verb, s.taskID, said(err))
	}
	return nil
}

// Close ends the session. A task that has not ended is canceled, unless it is detached. It may be called more than once.
func (s *Session) Close() {
	s.cancel()
	<-s.received
}
