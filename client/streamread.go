package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/blocksd/blocksd/network/stream"
)

// StreamItem is one element of a stream, as one write put it in.
type StreamItem struct {
	// Seq is the number of the message that it came in, counted by its writer. One message may carry several items.
	Seq int64
	// Data are the bytes of an element, in a stream of bytes; Text says that they were sent as text.
	Data []byte
	Text bool
	// Event is one value, in a stream of events; nil in a stream of bytes. A message of an unknown type is one, as a whole.
	Event json.RawMessage
	// Gap says that messages are missing right before this item; nil where none are.
	Gap *StreamGap
	// Sender is the user id of the writer, Time its clock, zero when it is not said.
	Sender string
	Time   time.Time
}

// StreamGap is a run of messages that never came.
type StreamGap = stream.Gap

// next returns what comes next. ok is false at the end, with an error if something went wrong.
func (r *Stream) next(ctx context.Context) (item StreamItem, ok bool, err error) {
	if ok, err := r.fill(ctx); !ok {
		return StreamItem{}, false, err
	}
	item = r.pending[0]
	r.pending[0] = StreamItem{}
	r.pending = r.pending[1:]
	return item, true, nil
}

// fill makes sure that something is pending. ok is false at the end, with an error if something went wrong.
func (r *Stream) fill(ctx context.Context) (ok bool, err error) {
	if r.reader == nil {
		return false, fmt.Errorf("read stream %q: the agent does not write it, it is written here", r.Name())
	}
	for len(r.pending) == 0 {
		d, err := r.reader.Next(ctx)
		if end, over := errors.AsType[*stream.End](err); over {
			return false, r.endError(end)
		}
		if err != nil {
			return false, fmt.Errorf("read stream %q: %w", r.Name(), err)
		}
		if d.Gap != nil {
			r.gap = d.Gap
			continue
		}
		about := StreamItem{Sender: d.Sender, Seq: d.Seq, Time: d.Time, Gap: r.gap}
		r.gap = nil
		if d.Raw != nil {
			about.Event = d.Raw
			r.pending = append(r.pending, about)
		}
		for _, i := range d.Items {
			about.Data, about.Text, about.Event = i.Data, i.Text, i.Event
			r.pending = append(r.pending, about)
			about.Gap = nil
		}
	}
	return true, nil
}

// Next returns what came in the next message, at least one item. At the end the error is io.EOF, or what Items ends with.
func (r *Stream) Next(ctx context.Context) ([]StreamItem, error) {
	if err := r.take(ctx); err != nil {
		return nil, err
	}
	defer r.release()
	ok, err := r.fill(ctx)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, io.EOF
	}
	items := r.pending
	r.pending = nil
	return items, nil
}

// endError is how reading ends: nil where the stream is simply over.
func (r *Stream) endError(end *stream.End) error {
	switch end.Reason {
	case stream.Ended, stream.Drained:
		return nil
	case stream.Closed:
		return fmt.Errorf("read stream %q: %w", r.Name(), ErrClosed)
	case stream.Revoked:
		if r.ref.session.hasEnded() {
			return nil // so that is how the network ends it
		}
	}
	return fmt.Errorf("read stream %q: %w", r.Name(), end)
}

// take gives the caller its turn to read.
func (r *Stream) take(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("read stream %q: %w", r.Name(), context.Cause(ctx))
	}
}

func (r *Stream) release() { <-r.turn }

// each yields what pick makes of the items, as long as it makes something.
func each[T any](ctx context.Context, r *Stream, pick func(StreamItem) (T, bool)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		for {
			if err := r.take(ctx); err != nil {
				yield(zero, err)
				return
			}
			item, ok, err := r.next(ctx)
			r.release()
			if !ok {
				if err != nil {
					yield(zero, err)
				}
				return
			}
			if v, ok := pick(item); ok && !yield(v, nil) {
				return
			}
		}
	}
}

// Items yields what the other side has written, as Bytes and Events do, with where it stands. It ends when the stream is over, or with an error where something went
// wrong: ctx ended, the stream was closed here, revoked before the end of its task, or has failed.
func (r *Stream) Items(ctx context.Context) iter.Seq2[StreamItem, error] {
	return each(ctx, r, func(i StreamItem) (StreamItem, bool) { return i, true })
}

// Bytes yields what the other side has written, one element a write. It ends as Items does.
func (r *Stream) Bytes(ctx context.Context) iter.Seq2[[]byte, error] {
	return each(ctx, r, func(i StreamItem) ([]byte, bool) { return i.Data, i.Data != nil })
}

// Events yields the values that the other side has written. It ends as Items does.
func (r *Stream) Events(ctx context.Context) iter.Seq2[json.RawMessage, error] {
	return each(ctx, r, func(i StreamItem) (json.RawMessage, bool) { return i.Event, i.Event != nil })
}

// Text yields what the other side has written as text, and never splits a character: one that comes in two elements is
// yielded with the second. What is not text becomes the replacement character U+FFFD. It ends as Items does.
func (r *Stream) Text(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var open []byte // the beginning of a character
		for item, err := range r.Items(ctx) {
			if err != nil {
				yield("", err)
				return
			}
			var whole []byte
			if item.Gap != nil { // the rest of the character is missing
				whole, open = open, nil
			}
			if item.Data != nil {
				var more []byte
				more, open = splitText(append(open, item.Data...))
				whole = append(whole, more...)
			}
			if len(whole) > 0 && !yield(strings.ToValidUTF8(string(whole), "\ufffd"), nil) {
				return
			}
		}
		if len(open) > 0 {
			yield("\ufffd", nil)
		}
	}
}

// splitText cuts off the beginning of a character at the end of a text.
func splitText(b []byte) (whole, open []byte) {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		c := b[len(b)-n]
		if utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-n:]) {
				return b[:len(b)-n], append([]byte(nil), b[len(b)-n:]...)
			}
			break
		}
	}
	return b, nil
}

// Read reads bytes as io.Reader says: what is there, io.EOF when the stream is over, an error where something went wrong.
// It has no context; closing the stream or its session ends it.
func (r *Stream) Read(p []byte) (int, error) {
	ctx := context.Background()
	if err := r.take(ctx); err != nil {
		return 0, err
	}
	defer r.release()
	for len(r.rest) == 0 && len(p) > 0 {
		item, ok, err := r.next(ctx)
		if err != nil {
			return 0, err
		}
		if !ok {
			return 0, io.EOF
		}
		r.rest = item.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
