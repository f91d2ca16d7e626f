package pluginsdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// Direction of a stream, seen from the agent.
type Direction string

// The directions.
const (
	Outbound      Direction = "outbound"
	Inbound       Direction = "inbound"
	Bidirectional Direction = "bidirectional"
)

// Format of a stream.
type Format string

// The formats.
const (
	BytesFormat  Format = "bytes"  // bytes or text
	EventsFormat Format = "events" // JSON values
)

var (
	directions = map[Direction]handlerv1.StreamDirection{
		Outbound: handlerv1.StreamDirection_STREAM_DIRECTION_OUTBOUND, Inbound: handlerv1.StreamDirection_STREAM_DIRECTION_INBOUND,
		Bidirectional: handlerv1.StreamDirection_STREAM_DIRECTION_BIDIRECTIONAL,
	}
	formats = map[Format]handlerv1.StreamFormat{
		BytesFormat: handlerv1.StreamFormat_STREAM_FORMAT_BYTES, EventsFormat: handlerv1.StreamFormat_STREAM_FORMAT_EVENTS,
	}
)

// StreamOptions say which stream of the agent card a task wants. The zero value is right where the card declares one.
type StreamOptions struct {
	// Declared is the key in the card's streams.
	Declared string
	// Direction and Format are checked against the card when they are not empty.
	Direction Direction
	Format    Format
	// Metadata is shown to the consumer with the stream; it must encode as a JSON object. Nil for none.
	Metadata any
	// External: another process writes the stream, see [Stream.External].
	External bool
	// Grace is how long CreateStream waits so that the consumer can open the stream before it is written. The network keeps
	// the first hundred messages of a stream, so most handlers need none.
	Grace time.Duration
	// OnActivate, which may be nil, is called beside Run once the stream is there, by the call that made it. When it returns
	// an error or panics, the stream has failed and with it every task that has it.
	OnActivate func(ctx context.Context, s *Stream) error
	// OnGap, which may be nil, is called when a reader has missed messages, with their number.
	OnGap func(lost int64)
}

// Stream is a live stream of a task. What is written reaches the consumer while the task goes on; an inbound stream brings
// what the consumer writes. A stream of a task that was given to another agent, see [CalledStream], is the same with the
// called agent at the other end. Its methods may be called from several goroutines.
//
// A stream ends with its task: a handler need not end it.
type Stream struct {
	// ID names the stream on the network, Declared in the agent card.
	ID, Declared string
	// Channel is where it travels.
	Channel   string
	Direction Direction
	Format    Format
	// Shared streams belong to all tasks of the agent; Created is false when this task had the stream already.
	Shared, Created bool
	// External is what another process needs to write the stream; nil for every other stream.
	External *External

	owner  *Task
	ctx    context.Context
	task   string
	called string // the task that was given to another agent, if the stream is one of that
	client handlerv1.HostServiceClient
	auth   func(context.Context) context.Context
	onGap  func(int64)
	out    outbox
	in     inbox
}

// External lets another process write one stream, with any client of PubNub. The token is good for that stream alone.
type External struct {
	Token, PublishKey, SubscribeKey, Origin string
	Expires                                 time.Time
}

// Errors of streams; test for them with errors.Is.
var (
	// ErrStreamClosed: the stream has ended or failed, or does not go in this direction.
	ErrStreamClosed = errors.New("the stream is closed")
	// ErrStreamFull: TryWrite would have to wait.
	ErrStreamFull = errors.New("the stream is full")
)

// CreateStream sets up a live stream; for a shared stream that the task has it returns that. It fails when the consumer has not asked for streams (see [Task.HasStream]), and when
// the card does not declare the stream so.
//
// All that the stream does ends with ctx. That is usually the context of Run; a pipe task that goes on after Run has
// returned needs one of its own, and learns from [ErrTaskEnded] that it is over.
func (t *Task) CreateStream(ctx context.Context, o StreamOptions) (*Stream, error) {
	fail := func(err error) (*Stream, error) {
		return nil, fmt.Errorf("create a stream of task %s: %w", t.ID, err)
	}
	client, err := t.host.dial()
	if err != nil {
		return fail(err)
	}
	r := &handlerv1.CreateStreamRequest{
		TaskId: t.ID, DeclaredStream: o.Declared, Direction: directions[o.Direction], Format: formats[o.Format], External: o.External,
	}
	if o.Direction != "" && r.Direction == 0 || o.Format != "" && r.Format == 0 {
		return fail(fmt.Errorf("there is no direction %q or no format %q", o.Direction, o.Format))
	}
	if r.MetadataJson, err = metadataJSON(o.Metadata); err != nil {
		return fail(err)
	}
	if o.Grace > 0 {
		r.Grace = durationpb.New(o.Grace)
	}
	m, err := client.CreateStream(t.host.authorized(ctx), r)
	if err != nil {
		return fail(callError(ctx, err))
	}
	s := &Stream{
		ID: m.GetStreamId(), Declared: m.GetDeclaredStream(), Channel: m.GetChannel(), Shared: m.GetShared(), Created: m.GetCreated(),
		Direction: keyOf(directions, m.GetDirection()), Format: keyOf(formats, m.GetFormat()),
		owner: t, ctx: ctx, task: t.ID, client: client, auth: t.host.authorized, onGap: o.OnGap,
	}
	if e := m.GetExternal(); e != nil {
		s.External = &External{e.GetToken(), e.GetPublishKey(), e.GetSubscribeKey(), e.GetOrigin(), e.GetExpires().AsTime()}
	}
	s.out.init(s)
	t.mu.Lock()
	i := slices.IndexFunc(t.streams, func(o *Stream) bool { return o.ID == s.ID && o.called == "" })
	if i >= 0 && !s.Created { // it has it already
		s = t.streams[i]
		t.mu.Unlock()
		return s, nil
	}
	t.streams = append(t.streams, s)
	t.mu.Unlock()
	if o.OnActivate != nil && s.Created && m.GetFirst() {
		go s.activate(o.OnActivate)
	}
	return s, nil
}

