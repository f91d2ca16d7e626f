package pluginsdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// Bounds of what a stream holds back here. The daemon holds back more, and the network some.
const (
	outboxBytes = 128 << 10
	// callBytes is where one call of the daemon ends, unless a single item is larger.
	callBytes = 512 << 10
	// itemBytes is what one item may have.
	itemBytes = 4 << 20
)

// outbox collects what is written while a call of the daemon is under way, and sends it with the next one: a write that
// comes alone goes out at once, and many small ones take few calls.
type outbox struct {
	stream *Stream

	mu        sync.Mutex // guards what follows
	waiting   []*handlerv1.StreamItem
	size      int
	put, sent int           // items so far
	sending   bool          // the goroutine that sends exists
	changed   chan struct{} // closed, and made anew, when there is room or the state has changed
	closed    bool
	err       error // that of a call; nothing is sent after it
}

func (o *outbox) init(s *Stream) { o.stream, o.changed = s, make(chan struct{}) }

func (o *outbox) wakeLocked() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// add takes an item, and waits for room when it may.
func (o *outbox) add(item *handlerv1.StreamItem, size int, wait bool) error {
	ctx := o.stream.ctx
	o.mu.Lock()
	for {
		switch {
		case o.err != nil:
			err := o.err
			o.mu.Unlock()
			return err
		case o.closed:
			o.mu.Unlock()
			return ErrStreamClosed
		case ctx.Err() != nil:
			o.mu.Unlock()
			return context.Cause(ctx)
		case o.size == 0 || o.size+size <= outboxBytes:
			o.waiting, o.size = append(o.waiting, item), o.size+size
			o.put++
			if !o.sending {
				o.sending = true
				go o.send()
			}
			o.mu.Unlock()
			return nil
		case !wait:
			o.mu.Unlock()
			return ErrStreamFull
		}
		changed := o.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		o.mu.Lock()
	}
}

// send makes the calls until nothing waits. They end with the task, not with the context of the stream: what was written
// before that ended counts.
func (o *outbox) send() {
	s := o.stream
	ctx := s.auth(context.WithoutCancel(s.ctx))
	for {
		o.mu.Lock()
		if len(o.waiting) == 0 || o.err != nil {
			o.sending = false
			o.wakeLocked()
			o.mu.Unlock()
			return
		}
		items := o.take()
		o.mu.Unlock()
		_, err := s.client.WriteStream(ctx, &handlerv1.WriteStreamRequest{TaskId: s.task, CalledTaskId: s.called, StreamId: s.ID, Items: items})
		o.mu.Lock()
		if o.sent += len(items); err != nil {
			o.err = streamError(err)
		}
		o.wakeLocked()
		o.mu.Unlock()
	}
}

// take returns what the next call carries. It needs mu held.
func (o *outbox) take() []*handlerv1.StreamItem {
	size, n := 0, 0
	for n < len(o.waiting) && (n == 0 || size+sizeOf(o.waiting[n]) <= callBytes) {
		size += sizeOf(o.waiting[n])
		n++
	}
	items := o.waiting[:n:n]
	if o.waiting = o.waiting[n:]; len(o.waiting) == 0 {
		o.waiting = nil
	}
	o.size -= size
	return items
}

// overhead of an item, so that empty ones have a size too.
const overhead = 16

func sizeOf(i *handlerv1.StreamItem) int {
	return overhead + len(i.GetData()) + len(i.GetText()) + len(i.GetEventJson()) + len(i.GetEventData())
}

// drain waits until the daemon has taken everything that was written before.
func (o *outbox) drain(ctx context.Context) error {
	o.mu.Lock()
	for until := o.put; o.sent < until && o.err == nil; {
		changed := o.changed
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		o.mu.Lock()
	}
	defer o.mu.Unlock()
	return o.err
}

// close takes no more, and waits until the daemon has taken everything.
func (o *outbox) close(ctx context.Context) error {
	o.mu.Lock()
	o.closed = true
	o.wakeLocked()
	o.mu.Unlock()
	return o.drain(ctx)
}

