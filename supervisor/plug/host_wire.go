package plug

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A call whose handler function has returned is not over for gRPC until its last frame is written, and that waits behind its data
// for a reader, as long as the connection lasts: with what it holds. gRPC does not say how many such calls there are, so the frames
// of the host socket are looked at.

const (
	// maxUnread is how many calls of one connection may have ended here without anybody reading their end.
	maxUnread = 16
	// unreadTime is how long there may be more.
	unreadTime = 5 * time.Second
)

// http2Preface is what a client sends first, in bytes.
const http2Preface = 24

// The frames of HTTP/2 that begin and end calls.
const (
	frameHeader = 9
	frameData   = 0
	frameCall   = 1 // HEADERS
	frameReset  = 3 // RST_STREAM
	frameWindow = 8 // WINDOW_UPDATE
	flagEnd     = 1 // END_STREAM
	flagPadded  = 8 // PADDED
)

// windowFrame is a whole WINDOW_UPDATE, in bytes.
const windowFrame = frameHeader + 4

// frames finds the frames in what goes over a connection in one direction.
type frames struct {
	skip int // bytes until the next frame begins
	head [frameHeader]byte
	have int // bytes of head
	at   int // where in the bytes of feed the payload of the last frame begins
}

// feed takes what goes over the connection, calls each for the frames that begin in it, and payload for what is in them.
func (f *frames) feed(b []byte, each func(kind, flags byte, call uint32), payload func([]byte)) {
	for all := len(b); len(b) > 0; {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			if payload != nil {
				payload(b[:n])
			}
			f.skip, b = f.skip-n, b[n:]
			continue
		}
		n := copy(f.head[f.have:], b)
		f.have, b = f.have+n, b[n:]
		if f.have == frameHeader {
			f.at = all - len(b)
			f.have, f.skip = 0, int(f.head[0])<<16|int(f.head[1])<<8|int(f.head[2])
			each(f.head[3], f.head[4], binary.BigEndian.Uint32(f.head[5:])&0x7fffffff)
		}
	}
}

// wireCalls are those of one connection that are not over. Their number is also part of all, of the process.
type wireCalls struct {
	all   *atomic.Int64
	turns *turns
	// calling: the daemon calls the handler here, and not the handler the daemon.
	calling bool

	mu       sync.Mutex // guards what follows
	in, out  frames
	data     incoming
	open     map[uint32]*arriving
	last     uint32
	serving  int // calls whose handler function runs
	closed   bool
	checking *time.Timer

	writing sync.Mutex // guards what follows; taken before mu
	ahead   frames     // what is about to be written
	rest    []byte     // of a frame that is to be seen as a whole before it is written
	due     []byte     // frames whose turn has come
}

// incoming is the frame of data that is being received.
type incoming struct {
	message *arriving // nil when there is no such call
	padded  bool      // the length of the padding is still to come
	left    int       // without the padding
}

func newWireCalls(all *atomic.Int64, q *turns) *wireCalls {
	return &wireCalls{all: all, turns: q, in: frames{skip: http2Preface}, open: map[uint32]*arriving{}}
}

// newWireCalling is for a connection to a handler.
func newWireCalling(q *turns) *wireCalls {
	begun := frames{skip: http2Preface}
	return &wireCalls{all: &atomic.Int64{}, turns: q, calling: true, out: begun, ahead: begun, open: map[uint32]*arriving{}}
}

func (w *wireCalls) received(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in.feed(b, func(kind, flags byte, call uint32) {
		w.data = incoming{}
		switch {
		case kind == frameCall && !w.calling:
			w.beginLocked(call)
		case kind == frameData:
			w.data = incoming{message: w.open[call], padded: flags&flagPadded != 0, left: w.in.skip}
		}
		if w.calling {
			w.endLocked(kind, flags, call)
		} else if kind == frameReset {
			w.overLocked(call)
		}
	}, w.receivedLocked)
}

// receivedLocked takes what is in the frame that is being received.
func (w *wireCalls) receivedLocked(b []byte) {
	d := &w.data
	if d.message == nil {
		return
	}
	if d.padded {
		d.padded = false
		d.left -= 1 + int(b[0])
		b = b[1:]
	}
	n := max(0, min(d.left, len(b)))
	d.left -= n
	d.message.feed(b[:n], func() { w.completeLocked(d.message) })
}

// completeLocked ends the turn of a message.
func (w *wireCalls) completeLocked(m *arriving) {
	if m.turn != nil {
		w.turns.end(m.turn)
		m.turn = nil
	}
}

