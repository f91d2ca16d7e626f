package calls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// The first largeBuffers open streams may hold largeBuffer bytes each in either direction, any further one smallBuffer.
const (
	largeBuffers = 64
	largeBuffer  = 1 << 20
	smallBuffer  = 64 << 10
	// maxItem bounds one item that is written, in bytes, as it does in a task's own streams.
	maxItem = 4 << 20
)

// callStream is an open stream of a task that was sent. It is read by one at a time.
type callStream struct {
	of     *call
	stream *client.Stream
	free   func() // ends its share of the limits; may be repeated

	mu      sync.Mutex // guards what follows
	reading bool
	told    int64 // how many of the messages that were missing the reader knows of
}

var _ dispatch.StreamUse = (*callStream)(nil)

func streamFault(f dispatch.StreamFault, format string, args ...any) error {
	return &dispatch.StreamError{Fault: f, Text: fmt.Sprintf(format, args...)}
}

// announced describes the streams that have been announced, without the first so many.
func (c *call) announced(known int) (all []dispatch.CalledStream) {
	refs := c.session.Streams()
	for _, r := range refs[min(known, len(refs)):] {
		all = append(all, describe(r))
	}
	return all
}

func describe(r *client.StreamRef) dispatch.CalledStream {
	d := r.Descriptor()
	return dispatch.CalledStream{
		ID: d.StreamID, Declared: d.DeclaredStream, Direction: d.LocalDirection, Format: d.Format, Shared: r.Shared(), Metadata: d.Metadata,
	}
}

// OpenStream implements dispatch.Call.
func (c *call) OpenStream(ctx context.Context, id string) (dispatch.CalledStream, error) {
	var found *client.StreamRef
	for _, r := range c.session.Streams() {
		if r.ID() == id {
			found = r
		}
	}
	if found == nil {
		return dispatch.CalledStream{}, c.unknown(id)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.streams[id] != nil:
		return describe(found), nil
	case c.closed:
		return dispatch.CalledStream{}, streamFault(dispatch.StreamClosed, "task %s is not followed any more, so its streams cannot be opened", c.TaskID())
	}
	buffer, free, err := c.task.beginStream()
	if err != nil {
		return dispatch.CalledStream{}, err
	}
	s, err := found.Open(ctx, client.Late(c.task.pool.cfg.Late), client.ReadBuffer(buffer), client.WriteLimits(client.StreamLimits{Buffer: buffer, MaxItem: maxItem}))
	if err != nil {
		free()
		if ctx.Err() != nil {
			return dispatch.CalledStream{}, ctx.Err()
		}
		return dispatch.CalledStream{}, streamFault(dispatch.StreamClosed, "%v", err)
	}
	if c.streams == nil {
		c.streams = map[string]*callStream{}
	}
	c.streams[id] = &callStream{of: c, stream: s, free: free}
	return describe(found), nil
}

func (c *call) unknown(id string) error {
	return streamFault(dispatch.StreamUnknown, "task %s has announced no stream %q", c.TaskID(), wire.CutText(id, 64))
}

// Stream implements dispatch.Call.
func (c *call) Stream(id string) (dispatch.StreamUse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		return s, nil
	}
	return nil, streamFault(dispatch.StreamUnknown, "stream %q of task %s has not been opened", wire.CutText(id, 64), c.TaskID())
}

// closeStreams lets no more be opened, and gives the places of those that are to others.
func (c *call) closeStreams() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, s := range c.streams {
		s.free()
	}
}

// beginStream counts an open stream, and refuses one too many. It returns how much the stream may hold.
func (t *Task) beginStream() (buffer int, free func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch limit := t.pool.cfg.MaxStreams; {
	case t.ended:
		return 0, nil, dispatch.ErrTaskOver
	case t.streams >= limit:
		return 0, nil, streamFault(dispatch.StreamLimit, "this task has %d streams of called tasks open, the most that it may have: end one first", limit)
	}
	all := int(t.pool.streams.Add(1))
	if limit := t.pool.cfg.MaxAllStreams; all > limit {
		t.pool.streams.Add(-1)
		return 0, nil, streamFault(dispatch.StreamLimit, "the tasks here have %d streams of called tasks open, the most that they may have together: try again later", limit)
	}
	buffer = largeBuffer
	if all > largeBuffers {
		buffer = smallBuffer
	}
	t.streams++
	return buffer, sync.OnceFunc(t.endStream), nil
}

func (t *Task) endStream() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams--
	t.pool.streams.Add(-1)
}

