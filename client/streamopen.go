package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/stream"
)

// StreamOption changes how a stream is opened. Those of the first Open count.
type StreamOption func(*streamOptions)

type streamOptions struct {
	gapTimeout time.Duration
	limits     stream.Limits
	buffer     int
	onError    func(*StreamError)
	late       time.Duration
}

// GapTimeout is how long a message that is missing is waited for before it is given up; default 750 ms. Below 0 messages
// are yielded as they come, in any order and perhaps twice.
func GapTimeout(d time.Duration) StreamOption { return func(o *streamOptions) { o.gapTimeout = d } }

// StreamLimits are those of a writer; zero values mean the defaults, which STREAM_MAX_MESSAGE_SIZE, STREAM_BUNDLE_SIZE and
// STREAM_MAX_LATENCY_MS of the environment change.
type StreamLimits = stream.Limits

// WriteLimits changes the limits of what is written here.
func WriteLimits(l StreamLimits) StreamOption { return func(o *streamOptions) { o.limits = l } }

// ReadBuffer is how many bytes may wait to be read before the network is asked for no more; it keeps the newest hundred
// messages then. The default is 1 MiB, and 64 MiB beside it that all streams of the Client share.
func ReadBuffer(bytes int) StreamOption { return func(o *streamOptions) { o.buffer = bytes } }

// OnStreamError is called when the network fails, once until it works again, and for the error that ends the stream. It
// must not block, nor use the stream.
func OnStreamError(f func(*StreamError)) StreamOption {
	return func(o *streamOptions) { o.onError = f }
}

// Late lets a stream be opened for a while after Events or Wait has told the end of its task; by default not at all. It is for
// programs that open streams on behalf of others, which hear of the end later.
func Late(d time.Duration) StreamOption { return func(o *streamOptions) { o.late = d } }

// Open opens the stream. The same stream is returned to everybody who opens it, as long as it has not ended. After the end
// of the task the error is a *StreamUnavailableError, unless it is open. Until Events or Wait has told the end, it is
// not too late to read a stream: the network keeps it for a while.
func (r *StreamRef) Open(ctx context.Context, options ...StreamOption) (*Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open stream %q: %w", r.Name(), context.Cause(ctx))
	}
	s := r.session
	o := streamOptions{limits: s.client.limitsOfStreams()}
	for _, change := range options {
		change(&o)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	end, ended := s.log.end()
	switch {
	case r.stream != nil && !r.stream.over():
		return r.stream, nil
	case r.stream != nil:
		return nil, fmt.Errorf("open stream %q of task %s: %w", r.Name(), s.taskID, ErrStreamEnded)
	case s.closed:
		return nil, fmt.Errorf("open stream %q of task %s: %w", r.Name(), s.taskID, ErrClosed)
	case ended && (!s.ran || !r.Direction().Reads() || !s.told.IsZero() && time.Since(s.told) >= o.late):
		return nil, &StreamUnavailableError{TaskID: s.taskID, StreamID: r.a.ID, DeclaredStream: r.a.Declared, TerminalState: end.State}
	}
	opened, err := r.start(o)
	if err != nil {
		return nil, fmt.Errorf("open stream %q of task %s: %w", r.Name(), s.taskID, err)
	}
	r.stream = opened
	s.streams.open = append(s.streams.open, opened)
	if s.streams.leave != nil {
		s.drainLocked(opened)
	}
	return opened, nil
}

