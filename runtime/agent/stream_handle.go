package agent

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/streams"
)

// streamHandle is a stream as one task has it. What one task does with its handle is no concern of others that share the
// stream.
type streamHandle struct {
	table    *streamTable
	job      *job
	id       string
	spec     streams.Spec
	metadata json.RawMessage
	answered chan struct{} // closed when the set-up has its answer
	err      error         // set before answered closes: why there is no stream

	// streamTable.mu guards what follows. Once answered has closed, open stays as it is.
	open    *openStream
	first   bool        // its set-up made the stream
	made    *openStream // that is in the journal; nil for one that needs no note
	waiters int         // calls that wait for the answer
	used    bool        // somebody has it
	closed  bool
}

var _ dispatch.Stream = (*streamHandle)(nil)

func (h *streamHandle) key() handleKey { return handleKey{h.id, h.job.task.ID} }

// Info implements dispatch.Stream.
func (h *streamHandle) Info() dispatch.StreamInfo {
	o, t := h.open, h.table
	t.mu.Lock()
	first := h.first
	t.mu.Unlock()
	if o == nil { // it was looked up after its end
		return dispatch.StreamInfo{ID: h.id, Channel: wire.StreamChannel(t.agent.name(), h.id)}
	}
	i := dispatch.StreamInfo{
		ID: h.id, Declared: h.spec.Declared, Direction: h.spec.Direction, Format: h.spec.Format, Shared: h.spec.Affinity == wire.Shared,
		Channel: o.channel, First: first,
	}
	if h.spec.External {
		keys := t.session.keys
		i.External = &dispatch.ExternalStream{
			Token: *o.token.Load(), PublishKey: keys.PublishKey, SubscribeKey: keys.SubscribeKey, Origin: t.agent.originURL(), Expires: o.expires,
		}
	}
	return i
}

// usable returns the stream unless the task has let go of it.
func (h *streamHandle) usable() (*openStream, error) {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	if h.closed {
		return nil, streamFault(dispatch.StreamClosed, "stream %s has ended", h.id)
	}
	return h.open, nil
}

func (h *streamHandle) writer() (*openStream, error) {
	o, err := h.usable()
	switch {
	case err != nil:
		return nil, err
	case o.spec.External:
		return nil, streamFault(dispatch.StreamClosed, "stream %s is external: another process writes it", h.id)
	case o.writer == nil:
		return nil, streamFault(dispatch.StreamClosed, "stream %s is inbound: only the consumer writes it", h.id)
	}
	return o, nil
}

// Write implements dispatch.Stream.
func (h *streamHandle) Write(ctx context.Context, items []dispatch.StreamItem, wait bool) error {
	o, err := h.writer()
	if err != nil || len(items) == 0 {
		return err
	}
	out := make([]stream.Item, len(items))
	for n, i := range items {
		if out[n], err = o.item(i); err != nil {
			return err
		}
	}
	if wait {
		err = o.writer.Write(ctx, out...)
	} else {
		err = o.writer.TryWrite(out...)
	}
	if err == nil {
		h.count(false, items)
	}
	return o.fault(err)
}

// count notes how much went through the stream.
func (h *streamHandle) count(inbound bool, items []dispatch.StreamItem) {
	bytes := 0
	for _, i := range items {
		bytes += len(i.Data)
	}
	a := h.table.agent
	if inbound {
		a.traffic.inbound.Add(int64(bytes))
	} else {
		a.traffic.outbound.Add(int64(bytes))
	}
	if streamed := a.cfg.Meters.Streamed; streamed != nil {
		streamed(a.name(), inbound, bytes)
	}
}

// item makes of what a handler writes what the network gets.
func (o *openStream) item(i dispatch.StreamItem) (stream.Item, error) {
	events := o.spec.Format == wire.FormatEvents
	switch {
	case i.Kind == dispatch.StreamText && !events:
		return stream.Item{Data: i.Data, Text: true}, nil
	case i.Kind == dispatch.StreamBytes && !events:
		return stream.Bytes(i.Data), nil
	case i.Kind == dispatch.StreamEvent && events:
		return stream.Event(i.Data), nil
	case i.Kind == dispatch.StreamEventBytes && events:
		return stream.BinaryEvent(i.Data), nil
	case events:
		return stream.Item{}, streamFault(dispatch.StreamBadItem, "stream %s takes events, not bytes or text", o.id)
	}
	return stream.Item{}, streamFault(dispatch.StreamBadItem, "stream %s takes bytes or text, not events", o.id)
}

// Flush implements dispatch.Stream.
func (h *streamHandle) Flush(ctx context.Context) error {
	o, err := h.writer()
	if err != nil {
		return err
	}
	return o.fault(o.writer.Flush(ctx))
}

