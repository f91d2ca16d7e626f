package plug

import (
	"slices"
	"sync"
)

// gRPC opens the window of a call for a whole message as soon as it has seen how long that is, and keeps what arrives until the
// message is complete. So the frames that open it are looked at: only so many large messages of a process arrive at once, and
// others wait for their turn in the handler, as HTTP/2 means it.

// maxLarge is how many bytes of large messages may be arriving at once from one process in each direction of calls. A message is
// large if the window of its call has to be opened by more than streamWindow for it.
const maxLarge = 4 * MaxMessage

// turns gives large messages of one process their turn, in the order in which they come. It is safe for concurrent use.
type turns struct {
	opening sync.WaitGroup // calls of open

	mu      sync.Mutex
	free    int64   // guarded by mu, like the fields below
	waiting []*turn // the first one is next
	closed  bool
}

// turn is that of one message.
type turn struct {
	size int64
	open func() // lets the message come
	has  bool   // guarded by turns.mu
}

func newTurns(bytes int64) *turns { return &turns{free: bytes} }

// take reports whether it is t's turn at once. Else open is called when it is, unless it ends before.
func (q *turns) take(t *turn) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 && t.size <= q.free {
		q.free -= t.size
		t.has = true
		return true
	}
	q.waiting = append(q.waiting, t)
	return false
}

// end says that the message of t is complete, or will never be.
func (q *turns) end(t *turn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.has {
		t.has = false
		q.free += t.size
	} else {
		q.waiting = slices.DeleteFunc(q.waiting, func(w *turn) bool { return w == t })
	}
	for len(q.waiting) > 0 && q.waiting[0].size <= q.free && !q.closed {
		next := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.free -= next.size
		next.has = true
		q.opening.Go(next.open)
	}
}

// close ends all turns when their connections are closed.
func (q *turns) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.opening.Wait()
}

// arriving is the message that is arriving in a call.
type arriving struct {
	head [messageHeader]byte
	have int   // bytes of head
	left int64 // bytes that are still to come, behind head
	turn *turn // nil unless it is large
}

// messageHeader is what gRPC sends before a message: whether it is compressed, and its length.
const messageHeader = 5

// feed takes what arrives in the call, and calls complete at the end of each message.
func (m *arriving) feed(b []byte, complete func()) {
	for len(b) > 0 {
		if m.left > 0 {
			n := min(m.left, int64(len(b)))
			m.left, b = m.left-n, b[n:]
			if m.left == 0 {
				complete()
			}
			continue
		}
		n := copy(m.head[m.have:], b)
		m.have, b = m.have+n, b[n:]
		if m.have == messageHeader {
			m.have, m.left = 0, int64(uint32(m.head[1])<<24|uint32(m.head[2])<<16|uint32(m.head[3])<<8|uint32(m.head[4]))
		}
	}
}