// start makes the stream and lets it run.
func (r *StreamRef) start(o streamOptions) (*Stream, error) {
	s := r.session
	spare := s.client.spare
	if o.buffer > 0 {
		spare = nil
	}
	user := s.client.streamUsers.Next(firstNonEmpty(s.client.OwnerID, s.client.userID, s.agent))
	token := r.a.Token
	endpoint := stream.Endpoint{Link: s.link, Channel: r.a.Channel, UserID: user, Token: func() string { return token }}
	opened := &Stream{ref: r, turn: make(chan struct{}, 1)}
	onError := func(e *StreamError) {
		opened.note(e)
		if o.onError != nil {
			o.onError(e)
		}
	}
	var err error
	if r.Direction().Reads() {
		opened.reader, err = stream.NewReader(stream.ReaderConfig{
			Endpoint: endpoint, Format: r.a.Format, EndMarker: r.hasEndMarker(), IgnoreOwn: r.a.Direction == Bidirectional, GapTimeout: o.gapTimeout,
			Queue: o.buffer, Spare: spare, OnError: onError, Log: s.client.log,
		})
	}
	if err == nil && r.Direction().Writes() {
		opened.writer, err = stream.NewWriter(stream.WriterConfig{
			Endpoint: endpoint, StreamID: r.a.ID, Format: r.a.Format, EndMarker: r.hasEndMarker(), Limits: o.limits, OnError: onError, Log: s.client.log,
			// Whoever comes back to a task may have written the stream before.
			FirstSeq: stream.FirstSeq(r.a.Format, r.Shared() || s.returned || s.idempotent, time.Now()),
		})
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	opened.cancel = cancel
	if opened.reader != nil {
		opened.running.Go(func() { _ = opened.reader.Run(ctx) }) // Ended says how it ended
	}
	if opened.writer != nil {
		opened.running.Go(func() { _ = opened.writer.Run(ctx) }) // Err says how it ended
	}
	return opened, nil
}

// spareBytes is what the streams of a Client may hold together, beside the buffer that each has.
const spareBytes = 64 << 20

// limitsOfStreams are those that the environment sets.
func (c *Client) limitsOfStreams() stream.Limits {
	l, problems := stream.LimitsFrom(c.Getenv)
	for _, err := range problems {
		c.log.Warn("ignored a setting of streams", "err", err)
	}
	return l
}

// OpenAll opens every stream that has been announced so far and can be read, in that order. Those that cannot be opened
// are left out.
func (s *Session) OpenAll(ctx context.Context, options ...StreamOption) (open []*Stream) {
	for _, ref := range s.Streams() {
		if !ref.Direction().Reads() {
			continue
		}
		if r, err := ref.Open(ctx, options...); err == nil {
			open = append(open, r)
		}
	}
	return open
}

// EndReason says why a stream is over.
type EndReason = stream.EndReason

// The reasons.
const (
	// StreamEnded: the writer has ended it.
	StreamEnded = stream.Ended
	// StreamDrained: the task has ended, and no more came within the drain window.
	StreamDrained = stream.Drained
	// StreamRevoked: the network no longer permits it.
	StreamRevoked = stream.Revoked
	// StreamFailed: the writer says that it failed, or the network refuses the request for another reason.
	StreamFailed = stream.Failed
	// StreamClosed: it was closed here.
	StreamClosed = stream.Closed
)

// Stream is an open stream. Of several who read it, each gets a part.
type Stream struct {
	ref    *StreamRef
	reader *stream.Reader // nil where nothing can be read
	writer *stream.Writer // nil where nothing can be written

	cancel  context.CancelFunc // of what runs
	running sync.WaitGroup

	turn    chan struct{} // held by the one who reads
	pending []StreamItem  // of the message being read; guarded by turn
	gap     *StreamGap    // before the next item; guarded by turn
	rest    []byte        // of an element being read by Read; guarded by turn

	mu      sync.Mutex
	failure *StreamError // the latest
}

// ID names the stream in the network.
func (r *Stream) ID() string { return r.ref.ID() }

// Name is that of the stream in the agent's card, else its id.
func (r *Stream) Name() string { return r.ref.Name() }

// Format says what the stream carries.
func (r *Stream) Format() StreamFormat { return r.ref.Format() }

// Direction says who writes the stream, seen from here.
func (r *Stream) Direction() StreamDirection { return r.ref.Direction() }

// Ref is the stream as it was announced.
func (r *Stream) Ref() *StreamRef { return r.ref }

// over reports whether nothing more comes or goes.
func (r *Stream) over() bool {
	return (r.reader == nil || r.reader.Ended() != nil) && (r.writer == nil || isClosed(r.writer.Done()))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// EndReason says why the stream is over, empty as long as it is not: where it can be read, that nothing more arrives.
func (r *Stream) EndReason() EndReason {
	if r.reader != nil {
		if end := r.reader.Ended(); end != nil {
			return end.Reason
		}
		return ""
	}
	if !isClosed(r.writer.Done()) {
		return ""
	}
	err := r.writer.Err()
	e, refused := errors.AsType[*StreamError](err)
	switch {
	case err == nil:
		return StreamEnded
	case refused && e.Category == stream.AccessDenied:
		return StreamRevoked
	case refused && e.Fatal:
		return StreamFailed
	}
	return StreamClosed
}

// Gaps is how many times messages were missing so far.
func (r *Stream) Gaps() int64 {
	if r.reader == nil {
		return 0
	}
	return r.reader.Stats().Gaps
}

// Lost is how many messages were missing so far.
func (r *Stream) Lost() int64 {
	if r.reader == nil {
		return 0
	}
	return r.reader.Stats().Lost
}

// Done is closed when nothing more arrives, or, where nothing can be read, when nothing more is sent.
func (r *Stream) Done() <-chan struct{} {
	if r.reader != nil {
		return r.reader.Arrived()
	}
	return r.writer.Done()
}

func (r *Stream) note(e *StreamError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = e
}

// Trouble is the latest error between the stream and the network, nil for none. One that is not fatal may be over.
func (r *Stream) Trouble() *StreamError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}