// Write implements dispatch.StreamUse.
func (s *callStream) Write(ctx context.Context, items []dispatch.StreamItem, wait bool) error {
	if !s.stream.Direction().Writes() {
		return streamFault(dispatch.StreamClosed, "stream %s is inbound: only the called agent writes it", s.stream.ID())
	}
	out := make([]client.StreamItem, len(items))
	for n, i := range items {
		switch events := s.stream.Format() == client.FormatEvents; {
		case events && (i.Kind == dispatch.StreamBytes || i.Kind == dispatch.StreamText):
			return streamFault(dispatch.StreamBadItem, "stream %s takes events, not bytes or text", s.stream.ID())
		case !events && (i.Kind == dispatch.StreamEvent || i.Kind == dispatch.StreamEventBytes):
			return streamFault(dispatch.StreamBadItem, "stream %s takes bytes or text, not events", s.stream.ID())
		case i.Kind == dispatch.StreamEvent:
			out[n].Event = i.Data
		default:
			out[n].Data, out[n].Text = i.Data, i.Kind == dispatch.StreamText
		}
	}
	if !wait {
		return s.fault(s.stream.TryWriteItems(out...))
	}
	return s.fault(s.stream.WriteItems(ctx, out...))
}

// Flush implements dispatch.StreamUse.
func (s *callStream) Flush(ctx context.Context) error {
	if !s.stream.Direction().Writes() {
		return nil
	}
	return s.fault(s.stream.Flush(ctx))
}

// fault is an error of writing as a handler gets it.
func (s *callStream) fault(err error) error {
	var item *stream.ItemError
	id := s.stream.ID()
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &item):
		return streamFault(dispatch.StreamBadItem, "stream %s takes no such item: %s", id, item.Reason)
	case errors.Is(err, client.ErrStreamFull):
		return streamFault(dispatch.StreamFull, "stream %s has no room: the network takes less than is written", id)
	case errors.Is(err, client.ErrStreamEnded), errors.Is(err, client.ErrClosed), errors.Is(err, stream.ErrClosed):
		return streamFault(dispatch.StreamClosed, "stream %s has ended", id)
	}
	return streamFault(dispatch.StreamClosed, "stream %s has failed: %v", id, err)
}

// Read implements dispatch.StreamUse.
func (s *callStream) Read() (next func(ctx context.Context) (dispatch.StreamBatch, error), done func(), err error) {
	if !s.stream.Direction().Reads() {
		return nil, nil, streamFault(dispatch.StreamClosed, "stream %s is outbound: only the called agent reads it", s.stream.ID())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading {
		return nil, nil, streamFault(dispatch.StreamClosed, "stream %s is being read already", s.stream.ID())
	}
	s.reading = true
	return s.next, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reading = false
	}, nil
}

// next waits for what comes next from the called agent. Only the one who reads calls it.
func (s *callStream) next(ctx context.Context) (b dispatch.StreamBatch, err error) {
	for len(b.Items) == 0 {
		items, err := s.stream.Next(ctx)
		if err != nil && ctx.Err() != nil {
			return b, err
		}
		if err != nil {
			s.free()
			b.Lost, b.End = s.stream.Lost()-s.told, s.ending(err)
			s.told += b.Lost
			return b, nil
		}
		for _, i := range items {
			if i.Gap != nil {
				b.Lost += i.Gap.Messages()
			}
			if item, ok := received(i, s.stream.Format()); ok {
				b.Items = append(b.Items, item)
			}
		}
	}
	s.told += b.Lost
	return b, nil
}

// ending says how a stream ended whose Next returned err.
func (s *callStream) ending(err error) *dispatch.StreamEnd {
	end, broken := errors.AsType[*stream.End](err)
	switch {
	case broken:
		return &dispatch.StreamEnd{Reason: string(end.Reason), Detail: end.Detail}
	case err != io.EOF:
		return &dispatch.StreamEnd{Reason: string(client.StreamClosed)}
	case s.stream.EndReason() == client.StreamEnded:
		return &dispatch.StreamEnd{Reason: string(client.StreamEnded)}
	}
	return &dispatch.StreamEnd{Reason: string(client.StreamDrained)} // with its task, also where the network takes it away then
}

// received makes of what the network brings what a handler gets. ok is false for what is nothing to it.
func received(i client.StreamItem, f client.StreamFormat) (item dispatch.StreamItem, ok bool) {
	switch {
	case f == client.FormatBytes && i.Data == nil:
		return item, false // a message of a type that handlers know nothing of
	case f == client.FormatBytes && i.Text:
		return dispatch.StreamItem{Kind: dispatch.StreamText, Data: i.Data}, true
	case f == client.FormatBytes:
		return dispatch.StreamItem{Kind: dispatch.StreamBytes, Data: i.Data}, true
	}
	if data, ok := wire.BinaryEvent(i.Event); ok {
		return dispatch.StreamItem{Kind: dispatch.StreamEventBytes, Data: data}, true
	}
	return dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: i.Event}, true
}

// End implements dispatch.StreamUse.
func (s *callStream) End(ctx context.Context) error {
	var err error
	if s.stream.Direction().Writes() {
		err = s.fault(s.stream.End(ctx))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.stream.Close()
	s.free()
	return err
}