func (w *wireCalls) sent(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.feed(b, func(kind, flags byte, call uint32) {
		if !w.calling {
			w.endLocked(kind, flags, call)
		} else if kind == frameReset {
			w.overLocked(call)
		}
	}, nil)
}

func (w *wireCalls) beginLocked(call uint32) {
	if call > w.last && !w.closed {
		w.last, w.open[call] = call, &arriving{}
		w.all.Add(1)
	}
}

// endLocked looks at a frame of whoever is called.
func (w *wireCalls) endLocked(kind, flags byte, call uint32) {
	if kind == frameReset || (kind == frameCall || kind == frameData) && flags&flagEnd != 0 {
		w.overLocked(call)
	}
}

func (w *wireCalls) overLocked(call uint32) {
	if m := w.open[call]; m != nil {
		w.completeLocked(m)
		delete(w.open, call)
		w.all.Add(-1)
	}
}

// write writes b, without the frames that must wait for their turn.
func (w *wireCalls) write(conn net.Conn, b []byte) (int, error) {
	w.writing.Lock()
	defer w.writing.Unlock()
	if now := w.hold(conn, b); len(now) > 0 {
		if _, err := conn.Write(now); err != nil {
			return 0, err
		}
	}
	w.sent(b)
	return len(b), w.writeDue(conn)
}

// writeDue writes what is due as soon as that is not within another frame.
func (w *wireCalls) writeDue(conn net.Conn) error {
	if len(w.due) == 0 || w.ahead.skip > 0 {
		return nil
	}
	_, err := conn.Write(w.due)
	w.due = nil
	return err
}

// hold returns what of b is to be written now.
func (w *wireCalls) hold(conn net.Conn, b []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		b = append(w.rest, b...)
		w.rest = nil
	}
	var out []byte // what is before from, if anything is left out
	from, cut := 0, len(b)
	w.ahead.feed(b, func(kind, _ byte, call uint32) {
		at := w.ahead.at
		switch {
		case kind == frameCall && w.calling:
			w.beginLocked(call) // before an answer can come
		case kind == frameWindow && at+windowFrame-frameHeader > len(b):
			cut = at - frameHeader
		case kind == frameWindow && !w.mayLocked(conn, call, b[at-frameHeader:at+windowFrame-frameHeader]):
			out = append(out, b[from:at-frameHeader]...)
			from = at + windowFrame - frameHeader
		}
	}, nil)
	switch {
	case cut < len(b):
		w.ahead.skip = 0
	case w.ahead.have > 0:
		cut, w.ahead.have = len(b)-w.ahead.have, 0
	}
	w.rest = append(w.rest, b[cut:]...)
	if from == 0 {
		return b[:cut]
	}
	return append(out, b[from:cut]...)
}

// mayLocked reports whether a WINDOW_UPDATE may be written at once. If not, that follows when it is its turn.
func (w *wireCalls) mayLocked(conn net.Conn, call uint32, frame []byte) bool {
	size := int64(binary.BigEndian.Uint32(frame[frameHeader:]) & 0x7fffffff)
	m := w.open[call]
	if size <= streamWindow || m == nil || m.left == 0 {
		return true
	}
	w.completeLocked(m)
	frame = slices.Clone(frame)
	m.turn = &turn{size: size, open: func() {
		w.writing.Lock()
		defer w.writing.Unlock()
		w.due = append(w.due, frame...)
		_ = w.writeDue(conn) // an error is that of the connection, which its reader hears of
	}}
	return w.turns.take(m.turn)
}

// serve counts a call whose handler function begins. done must follow when it has returned: if more calls than may are left unread by
// then, and the same ones a while later, conn is closed.
func (w *wireCalls) serve(conn net.Conn) (done func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serving++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.serving--
		w.watchLocked(conn)
	}
}

func (w *wireCalls) watchLocked(conn net.Conn) {
	if w.closed || w.checking != nil || len(w.open)-w.serving <= maxUnread {
		return
	}
	before := make([]uint32, 0, len(w.open))
	for call := range w.open {
		before = append(before, call)
	}
	w.checking = time.AfterFunc(unreadTime, func() { // stopped by close
		if w.stuck(before) {
			conn.Close()
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.checking = nil
		w.watchLocked(conn)
	})
}

// stuck reports whether too many of some calls are neither over nor served. Those that are served may all be among them.
func (w *wireCalls) stuck(calls []uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := -w.serving
	for _, call := range calls {
		if w.open[call] != nil {
			n++
		}
	}
	return n > maxUnread
}

// close says that the connection is closed.
func (w *wireCalls) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	for call := range w.open {
		w.overLocked(call)
	}
	if w.checking != nil {
		w.checking.Stop()
	}
}
