package client

import (
	"context"
	"encoding/json"
	"iter"
)

// StreamItem is one element of a stream, as it was written.
type StreamItem struct {
	// Seq is the number of the message that it came in, counted by its writer. One message may carry several items.
	Seq int64
	// Data are the bytes of an element, in a stream of bytes.
	Data []byte
	// Event is one value, in a stream of events; nil in a stream of bytes.
	Event json.RawMessage
}

// Items yields what the other side has written, as Bytes and Events do, with where it stands.
func (r *Stream) Items(ctx context.Context) iter.Seq2[StreamItem, error] {
	return none[StreamItem]
}

// Gaps is how many messages have been lost so far.
func (r *Stream) Gaps() int64 { return 0 }
