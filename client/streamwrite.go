package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/blocksd/blocksd/network/stream"
)

// writing returns the writer.
func (r *Stream) writing() (*stream.Writer, error) {
	if r.writer == nil {
		return nil, fmt.Errorf("write stream %q: the agent writes it, it can only be read here", r.Name())
	}
	return r.writer, nil
}

func (r *Stream) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("write stream %q: %w", r.Name(), err)
}

func (r *Stream) write(ctx context.Context, item stream.Item) error {
	w, err := r.writing()
	if err != nil {
		return err
	}
	return r.failed(w.Write(ctx, item))
}

// Write sends bytes as one element. It waits while the network is slow, and does not keep p. A stream of events carries
// bytes as the object {"$binary":"<base64>"}.
func (r *Stream) Write(ctx context.Context, p []byte) error { return r.write(ctx, stream.Bytes(p)) }

// WriteItems sends elements, all or none of them, in one message if they fit. Of an item counts what it carries: Event, or
// Data and Text.
func (r *Stream) WriteItems(ctx context.Context, items ...StreamItem) error {
	w, err := r.writing()
	if err != nil {
		return err
	}
	return r.failed(w.Write(ctx, carried(items)...))
}

// TryWriteItems is WriteItems that does not wait: it returns ErrStreamFull where the network takes less than is written.
func (r *Stream) TryWriteItems(items ...StreamItem) error {
	w, err := r.writing()
	if err != nil {
		return err
	}
	return r.failed(w.TryWrite(carried(items)...))
}

func carried(items []StreamItem) []stream.Item {
	out := make([]stream.Item, len(items))
	for n, i := range items {
		out[n] = stream.Item{Data: i.Data, Text: i.Text, Event: i.Event}
	}
	return out
}

// WriteText sends a text as one element of a stream of bytes.
func (r *Stream) WriteText(ctx context.Context, text string) error {
	return r.write(ctx, stream.Text(text))
}

// WriteEvent sends a value that encodes to JSON, anything but a text, as one element of a stream of events.
func (r *Stream) WriteEvent(ctx context.Context, v any) error {
	item, err := r.event(v)
	if err != nil {
		return err
	}
	return r.write(ctx, item)
}

func (r *Stream) event(v any) (stream.Item, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // <, > and & go as they are
	if err := enc.Encode(v); err != nil {
		return stream.Item{}, fmt.Errorf("write stream %q: the event does not encode to JSON: %w", r.Name(), err)
	}
	return stream.Event(bytes.TrimSpace(b.Bytes())), nil // Encode adds a line's end
}

// TryWrite is Write that does not wait: it returns ErrStreamFull where the network takes less than is written.
func (r *Stream) TryWrite(p []byte) error {
	w, err := r.writing()
	if err != nil {
		return err
	}
	return r.failed(w.TryWrite(stream.Bytes(p)))
}

// Flush waits until the network has acknowledged what was written.
func (r *Stream) Flush(ctx context.Context) error {
	w, err := r.writing()
	if err != nil {
		return err
	}
	return r.failed(w.Flush(ctx))
}

// End says that no more will be written, and waits until the network has acknowledged everything. Where the stream can be
// read, too, reading goes on. Repeating it is harmless.
func (r *Stream) End(ctx context.Context) error {
	w, err := r.writing()
	if err != nil {
		return err
	}
	return r.failed(w.End(ctx))
}