// Read implements dispatch.Stream.
func (h *streamHandle) Read() (next func(ctx context.Context) (dispatch.StreamBatch, error), done func(), err error) {
	o, err := h.usable()
	switch {
	case err != nil:
		return nil, nil, err
	case o.spec.External:
		return nil, nil, streamFault(dispatch.StreamClosed, "stream %s is external: it cannot be read here", h.id)
	case o.reader == nil:
		return nil, nil, streamFault(dispatch.StreamClosed, "stream %s is outbound: only the consumer reads it", h.id)
	case !o.reading.CompareAndSwap(false, true):
		return nil, nil, streamFault(dispatch.StreamClosed, "stream %s is being read already", h.id)
	}
	next = func(ctx context.Context) (dispatch.StreamBatch, error) {
		b, err := o.next(ctx)
		if len(b.Items) > 0 {
			h.count(true, b.Items)
		}
		return b, err
	}
	return next, func() { o.reading.Store(false) }, nil
}

// next waits for what comes next from the consumer.
func (o *openStream) next(ctx context.Context) (dispatch.StreamBatch, error) {
	for {
		d, err := o.reader.Next(ctx)
		var end *stream.End
		switch {
		case errors.As(err, &end):
			return dispatch.StreamBatch{End: &dispatch.StreamEnd{Reason: string(end.Reason), Detail: end.Detail}}, nil
		case err != nil:
			return dispatch.StreamBatch{}, err
		case d.Gap != nil:
			return dispatch.StreamBatch{Lost: d.Gap.Messages()}, nil
		case d.Raw != nil:
			continue // of a type that handlers know nothing of
		}
		b := dispatch.StreamBatch{Items: make([]dispatch.StreamItem, len(d.Items))}
		for n, i := range d.Items {
			b.Items[n] = received(i, o.spec.Format)
		}
		return b, nil
	}
}

// received makes of what the network brings what a handler gets.
func received(i stream.Item, f wire.StreamFormat) dispatch.StreamItem {
	switch {
	case f == wire.FormatEvents && i.Event == nil:
		return dispatch.StreamItem{Kind: dispatch.StreamEventBytes, Data: i.Data}
	case f == wire.FormatEvents:
		if data, ok := wire.BinaryEvent(i.Event); ok {
			return dispatch.StreamItem{Kind: dispatch.StreamEventBytes, Data: data}
		}
		return dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: i.Event}
	case i.Text:
		return dispatch.StreamItem{Kind: dispatch.StreamText, Data: i.Data}
	}
	return dispatch.StreamItem{Kind: dispatch.StreamBytes, Data: i.Data}
}

// Activate implements dispatch.Stream.
func (h *streamHandle) Activate(ctx context.Context, metadata json.RawMessage) error {
	o, err := h.usable()
	switch {
	case err != nil:
		return err
	case !o.spec.External:
		return streamFault(dispatch.StreamForbidden, "stream %s is not external, so the consumer has been notified already", h.id)
	case metadata == nil:
		metadata = h.metadata
	}
	s := streams.SetUp{Stream: h.id, Task: h.job.task.ID, Spec: o.spec, Phase: wire.PhaseActivate}
	_, err = h.table.handshake(ctx, s, h.job, metadata)
	return err
}

// End implements dispatch.Stream.
func (h *streamHandle) End(ctx context.Context) error {
	o, err := h.usable()
	if err != nil {
		return nil // it was ended before
	}
	if ended := h.table.release(h); ended != nil {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if o.writer == nil {
		return nil
	}
	return o.fault(o.writer.Flush(ctx)) // others go on with it
}

// Fail implements dispatch.Stream.
func (h *streamHandle) Fail(ctx context.Context, reason string) error {
	o, err := h.usable()
	if err != nil {
		return err
	}
	h.table.fail(o, wire.CutText(reason, wire.MaxTextBytes))
	return nil
}

// emitOpened and emitClosed say that a task has a stream, and that it has it no more.
func (h *streamHandle) emitOpened() {
	h.job.agent.traffic.open.Add(1)
	h.job.agent.emit(event.Event{Type: event.StreamOpened, TaskID: h.job.task.ID, State: string(h.spec.Direction), Reason: h.id})
}

func (h *streamHandle) emitClosed() {
	h.job.agent.traffic.open.Add(-1)
	state := "ended"
	if h.open.failure != "" {
		state = "failed"
	}
	h.job.agent.emit(event.Event{Type: event.StreamClosed, TaskID: h.job.task.ID, State: state, Reason: h.id})
}
