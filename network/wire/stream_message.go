package wire

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// The messages on a stream's channel.
const (
	typeStreamData   = "stream_data"
	typeStreamEvents = "stream_events"
	typeStreamEnd    = "stream_end"
)

// Encodings of the elements of a message.
const (
	encodingUTF8   = "utf8"
	encodingBase64 = "base64"
)

// StreamHead is what all messages of one writer have in common.
type StreamHead struct {
	StreamID string
	Format   StreamFormat
	// FirstSeq is the number of the writer's first message.
	FirstSeq int64
}

// StreamStamp is what numbers one message.
type StreamStamp struct {
	Seq int64
	// TS is the sender's clock in Unix milliseconds.
	TS int64
	// Unacked is the number of the first message that the network has not acknowledged; Seq when all before have been.
	Unacked int64
}

// start appends the members that every message begins with.
func (h StreamHead) start(dst []byte, typ string, at StreamStamp) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, typ...)
	dst = append(dst, `","protocolVersion":"`+ProtocolVersion+`","streamId":"`...)
	dst = append(dst, h.StreamID...) // letters, digits, _ and -
	dst = append(dst, `","seq":`...)
	dst = strconv.AppendInt(dst, at.Seq, 10)
	dst = append(dst, `,"ts":`...)
	dst = strconv.AppendInt(dst, at.TS, 10)
	// Readers of other people ignore the following two members. They tell ours where this writer begins, where the format
	// does not, and from which number on a message that is missing may still be on its way.
	if h.FirstSeq != h.Format.FirstSeq() {
		dst = append(dst, `,"firstSeq":`...)
		dst = strconv.AppendInt(dst, h.FirstSeq, 10)
	}
	if at.Unacked < at.Seq {
		dst = append(dst, `,"unacked":`...)
		dst = strconv.AppendInt(dst, at.Unacked, 10)
	}
	return dst
}

func (h StreamHead) dataType() string {
	if h.Format == FormatEvents {
		return typeStreamEvents
	}
	return typeStreamData
}

// AppendStart appends the beginning of a data message; its elements follow, separated by commas, then AppendStop.
// base64 is for bytes whose elements are encoded so.
func (h StreamHead) AppendStart(dst []byte, at StreamStamp, base64 bool) []byte {
	dst = h.start(dst, h.dataType(), at)
	dst = append(dst, `,"encoding":"`...)
	if base64 {
		dst = append(dst, encodingBase64...)
	} else {
		dst = append(dst, encodingUTF8...)
	}
	if h.Format == FormatEvents {
		return append(dst, `","events":[`...)
	}
	return append(dst, `","chunks":[`...)
}

// AppendStop appends the end of a data message.
func (StreamHead) AppendStop(dst []byte) []byte { return append(dst, "]}"...) }

// AppendEnd appends a whole end marker. A failure that is not empty says that the stream did not end well: readers of
// other people ignore it.
func (h StreamHead) AppendEnd(dst []byte, at StreamStamp, failure string) []byte {
	dst = h.start(dst, typeStreamEnd, at)
	if failure != "" {
		dst = append(append(dst, `,"failure":`...), quoteText(failure)...)
	}
	return append(dst, '}')
}

// AppendPiece appends one piece of a message that is too large for one, as a message of its own. part counts from 1.
func (h StreamHead) AppendPiece(dst []byte, at StreamStamp, id string, part, total int, slice []byte) []byte {
	dst = h.start(dst, h.dataType(), at)
	dst = append(dst, `,"multipart":{"id":"`...)
	dst = append(dst, id...)
	dst = append(dst, `","part":`...)
	dst = strconv.AppendInt(dst, int64(part), 10)
	dst = append(dst, `,"total":`...)
	dst = strconv.AppendInt(dst, int64(total), 10)
	dst = append(dst, `},"data":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, slice)
	return append(dst, `"}`...)
}

// SliceBytes is how much of a message goes into one piece of at most limit bytes.
func SliceBytes(limit int) int { return (limit - MultipartReserve) * 3 / 4 }

// AppendBase64 appends data as an element of bytes in base64.
func AppendBase64(dst, data []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, data)
	return append(dst, '"')
}

// Base64Bytes is the length of what AppendBase64 appends.
func Base64Bytes(n int) int { return base64.StdEncoding.EncodedLen(n) + 2 }

// AppendText appends text, which must be valid UTF-8, as a JSON string with no more escapes than JSON requires.
func AppendText(dst, text []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0
	for i, c := range text {
		if textCost[c] == 1 {
			continue
		}
		dst = append(dst, text[done:i]...)
		done = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(append(dst, text[done:]...), '"')
}

// textCost is how many bytes of a JSON string each byte of UTF-8 needs.
var textCost = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c == '"', c == '\\', c == '\n', c == '\r', c == '\t', c == '\b', c == '\f':
			t[c] = 2
		case c < 0x20:
			t[c] = 6
		default:
			t[c] = 1
		}
	}
	return t
}()

// TextBytes is the length of what AppendText appends; ok is false for bytes that are not valid UTF-8.
func TextBytes(text []byte) (n int, ok bool) {
	n = 2
	for _, c := range text {
		n += int(textCost[c])
	}
	return n, utf8.Valid(text)
}

// AppendBinaryEvent appends bytes as an element of events. Readers hand it on as it is.
func AppendBinaryEvent(dst, data []byte) []byte {
	dst = append(dst, `{"$binary":`...)
	return append(AppendBase64(dst, data), '}')
}

// BinaryEventBytes is the length of what AppendBinaryEvent appends.
func BinaryEventBytes(n int) int { return len(`{"$binary":}`) + Base64Bytes(n) }

// BinaryEvent reads an event that AppendBinaryEvent has made; ok is false for every other event.
func BinaryEvent(event json.RawMessage) (data []byte, ok bool) {
	var m map[string]json.RawMessage
	if json.Unmarshal(event, &m) != nil || len(m) != 1 {
		return nil, false
	}
	raw, ok := m["$binary"]
	if !ok || len(raw) == 0 || raw[0] != '"' {
		return nil, false
	}
	data, err := base64.StdEncoding.DecodeString(stringMember(m, "$binary"))
	return data, err == nil
}
