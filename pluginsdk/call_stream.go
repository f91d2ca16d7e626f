package pluginsdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// CalledStream is a stream that a called task has announced. It can be opened as long as that task runs.
type CalledStream struct {
	// ID names the stream on the network, Declared in the card of the called agent; that may be empty.
	ID, Declared string
	// Direction is seen from here: Inbound is what the called agent writes and this handler reads.
	Direction Direction
	Format    Format
	// Shared streams belong to all tasks of the called agent.
	Shared bool
	// Metadata is what the called agent says about the stream: an object, nil for none.
	Metadata json.RawMessage

	session *Session

	mu   sync.Mutex // held while it is being opened
	open *Stream    // guarded by mu
}

func newCalledStream(s *Session, m *handlerv1.CalledStream) *CalledStream {
	return &CalledStream{
		ID: m.GetStreamId(), Declared: m.GetDeclaredStream(), Direction: keyOf(directions, m.GetDirection()), Format: keyOf(formats, m.GetFormat()),
		Shared: m.GetShared(), Metadata: m.GetMetadataJson(), session: s,
	}
}

// Name is that of the stream in the called agent's card, else its id.
func (c *CalledStream) Name() string {
	if c.Declared != "" {
		return c.Declared
	}
	return c.ID
}

// Streams returns the streams that the called task has announced so far, in that order.
func (s *Session) Streams() []*CalledStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.streams)
}

// WaitStream waits for a stream by the name that the called agent's card gives it, or by its id. An empty name is the only
// one there is, or the first to come.
func (s *Session) WaitStream(ctx context.Context, name string) (found *CalledStream, err error) {
	several := false
	err = s.await(ctx, func() bool {
		several = name == "" && len(s.streams) > 1
		i := slices.IndexFunc(s.streams, func(c *CalledStream) bool { return name == "" || name == c.Declared || name == c.ID })
		if i >= 0 && !several {
			found = s.streams[i]
		}
		return i >= 0
	})
	switch {
	case several:
		return nil, fmt.Errorf("wait for a stream of task %s: there are several: give the name of one", s.taskID)
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("wait for stream %q of task %s: the task has ended without it", name, s.taskID)
	case err != nil:
		return nil, fmt.Errorf("wait for stream %q of task %s: %w", name, s.taskID, said(err))
	}
	return found, nil
}

// WaitStreamFunc waits for the first stream for which is returns true. is is called once for each stream, in the order of
// their announcements.
func (s *Session) WaitStreamFunc(ctx context.Context, is func(*CalledStream) bool) (*CalledStream, error) {
	for n := 0; ; n++ {
		var next *CalledStream
		err := s.await(ctx, func() bool {
			if n < len(s.streams) {
				next = s.streams[n]
			}
			return next != nil
		})
		switch {
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("wait for a stream of task %s: the task has ended without it", s.taskID)
		case err != nil:
			return nil, fmt.Errorf("wait for a stream of task %s: %w", s.taskID, said(err))
		case is(next): // without the lock: it may ask the session
			return next, nil
		}
	}
}

// OpenAll opens every stream that has been announced so far and can be read, in that order. Those that cannot be opened are
// left out.
func (s *Session) OpenAll(ctx context.Context, options ...OpenOption) (open []*Stream) {
	for _, c := range s.Streams() {
		if c.Direction == Outbound {
			continue
		}
		if stream, err := c.Open(ctx, options...); err == nil {
			open = append(open, stream)
		}
	}
	return open
}

// OpenOption changes how a stream of a called task is opened. Those of the first Open count.
type OpenOption func(*Stream)

// OnGap is called when messages were lost before what is read next, with their number.
func OnGap(f func(lost int64)) OpenOption { return func(s *Stream) { s.onGap = f } }

// Open opens the stream; repeating it returns the same one. What nobody reads waits in a bounded buffer, then in the network,
// which keeps the newest hundred messages; what is lost by that is a gap, see OnGap. The stream is over when the called agent
// has ended it, or with either task. All that it does ends with ctx.
func (c *CalledStream) Open(ctx context.Context, options ...OpenOption) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open != nil {
		return c.open, nil
	}
	s := c.session
	fail := func(err error) (*Stream, error) {
		return nil, fmt.Errorf("open stream %q of task %s: %w", c.Name(), s.taskID, err)
	}
	client, err := s.host.dial()
	if err != nil {
		return fail(err)
	}
	_, err = client.OpenCallStream(s.host.authorized(ctx), &handlerv1.OpenCallStreamRequest{TaskId: s.caller.ID, CalledTaskId: s.taskID, StreamId: c.ID})
	switch status.Code(err) {
	case codes.OK:
	case codes.NotFound: // of the stream as well
		return fail(said(err))
	default:
		return fail(callError(ctx, err))
	}
	open := &Stream{
		ID: c.ID, Declared: c.Declared, Direction: c.Direction, Format: c.Format, Shared: c.Shared, Created: true,
		owner: s.caller, ctx: ctx, task: s.caller.ID, called: s.taskID, client: client, auth: s.host.authorized,
	}
	for _, change := range options {
		change(open)
	}
	open.out.init(open)
	s.caller.mu.Lock()
	s.caller.streams = append(slices.Clone(s.caller.streams), open)
	s.caller.mu.Unlock()
	c.open = open
	return open, nil
}