// write is what all writes have in common.
func (s *Stream) write(f Format, item *handlerv1.StreamItem, wait bool) error {
	err := s.checkWrite(f)
	if n := sizeOf(item) - overhead; err == nil && n > itemBytes {
		err = fmt.Errorf("an item has %d bytes, more than %d: split it", n, itemBytes)
	}
	if err == nil {
		err = s.out.add(item, sizeOf(item), wait)
	}
	if err != nil {
		return fmt.Errorf("write to stream %s: %w", s.ID, err)
	}
	return nil
}

func (s *Stream) checkWrite(f Format) error {
	switch {
	case s.External != nil:
		return &sentence{"another process writes it", ErrStreamClosed}
	case s.Direction == Inbound:
		return &sentence{"it is inbound: only " + s.other() + " writes it", ErrStreamClosed}
	case s.Format != f && f == BytesFormat:
		return errors.New("it is a stream of events: use WriteEvent")
	case s.Format != f:
		return errors.New("it is a stream of bytes: use Write or WriteText")
	}
	return nil
}

// Write appends bytes; the consumer gets them as one piece. It returns when there is room for them, and blocks while the
// network is slow. An error may be about an earlier write. An error of the context is that of [Task.CreateStream].
func (s *Stream) Write(b []byte) (int, error) {
	if err := s.write(BytesFormat, data(b), true); err != nil {
		return 0, err
	}
	return len(b), nil
}

// TryWrite is Write that does not wait: [ErrStreamFull] when there is no room, and nothing is written then.
func (s *Stream) TryWrite(b []byte) error { return s.write(BytesFormat, data(b), false) }

func data(b []byte) *handlerv1.StreamItem {
	return &handlerv1.StreamItem{Item: &handlerv1.StreamItem_Data{Data: bytes.Clone(b)}}
}

// WriteText is Write for text, which takes less room on the network.
func (s *Stream) WriteText(text string) error {
	if mended := valid(text); mended != text {
		_, err := s.Write([]byte(text)) // it is not UTF-8, and must arrive as it is
		return err
	}
	return s.write(BytesFormat, &handlerv1.StreamItem{Item: &handlerv1.StreamItem_Text{Text: text}}, true)
}

// WriteEvent appends one value, encoded as JSON; a []byte travels as bytes. A string is refused, because the network takes
// no string as an event: wrap it in an object.
func (s *Stream) WriteEvent(v any) error { return s.writeEvent(v, true) }

// TryWriteEvent is WriteEvent that does not wait.
func (s *Stream) TryWriteEvent(v any) error { return s.writeEvent(v, false) }

func (s *Stream) writeEvent(v any, wait bool) error {
	if b, ok := v.([]byte); ok {
		return s.write(EventsFormat, &handlerv1.StreamItem{Item: &handlerv1.StreamItem_EventData{EventData: bytes.Clone(b)}}, wait)
	}
	b, err := encode(v)
	switch {
	case err != nil:
		return fmt.Errorf("write to stream %s: the event cannot be encoded: %w", s.ID, err)
	case len(b) > 0 && b[0] == '"':
		return fmt.Errorf("write to stream %s: a string cannot be an event: wrap it in an object", s.ID)
	}
	return s.write(EventsFormat, &handlerv1.StreamItem{Item: &handlerv1.StreamItem_EventJson{EventJson: b}}, wait)
}

// encode is json.Marshal without the escapes for HTML, which only cost room here.
func encode(v any) ([]byte, error) {
	if raw, ok := v.(json.RawMessage); ok {
		if !json.Valid(raw) {
			return nil, errors.New("it is not JSON")
		}
		return bytes.TrimSpace(raw), nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// Flush returns when the network has acknowledged everything that was written before.
func (s *Stream) Flush(ctx context.Context) error {
	err := s.out.drain(ctx)
	if err == nil {
		_, err = s.client.WriteStream(s.auth(ctx), &handlerv1.WriteStreamRequest{TaskId: s.task, CalledTaskId: s.called, StreamId: s.ID, Flush: true})
		if err != nil {
			err = callError(ctx, err)
		}
	}
	if err != nil {
		return fmt.Errorf("flush stream %s: %w", s.ID, err)
	}
	return nil
}
