package stream

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/blocksd/blocksd/network/wire"
)

// element is an item as it waits to be sent. It belongs to the writer.
type element struct {
	// data are raw bytes, or an event as JSON.
	data []byte
	// text and binary are how many bytes it needs in a message as text and as base64; text is 0 for what cannot be sent as
	// text. An event has text only.
	text, binary int
	// cost is how much of the buffer it takes.
	cost int
}

// shortest is the smallest number of bytes that it may need.
func (e element) shortest() int {
	if e.text > 0 && (e.binary == 0 || e.text < e.binary) {
		return e.text
	}
	return e.binary
}

// newElement checks an item and copies it. The error is an *ItemError.
func newElement(i Item, format wire.StreamFormat, limit int) (element, error) {
	refuse := func(format string, args ...any) (element, error) {
		return element{}, &ItemError{fmt.Sprintf(format, args...)}
	}
	if n := len(i.Data) + len(i.Event); n > limit {
		return refuse("an item has %d bytes, more than %d: split it", n, limit)
	}
	e := element{cost: i.size()}
	switch {
	case format == wire.FormatBytes && i.Event != nil:
		return refuse("an event does not go into a stream of bytes")
	case format == wire.FormatBytes:
		e.data = bytes.Clone(i.Data)
		n, ok := wire.TextBytes(e.data)
		if ok {
			e.text = n
		}
		e.binary = wire.Base64Bytes(len(e.data))
	case i.Text:
		return refuse("a text does not go into a stream of events: write a JSON value that is not a text")
	case i.Event == nil:
		e.data = wire.AppendBinaryEvent(make([]byte, 0, wire.BinaryEventBytes(len(i.Data))), i.Data)
		e.text = len(e.data)
	default:
		var b bytes.Buffer
		b.Grow(len(i.Event))
		if err := json.Compact(&b, i.Event); err != nil {
			return refuse("the event is not JSON: %v", err)
		}
		if e.data = b.Bytes(); len(e.data) == 0 {
			return refuse("the event is empty")
		}
		if e.data[0] == '"' {
			return refuse("a JSON text does not go into a stream of events: write an object or another value")
		}
		e.text = len(e.data)
	}
	return e, nil
}

// batch is a run of elements that share a message.
type batch struct {
	count int
	// text and binary are the bytes of all elements with the commas between them; text is negative once one of the
	// elements cannot be text, binary once one is an event.
	text, binary int
	cost         int
}

// with returns the batch with one more element.
func (b batch) with(e element) batch {
	add := func(sum *int, n int) {
		switch {
		case *sum < 0 || n == 0:
			*sum = -1
		case b.count > 0:
			*sum += n + 1
		default:
			*sum = n
		}
	}
	add(&b.text, e.text)
	add(&b.binary, e.binary)
	b.count++
	b.cost += e.cost
	return b
}

// size is the smaller of the two, and whether that is base64.
func (b batch) size() (n int, base64 bool) {
	if b.text < 0 || b.binary >= 0 && b.binary < b.text {
		return b.binary, true
	}
	return b.text, false
}

// appendElements appends the elements with commas between them.
func appendElements(dst []byte, elements []element, format wire.StreamFormat, base64 bool) []byte {
	for i, e := range elements {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch {
		case format == wire.FormatEvents:
			dst = append(dst, e.data...)
		case base64:
			dst = wire.AppendBase64(dst, e.data)
		default:
			dst = wire.AppendText(dst, e.data)
		}
	}
	return dst
}
