package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/blocksd/blocksd/internal/jsonscan"
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

// StreamMessage is one decoded message of a stream. It shares no memory with what it was decoded from, but for Raw.
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
	Data          []byte
	// Broken means that the piece is there and its data is not base64.
	Broken bool
}

// streamMembers are the members of a message that mean something.
type streamMembers struct {
	typ, streamID, seq, ts, firstSeq, unacked, encoding, chunks, events, failure, multipart, data jsonscan.Value
}

func (m *streamMembers) set(name []byte, v jsonscan.Value) {
	switch string(name) {
	case "type":
		m.typ = v
	case "streamId":
		m.streamID = v
	case "seq":
		m.seq = v
	case "ts":
		m.ts = v
	case "firstSeq":
		m.firstSeq = v
	case "unacked":
		m.unacked = v
	case "encoding":
		m.encoding = v
	case "chunks":
		m.chunks = v
	case "events":
		m.events = v
	case "failure":
		m.failure = v
	case "multipart":
		m.multipart = v
	case "data":
		m.data = v
	}
}

// DecodeStreamMessage reads a message of a stream. Unknown members are ignored. An error means that the message is none
// of a stream, or is one that must be dropped.
func DecodeStreamMessage(data []byte) (StreamMessage, error) {
	whole, ok := jsonscan.Check(data)
	if !ok || !whole.IsObject() {
		return StreamMessage{}, errors.New("message of a stream ignored: it is not a JSON object")
	}
	var m streamMembers
	for name, v := range whole.Members {
		m.set(name, v)
	}
	s := StreamMessage{Type: scannedText(m.typ), StreamID: scannedText(m.streamID), FirstSeq: -1}
	seq, numbered := scannedNumber(m.seq)
	if !numbered {
		return drop(&s, "seq is not a whole number")
	}
	s.Seq, s.Unacked = seq, seq
	if ts, ok := scannedNumber(m.ts); ok {
		s.TS = ts
	}
	if first, ok := scannedNumber(m.firstSeq); ok && first <= seq {
		s.FirstSeq = first
	}
	if unacked, ok := scannedNumber(m.unacked); ok && unacked < seq {
		s.Unacked = unacked
	}
	switch {
	case s.Type == typeStreamEnd:
		s.Kind, s.Failure = StreamEnd, scannedText(m.failure)
		return s, nil
	case m.multipart.IsObject():
		return s.decodePiece(m.multipart, m.data)
	case s.Type == typeStreamData:
		return s.decodeChunks(m.encoding, m.chunks)
	case s.Type == typeStreamEvents:
		s.Kind = StreamData
		for e := range m.events.Elements {
			s.Events = append(s.Events, json.RawMessage(bytes.Clone(e)))
		}
		if len(s.Events) == 0 {
			return drop(&s, "events is not an array with elements")
		}
		return s, nil
	}
	s.Kind, s.Raw = StreamRaw, json.RawMessage(whole)
	return s, nil
}

func drop(s *StreamMessage, format string, args ...any) (StreamMessage, error) {
	return StreamMessage{}, fmt.Errorf("message %q of a stream ignored: %s", CutText(s.Type, 64), fmt.Sprintf(format, args...))
}

func (s StreamMessage) decodeChunks(encoding, chunks jsonscan.Value) (StreamMessage, error) {
	s.Kind = StreamData
	switch e := scannedText(encoding); {
	case encoding.IsNull(), e == encodingUTF8:
		s.Text = true
	case e != encodingBase64:
		return drop(&s, "encoding %q is neither utf8 nor base64", CutText(e, 64))
	}
	n := 0
	for range chunks.Elements {
		n++
	}
	if n == 0 {
		return drop(&s, "chunks is not an array of texts with elements")
	}
	s.Chunks = make([][]byte, 0, n)
	for v := range chunks.Elements {
		if !v.IsText() {
			return drop(&s, "chunk %d is not a text", len(s.Chunks))
		}
		c, ok := scannedBytes(v), true
		if !s.Text {
			if c, ok = decodeBase64(c); !ok {
				return drop(&s, "chunk %d is not base64", len(s.Chunks))
			}
		} else {
			c = append(make([]byte, 0, len(c)), c...)
		}
		s.Chunks = append(s.Chunks, c)
	}
	return s, nil
}

func (s StreamMessage) decodePiece(multipart, data jsonscan.Value) (StreamMessage, error) {
	var number, total int64
	var ok1, ok2 bool
	for name, v := range multipart.Members {
		switch string(name) {
		case "id":
			s.Part.ID = scannedText(v)
		case "part":
			number, ok1 = scannedNumber(v)
		case "total":
			total, ok2 = scannedNumber(v)
		}
	}
	if s.Part.ID == "" || !ok1 || !ok2 || number < 1 || total < 2 || number > total || total > math.MaxInt32 {
		return drop(&s, "multipart needs an id, a part from 1 to total, and a total of 2 or more")
	}
	if !data.IsText() {
		return drop(&s, "data of a piece is not a text")
	}
	s.Kind, s.Part.Number, s.Part.Total = StreamPiece, int(number), int(total)
	var ok bool
	s.Part.Data, ok = decodeBase64(scannedBytes(data))
	s.Part.Broken = !ok
	return s, nil
}

func decodeBase64(text []byte) (data []byte, ok bool) {
	data = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(data, text)
	return data[:n], err == nil
}

// scannedBytes returns the contents of a string, perhaps in the memory of the message; nil for every other value.
func scannedBytes(v jsonscan.Value) []byte {
	if plain, ok := v.Plain(); ok {
		return plain
	}
	var s string
	if !v.IsText() || json.Unmarshal(v, &s) != nil {
		return nil
	}
	return []byte(s)
}

func scannedText(v jsonscan.Value) string { return string(scannedBytes(v)) }

// scannedNumber reads a whole number that is not negative; 60.0 counts, true and "60" do not.
func scannedNumber(v jsonscan.Value) (n int64, ok bool) {
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, n >= 0 && n <= 1<<53
	}
	var f float64
	if v.IsNull() || json.Unmarshal(v, &f) != nil || f != math.Trunc(f) || f < 0 || f > 1<<53 {
		return 0, false
	}
	return int64(f), true
}