func keyOf[K, V comparable](m map[K]V, v V) (key K) {
	for k, w := range m {
		if w == v {
			return k
		}
	}
	return key
}

func metadataJSON(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("its metadata cannot be encoded: %w", err)
	}
	return b, nil
}

// streamError is an answer of the daemon as an error whose text is the daemon's sentence.
func streamError(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.NotFound:
		return fmt.Errorf("%w (%s)", ErrTaskEnded, s.Message())
	case codes.FailedPrecondition:
		return &sentence{s.Message(), ErrStreamClosed}
	case codes.Unimplemented:
		return errors.New("this daemon is too old for streams")
	case codes.Canceled:
		return &sentence{s.Message(), context.Canceled}
	case codes.DeadlineExceeded:
		return &sentence{s.Message(), context.DeadlineExceeded}
	}
	return errors.New(s.Message())
}

// callError is streamError of a call that may have ended with its context: then the cause of that says more.
func callError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && status.Code(err) == codes.Canceled {
		return &sentence{cause.Error(), errors.Join(cause, context.Canceled)}
	}
	return streamError(err)
}

// sentence is an error with a text of its own.
type sentence struct {
	text string
	is   error
}

func (s *sentence) Error() string { return s.text }
func (s *sentence) Unwrap() error { return s.is }

// crashed is what consumers read of a stream whose OnActivate went wrong.
const crashed = "stream_crashed"

func (s *Stream) activate(f func(context.Context, *Stream) error) {
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		return f(s.ctx, s)
	}()
	if err == nil || s.ctx.Err() != nil {
		return
	}
	slog.Error("what was to be done with a stream failed", "task", s.task, "stream", s.ID, "err", err)
	_ = s.Fail(context.WithoutCancel(s.ctx), crashed) // the daemon is gone, or the task over
}

// Activate shows an external stream to the consumer, once its writer is ready. Metadata replaces that of the options when
// it is not nil.
func (s *Stream) Activate(ctx context.Context, metadata any) error {
	if s.called != "" {
		return fmt.Errorf("activate stream %s: it belongs to a called task, which has announced it already", s.ID)
	}
	b, err := metadataJSON(metadata)
	if err == nil {
		_, err = s.client.ActivateStream(s.auth(ctx), &handlerv1.ActivateStreamRequest{TaskId: s.task, StreamId: s.ID, MetadataJson: b})
		if err != nil {
			err = callError(ctx, err)
		}
	}
	if err != nil {
		return fmt.Errorf("activate stream %s: %w", s.ID, err)
	}
	return nil
}

// End sends what was written and ends the stream for this task. It may be repeated.
func (s *Stream) End(ctx context.Context) error { return s.end(ctx, "") }

// Fail ends the stream and, with it, every task that has it; the consumers read reason. A stream of a called task cannot be
// failed: end it, or cancel its task.
func (s *Stream) Fail(ctx context.Context, reason string) error {
	if s.called != "" {
		return fmt.Errorf("fail stream %s: it belongs to a called task: end it, or cancel that task", s.ID)
	}
	if reason = cut(reason); reason == "" {
		reason = "The stream failed."
	}
	return s.end(ctx, reason)
}

func (s *Stream) end(ctx context.Context, failure string) error {
	written := s.out.close(ctx)
	_, err := s.client.EndStream(s.auth(ctx), &handlerv1.EndStreamRequest{TaskId: s.task, CalledTaskId: s.called, StreamId: s.ID, Failure: failure})
	s.in.close()
	s.owner.mu.Lock()
	s.owner.streams = slices.DeleteFunc(slices.Clone(s.owner.streams), func(o *Stream) bool { return o == s })
	s.owner.mu.Unlock()
	if err == nil && written == nil {
		return nil
	}
	if err != nil {
		written = callError(ctx, err)
	}
	return fmt.Errorf("end stream %s: %w", s.ID, written)
}

// EndTask ends a pipe task whose Run has returned nil: with err, whose text is treated like that of an error of Run, it has
// failed, else it is completed. Streams that are open end with it.
func (t *Task) EndTask(ctx context.Context, err error) error {
	client, failed := t.host.dial()
	if failed == nil {
		t.drain(ctx) // what was written before counts
		r := &handlerv1.EndTaskRequest{TaskId: t.ID}
		if err != nil {
			public, secret := texts(err)
			r.Error = &handlerv1.Error{PublicMessage: public, PrivateMessage: secret}
		}
		if _, failed = client.EndTask(t.host.authorized(ctx), r); failed == nil {
			return nil
		}
		failed = errors.New(status.Convert(failed).Message())
	}
	return fmt.Errorf("end task %s: %w", t.ID, failed)
}

// drain waits until the daemon has everything that was written to the streams of the task.
func (t *Task) drain(ctx context.Context) {
	t.mu.Lock()
	all := t.streams
	t.mu.Unlock()
	for _, s := range all {
		_ = s.out.drain(ctx) // whoever wrote could ask
	}
}

var _ io.ReadWriter = (*Stream)(nil)
