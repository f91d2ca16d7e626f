package plug

import (
	"encoding/binary"
	"net"
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
	flagEnd     = 1 // END_STREAM
)

// frames finds the frames in what goes over a connection in one direction.
type frames struct {
	skip int // bytes until the next frame begins
	head [frameHeader]byte
	have int // bytes of head
}

// feed takes what goes over the connection, and calls each for the frames that begin in it.
func (f *frames) feed(b []byte, each func(kind, flags byte, call uint32)) {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, len(b))
			f.skip, b = f.skip-n, b[n:]
			continue
		}
		n := copy(f.head[f.have:], b)
		f.have, b = f.have+n, b[n:]
		if f.have == frameHeader {
			f.have, f.skip = 0, int(f.head[0])<<16|int(f.head[1])<<8|int(f.head[2])
			each(f.head[3], f.head[4], binary.BigEndian.Uint32(f.head[5:])&0x7fffffff)
		}
	}
}

// wireCalls are those of one connection that are not over. Their number is also part of all, of the process.
type wireCalls struct {
	all *atomic.Int64

	mu       sync.Mutex // guards what follows
	in, out  frames
	open     map[uint32]bool
	last     uint32
	serving  int // calls whose handler function runs
	closed   bool
	checking *time.Timer
}

func newWireCalls(all *atomic.Int64) *wireCalls {
	return &wireCalls{all: all, in: frames{skip: http2Preface}, open: map[uint32]bool{}}
}

func (w *wireCalls) received(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in.feed(b, func(kind, _ byte, call uint32) {
		switch {
		case kind == frameCall && call > w.last && !w.closed:
			w.last, w.open[call] = call, true
			w.all.Add(1)
		case kind == frameReset:
			w.overLocked(call)
		}
	})
}

func (w *wireCalls) sent(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out.feed(b, func(kind, flags byte, call uint32) {
		if kind == frameReset || (kind == frameCall || kind == frameData) && flags&flagEnd != 0 {
			w.overLocked(call)
		}
	})
}

func (w *wireCalls) overLocked(call uint32) {
	if w.open[call] {
		delete(w.open, call)
		w.all.Add(-1)
	}
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
		if w.open[call] {
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
	w.all.Add(-int64(len(w.open)))
	clear(w.open)
	if w.checking != nil {
		w.checking.Stop()
	}
}
