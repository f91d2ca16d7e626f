package stream

import (
	"strconv"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// flight is one message on its way: whole, or in pieces.
type flight struct {
	at    wire.StreamStamp
	count int // elements
	cost  int // of the buffer
	// body is the message, whether it goes out whole or in pieces.
	body []byte
	// id names the pieces; empty for a message that goes out whole, which has one part.
	id    string
	slice int
	parts []partState
	sent  []time.Time // when each was sent last
	acked int         // parts
	// generation grows each time all pieces are sent again.
	generation int
	started    time.Time
	end        bool // the end marker
}

// partState is what has become of a part.
type partState uint8

const (
	waiting  partState = iota
	underWay           // sent, no answer yet
	failing            // to be sent again
	retrying           // sent again, no answer yet
	done
)

// ref names a part of a flight for what comes of it.
type ref struct {
	seq              int64
	part, generation int
}

func (f *flight) multipart() bool { return f.id != "" }

// message returns a part as it goes out.
func (f *flight) message(head wire.StreamHead, part int) []byte {
	if !f.multipart() {
		return f.body
	}
	from := part * f.slice
	slice := f.body[from:min(from+f.slice, len(f.body))]
	return head.AppendPiece(make([]byte, 0, len(slice)*4/3+wire.MultipartReserve), f.at, f.id, part+1, len(f.parts), slice)
}

// find returns the first part in a state, or -1.
func (f *flight) find(s partState) int {
	for i, p := range f.parts {
		if p == s {
			return i
		}
	}
	return -1
}

// setParts makes the parts.
func (f *flight) setParts(n int) { f.parts, f.sent = make([]partState, n), make([]time.Time, n) }

// again makes all pieces go out again, as another message: readers forget pieces that the rest does not follow soon.
func (f *flight) again(now time.Time, suffix string) {
	f.generation++
	f.id = pieceID(now, f.at.Seq, suffix)
	f.acked, f.started = 0, now
	for i := range f.parts {
		f.parts[i] = waiting
	}
}

func pieceID(now time.Time, seq int64, suffix string) string {
	return "mp-" + strconv.FormatInt(now.UnixMilli(), 10) + "-" + strconv.FormatInt(seq, 10) + "-" + suffix
}
