// Package stream writes and reads the live streams of tasks, on both sides of them.
//
// A stream is one PubNub channel. Its writer numbers its messages; its reader puts them in order by these numbers, per
// sender, and waits a while for one that is missing. The network acknowledges what was published, and nothing says what
// was read: a message that the network has dropped is gone, and the reader reports a gap.
//
// What a Writer and a Reader decide is pure: sender.go and the files around it for the former, lanes.go for the latter.
// Neither knows where the network is; an Endpoint connects them to a link.
package stream

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Item is one element of a stream: what one write puts in, and what the reader gets. The functions Bytes, Text, Event and
// BinaryEvent make one.
type Item struct {
	// Data is an element of bytes, or the bytes of an event that is not JSON.
	Data []byte
	// Event is one JSON value; nil in streams of bytes.
	Event json.RawMessage
	// Text, in streams of bytes, says that Data was sent as text. A writer sends as text whatever is valid UTF-8 and
	// shorter so; the bytes are the same.
	Text bool
}

// Bytes is an element of a stream of bytes.
func Bytes(b []byte) Item { return Item{Data: b} }

// Text is an element of a stream of bytes.
func Text(s string) Item { return Item{Data: []byte(s), Text: true} }

// Event is an element of a stream of events: any JSON value but a text.
func Event(value json.RawMessage) Item { return Item{Event: value} }

// BinaryEvent is an element of a stream of events that carries bytes. The reader gets the object {"$binary":"<base64>"}.
func BinaryEvent(b []byte) Item { return Item{Data: b} }

// size is how much of a buffer the item takes.
func (i Item) size() int { return len(i.Data) + len(i.Event) + itemOverhead }

// itemOverhead is what the smallest item takes in memory.
const itemOverhead = 64

// Delivery is what a Reader yields: the items of one message, or a gap.
type Delivery struct {
	// Gap is set when messages were lost before what follows; then there is nothing else.
	Gap *Gap
	// Items of the message, at least one.
	Items []Item
	// Raw is a message of an unknown type, whole; then there are no items.
	Raw json.RawMessage
	// Sender is the user id of the writer.
	Sender string
	// Seq is the number of the message, counted by its sender.
	Seq int64
	// Time is the sender's clock, zero when it is not said.
	Time time.Time
}

// Gap is a run of messages that never arrived: From up to and including To, as numbered by Sender.
type Gap struct {
	Sender   string
	From, To int64
	Reason   GapReason
}

// Messages is how many messages are missing.
func (g Gap) Messages() int64 { return g.To - g.From + 1 }

// GapReason says why messages are missing.
type GapReason string

// The reasons.
const (
	// GapLost: the network did not deliver them in time.
	GapLost GapReason = "lost"
	// GapLate: they were sent before the reader came, and the network no longer has them.
	GapLate GapReason = "late"
	// GapBroken: their pieces came, but not all, or they did not fit together.
	GapBroken GapReason = "broken"
)

// EndReason says why a reader has ended.
type EndReason string

// The reasons. Ended alone means that everything that was written has been read, but for the gaps.
const (
	// Ended: the writer ended the stream.
	Ended EndReason = "ended"
	// Drained: the task is over and no more has come within the time that was left for it.
	Drained EndReason = "drained"
	// Revoked: the network no longer permits reading it.
	Revoked EndReason = "revoked"
	// Failed: the writer says that it failed, or the network refuses the request for another reason.
	Failed EndReason = "failed"
	// Closed: this side has closed it.
	Closed EndReason = "closed"
)

// End is the error that ends a reader; errors.As finds it.
type End struct {
	Reason EndReason
	// Detail is a sentence where there is more to say.
	Detail string
	// Err is the cause, if there is one.
	Err error
}

func (e *End) Error() string {
	s := "the stream is over: " + string(e.Reason)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

func (e *End) Unwrap() error { return e.Err }

// Errors of a Writer.
var (
	// ErrEnded: the stream was ended on this side.
	ErrEnded = errors.New("the stream has been ended")
	// ErrFull: the buffer has no room for all of the items.
	ErrFull = errors.New("the stream's buffer is full: the network takes less than is written")
	// ErrClosed: the Writer no longer runs.
	ErrClosed = errors.New("the stream is closed")
)

// ItemError refuses an item that can never be sent.
type ItemError struct{ Reason string }

func (e *ItemError) Error() string { return "write to the stream: " + e.Reason }

// Category of an Error.
type Category string

// The categories. AccessDenied and BadRequest are fatal.
const (
	AccessDenied      Category = "access_denied"
	BadRequest        Category = "bad_request"
	NetworkDown       Category = "network_down"
	NetworkIssues     Category = "network_issues"
	Timeout           Category = "timeout"
	MalformedResponse Category = "malformed_response"
	Other             Category = "other"
)

// Error is something that went wrong between a stream and the network.
type Error struct {
	Category Category
	// Fatal means that the stream has ended because of it. Otherwise it goes on by itself.
	Fatal   bool
	Channel string
	Time    time.Time
	Err     error
}

func (e *Error) Error() string { return fmt.Sprintf("stream on channel %s: %v", e.Channel, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// FirstSeq is the number with which a writer begins. A stream that others may have written before, or this side in an
// earlier life, begins at a number made of the time, so that readers do not take its messages for old ones.
func FirstSeq(format wire.StreamFormat, written bool, now time.Time) int64 {
	if !written {
		return format.FirstSeq()
	}
	return now.UnixMilli() * 1000 // below 2^53 for a long time
}
