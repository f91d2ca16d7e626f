package dispatch

import (
	"context"
	"encoding/json"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// StreamRequest is a live stream that a handler asks for.
type StreamRequest struct {
	// Declared is the key in the agent card; may be empty when the card declares one stream.
	Declared string
	// Direction and Format must equal those of the card when not empty.
	Direction wire.StreamDirection
	Format    wire.StreamFormat
	// Metadata is a JSON object for the consumer, nil for none.
	Metadata json.RawMessage
	// External: another process writes the stream.
	External bool
	// Grace is how long to wait before a stream that is written may be used, so that the consumer can open it.
	Grace time.Duration
}

// StreamInfo describes a stream of a task.
type StreamInfo struct {
	ID, Declared, Channel string
	Direction             wire.StreamDirection
	Format                wire.StreamFormat
	Shared                bool
	// First: the task that has it made the stream; no other task had it then.
	First bool
	// External is what another process needs to write the stream; nil when the handler writes it.
	External *ExternalStream
}

// ExternalStream permits another process to write one stream.
type ExternalStream struct {
	Token, PublishKey, SubscribeKey string
	// Origin is the URL of PubNub.
	Origin  string
	Expires time.Time
}

// StreamItem is what one write puts into a stream, and what its reader gets.
type StreamItem struct {
	Kind StreamItemKind
	// Data is a text of UTF-8, bytes, or one JSON value. Whoever gets it must not change it.
	Data []byte
}

// StreamItemKind says what the data of an item is.
type StreamItemKind int

// The kinds of items. The first two belong into streams of bytes, the others into streams of events.
const (
	StreamText StreamItemKind = iota + 1
	StreamBytes
	StreamEvent
	StreamEventBytes
)

// StreamBatch is what a reader gets at once.
type StreamBatch struct {
	Items []StreamItem
	// Lost is how many messages never arrived right before the items.
	Lost int64
	// End is set in the last batch.
	End *StreamEnd
}

// StreamEnd says why a reader gets no more.
type StreamEnd struct {
	// Reason is ended, drained, revoked, failed or closed.
	Reason string
	// Detail is one sentence where there is more to say.
	Detail string
}

// StreamUse is what a task can do with a stream, whether it is its own or one of a task that it has sent. Its methods are
// safe for concurrent use; their errors are *StreamError, or that of the context.
type StreamUse interface {
	// Write appends items, all or none of them. It waits for room in the stream's bounded buffer; without wait, it fails
	// with StreamFull instead.
	Write(ctx context.Context, items []StreamItem, wait bool) error
	// Flush returns when the network has acknowledged everything that was written before.
	Flush(ctx context.Context) error
	// Read waits for what the other side writes. There is one reader: begin claims the stream for the caller, and done gives
	// it back.
	Read() (next func(ctx context.Context) (StreamBatch, error), done func(), err error)
	// End sends what was written and ends the stream for this task. It may be repeated.
	End(ctx context.Context) error
}

// Stream is one live stream of a task, as that has it.
type Stream interface {
	StreamUse
	Info() StreamInfo
	// Activate tells the consumer of an external stream, once its writer is ready. Metadata replaces that of the request
	// when it is not nil.
	Activate(ctx context.Context, metadata json.RawMessage) error
	// Fail ends the stream, and every task that has it, because of reason, which the consumers read.
	Fail(ctx context.Context, reason string) error
}

// StreamFault classifies why a stream cannot be had or used.
type StreamFault int

// The faults.
const (
	StreamForbidden   StreamFault = iota + 1 // the consumer did not ask, or the rules of the network forbid it
	StreamUndeclared                         // it is not what the agent card declares
	StreamUnavailable                        // the network refused, or could not be reached
	StreamClosed                             // it has ended, has failed, or does not work in this direction
	StreamBadItem                            // an item can never be sent
	StreamFull                               // there is no room in the buffer now
	StreamLimit                              // too many streams
	StreamUnknown                            // the task has no such stream
)

// StreamError is the error of a stream's method; Text is one sentence for the handler.
type StreamError struct {
	Fault StreamFault
	Text  string
}

func (e *StreamError) Error() string { return e.Text }
