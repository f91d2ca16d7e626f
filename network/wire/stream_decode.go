package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// StreamKind says what a message on a stream's channel is.
type StreamKind int

// The kinds of messages.
const (
	StreamData  StreamKind = iota + 1 // elements: Chunks or Events
	StreamEnd                         // the end marker
	StreamPiece                       // a piece of a larger message: Part
	StreamRaw                         // of a type that is unknown, with a number
)

// StreamMessage is one decoded message of a stream.
type StreamMessage struct {
	Kind     StreamKind
	Type     string
	StreamID string
	Seq      int64
	// TS is the sender's clock in Unix milliseconds, 0 when it is not said.
	TS int64
	// FirstSeq is the number of the writer's first message, -1 when it is not said.
	FirstSeq int64
	// Unacked is the number from which on a message that is missing may still be sent; Seq when it is not said.
	Unacked int64
	// Chunks are the elements of bytes, decoded. Text means that they were sent as text.
	Chunks [][]byte
	Text   bool
	// Events are the elements of events.
	Events []json.RawMessage
	// Failure of an end marker, if the stream did not end well.
	Failure string
	Part    StreamPart
	// Raw is the whole message of an unknown type.
	Raw json.RawMessage
}

// StreamPart is one piece of a message: Number of Total, from 1. Pieces with the same ID belong together.
type StreamPart struct {
	ID            string
	Number, Total int
	// Data is base64 of the slice, as it was received.
	Data string
}

// DecodeStreamMessage reads a message of a stream. Unknown members are ignored. An error means that the message is none
// of a stream, or is one that must be dropped.
func DecodeStreamMessage(data []byte) (StreamMessage, error) {
	var m map[string]json.RawMessage
	if json.Unmarshal(data, &m) != nil || m == nil {
		return StreamMessage{}, errors.New("message of a stream ignored: it is not a JSON object")
	}
	s := StreamMessage{Type: stringMember(m, "type"), StreamID: stringMember(m, "streamId"), FirstSeq: -1}
	drop := func(format string, args ...any) (StreamMessage, error) {
		return StreamMessage{}, fmt.Errorf("message %s of a stream ignored: %s", CutText(s.Type, 64), fmt.Sprintf(format, args...))
	}
	seq, numbered := seqMember(m, "seq")
	s.Seq = seq
	if ts, ok := integerMember(m, "ts"); ok {
		s.TS = ts
	}
	if first, ok := seqMember(m, "firstSeq"); ok && first <= seq {
		s.FirstSeq = first
	}
	s.Unacked = seq
	if unacked, ok := seqMember(m, "unacked"); ok && unacked < seq {
		s.Unacked = unacked
	}
	if s.Type == typeStreamEnd {
		s.Kind, s.Failure = StreamEnd, stringMember(m, "failure")
		if !numbered {
			return drop("seq is not a whole number")
		}
		return s, nil
	}
	if part := objectMember(m, "multipart"); part != nil {
		if !numbered {
			return drop("seq of a piece is not a whole number")
		}
		return s.decodePiece(part, m["data"], drop)
	}
	switch {
	case !numbered:
		return drop("seq is not a whole number")
	case s.Type == typeStreamData:
		return s.decodeChunks(m, drop)
	case s.Type == typeStreamEvents:
		s.Kind = StreamData
		if json.Unmarshal(m["events"], &s.Events) != nil || len(s.Events) == 0 {
			return drop("events is not an array with elements")
		}
		return s, nil
	}
	s.Kind, s.Raw = StreamRaw, data
	return s, nil
}

type dropFunc = func(format string, args ...any) (StreamMessage, error)

func (s StreamMessage) decodeChunks(m map[string]json.RawMessage, drop dropFunc) (StreamMessage, error) {
	s.Kind = StreamData
	var chunks []*string
	if json.Unmarshal(m["chunks"], &chunks) != nil || len(chunks) == 0 {
		return drop("chunks is not an array of texts with elements")
	}
	encoding, said := stringMember(m, "encoding"), m["encoding"] != nil
	switch {
	case !said || encoding == encodingUTF8:
		s.Text = true
	case encoding != encodingBase64:
		return drop("encoding %q is neither utf8 nor base64", CutText(encoding, 64))
	}
	s.Chunks = make([][]byte, len(chunks))
	for i, c := range chunks {
		if c == nil {
			return drop("chunk %d is not a text", i)
		}
		if s.Text {
			s.Chunks[i] = []byte(*c)
			continue
		}
		b, err := base64.StdEncoding.DecodeString(*c)
		if err != nil {
			return drop("chunk %d is not base64", i)
		}
		s.Chunks[i] = b
	}
	return s, nil
}

func (s StreamMessage) decodePiece(part, data json.RawMessage, drop dropFunc) (StreamMessage, error) {
	var p map[string]json.RawMessage
	_ = json.Unmarshal(part, &p) // it is an object
	number, ok1 := integerMember(p, "part")
	total, ok2 := integerMember(p, "total")
	id := stringMember(p, "id")
	if id == "" || !ok1 || !ok2 || number < 1 || total < 2 || number > total || total > math.MaxInt32 {
		return drop("multipart needs an id, a part from 1 to total, and a total of 2 or more")
	}
	if len(data) == 0 || data[0] != '"' {
		return drop("data of a piece is not a text")
	}
	s.Kind = StreamPiece
	s.Part = StreamPart{ID: id, Number: int(number), Total: int(total)}
	if json.Unmarshal(data, &s.Part.Data) != nil {
		return drop("data of a piece is not a text")
	}
	return s, nil
}

// Bytes decodes the slice.
func (p StreamPart) Bytes() ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(p.Data)
	if err != nil {
		return nil, fmt.Errorf("piece %d of %d is not base64", p.Number, p.Total)
	}
	return b, nil
}

// seqMember reads a sequence number: a whole number that is not negative.
func seqMember(m map[string]json.RawMessage, key string) (int64, bool) {
	n, ok := integerMember(m, key)
	return n, ok && n >= 0
}
