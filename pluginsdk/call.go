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
	// Stream asks for live streams in a request task. A pipe task has them anyway.
	Stream bool
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
	caller             *Task
	cancel             context.CancelFunc
	received           chan struct{} // closed when the last event is here

	mu      sync.Mutex // guards what follows
	events  []CallEvent
	streams []*CalledStream
	err     error         // io.EOF after the last event
	more    chan struct{} // closed when there is more
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
	call := &handlerv1.AgentCall{TaskId: t.ID, AgentName: m.Agent, IdempotencyKey: m.IdempotencyKey, OwnerId: m.OwnerID, Detached: m.Detached, TraceContext: m.TraceContext, Stream: m.Stream}
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
		taskID: sub.GetTaskId(), queued: sub.GetQueued(), idempotent: sub.GetIdempotent(), host: t.host, caller: t, cancel: cancel,
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
			for _, announced := range m.GetStreams() {
				s.streams = append(s.streams, newCalledStream(s, announced))
			}
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

func (s *Session) event(ctx context.Context, n int) (e CallEvent, err error) {
	err = s.await(ctx, func() bool {
		there := n < len(s.events)
		if there {
			e = s.events[n]
		}
		return there
	})
	return e, err
}

// await calls look, with the lock held, now and whenever something has come, until it returns true.
func (s *Session) await(ctx context.Context, look func() bool) error {
	for {
		s.mu.Lock()
		found, err, more := look(), s.err, s.more
		s.mu.Unlock()
		if found || err != nil {
			if found {
				err = nil
			}
			return err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
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
		_, err = client.ControlCall(s.host.authorized(ctx), &handlerv1.ControlCallRequest{TaskId: s.caller.ID, CalledTaskId: s.taskID, Verb: verb})
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
