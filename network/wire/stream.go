package wire

import (
	"encoding/json"
	"fmt"
	"regexp"
)

// StreamFormat says what the elements of a stream are. There are only these two: text is bytes.
type StreamFormat string

// The two formats.
const (
	FormatBytes  StreamFormat = "bytes"
	FormatEvents StreamFormat = "events" // JSON values
)

// Valid reports whether f is one of the two formats.
func (f StreamFormat) Valid() bool { return f == FormatBytes || f == FormatEvents }

// FirstSeq is the sequence number of the first message of a stream that nobody has written before.
func (f StreamFormat) FirstSeq() int64 {
	if f == FormatEvents {
		return 1
	}
	return 0
}

// StreamDirection says who writes, always seen from the agent.
type StreamDirection string

// The directions.
const (
	Outbound      StreamDirection = "outbound" // the agent writes
	Inbound       StreamDirection = "inbound"  // the consumer writes
	Bidirectional StreamDirection = "bidirectional"
)

// Valid reports whether d is one of the three directions.
func (d StreamDirection) Valid() bool { return d == Outbound || d == Inbound || d == Bidirectional }

// Inverted is the direction as the other side sees it.
func (d StreamDirection) Inverted() StreamDirection {
	switch d {
	case Outbound:
		return Inbound
	case Inbound:
		return Outbound
	}
	return d
}

// Writes and Reads report what the side does from which the direction is seen: the agent for a direction as it travels,
// the consumer for an inverted one.
func (d StreamDirection) Writes() bool { return d == Outbound || d == Bidirectional }

// Reads is the counterpart of Writes.
func (d StreamDirection) Reads() bool { return d == Inbound || d == Bidirectional }

// StreamAffinity says whether a stream belongs to one task or to all tasks of an agent.
type StreamAffinity string

// The affinities.
const (
	Dedicated StreamAffinity = "dedicated"
	Shared    StreamAffinity = "shared"
)

// Valid reports whether a is one of the two affinities.
func (a StreamAffinity) Valid() bool { return a == Dedicated || a == Shared }

// HasEndMarker reports whether the writer of such a stream ends it with a marker: where several may write, no one of
// them can say that the stream is over.
func HasEndMarker(d StreamDirection, a StreamAffinity) bool {
	return d != Bidirectional && a == Dedicated
}

// Limits of streams.
const (
	// MaxStreamIDBytes is the longest stream id.
	MaxStreamIDBytes = 92
	// MaxChannelBytes is the longest name of a channel that PubNub takes.
	MaxChannelBytes = 92
	// MaxUserIDBytes is the longest user id.
	MaxUserIDBytes = 92
	// DefaultStreamMessageBytes is how large a message of a stream may be, encoded; STREAM_MAX_MESSAGE_SIZE changes it.
	DefaultStreamMessageBytes = 16384
	// MultipartReserve is what a piece of a message leaves for its envelope.
	MultipartReserve = 512
)

// streamIDPattern: a dot would split the channel's name.
var streamIDPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// CheckStreamID returns an error unless id can name a stream.
func CheckStreamID(id string) error {
	switch {
	case len(id) > MaxStreamIDBytes:
		return fmt.Errorf("stream id %q has %d bytes, more than %d", CutText(id, 32), len(id), MaxStreamIDBytes)
	case !streamIDPattern.MatchString(id):
		return fmt.Errorf("stream id %q must consist of letters, digits, underscores and hyphens", CutText(id, 64))
	}
	return nil
}

// CheckStreamChannel returns an error unless a stream of the agent can have this id: their names share the channel's.
func CheckStreamChannel(agentName, streamID string) error {
	if err := CheckAgentName(agentName); err != nil {
		return err
	}
	if err := CheckStreamID(streamID); err != nil {
		return err
	}
	if c := StreamChannel(agentName, streamID); len(c) > MaxChannelBytes {
		return fmt.Errorf("the stream's channel %s has %d bytes, more than the %d that the network takes: use a shorter agent name or stream name", c, len(c), MaxChannelBytes)
	}
	return nil
}

// StreamMeta is the publisher metadata of every message of a stream.
func StreamMeta(sender string) []byte {
	b, _ := encode(struct { // strings always encode
		Sender          string `json:"sender"`
		ProtocolVersion string `json:"protocolVersion"`
	}{sender, ProtocolVersion})
	return b
}

// StreamSender reads the sender from the publisher metadata of a message; empty when there is none.
func StreamSender(meta []byte) string {
	var m map[string]json.RawMessage
	if len(meta) == 0 || json.Unmarshal(meta, &m) != nil {
		return ""
	}
	return stringMember(m, "sender")
}

// StreamFilter is the subscribe filter that leaves out what userID sent itself.
func StreamFilter(userID string) string { return fmt.Sprintf("meta.sender != '%s'", userID) }
