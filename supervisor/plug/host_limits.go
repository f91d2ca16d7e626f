package plug

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/blocksd/blocksd/network/wire"
)

// What one handler may make the daemon hold. Each is far above what a handler needs that means well.
const (
	maxConnections = 64       // of a process's own to its host socket
	maxStrangers   = 4        // of everybody else, who hears only that they have no business there
	streamWindow   = 64 << 10 // bytes of a call that are taken before anybody reads them
	maxStreams     = 4096     // calls of the host service at once, of one process
	maxTransfers   = 32       // downloads at once of one task, and as many artifacts
	maxCalling     = 64       // calls at once of one task, which the runtime allows as well
	maxGreeting    = 16       // calls of a process whose first message is being received
	maxCards       = 64
	maxCardBytes   = 1 << 20
	maxName        = 256            // bytes of a name or version of a handler
	maxPrivate     = 64 << 10       // bytes of a text for the log
	maxReason      = 4 << 10        // bytes of a sentence for the status
	maxHeaders     = 4 * maxPrivate // bytes of metadata of one call, in which an error is escaped

	// firstMessage is how long a stream may be open without saying for which task.
	firstMessage = 30 * time.Second
	// connectTimeout is how long a connection may be open without speaking HTTP/2.
	connectTimeout = 10 * time.Second

	// spoolBytes is what one handler may have of unfinished artifacts, beyond the largest one; and it may have only its share
	// of what is free.
	spoolBytes = 1 << 30
	spoolShare = 2
)

// foreign makes a text of a handler fit: valid, and of so many bytes at most.
func foreign(s string, limit int) string {
	if len(s) > 2*limit { // what is cut off need not be made valid first
		s = s[:2*limit]
	}
	return wire.CutText(strings.ToValidUTF8(s, "\uFFFD"), limit)
}

// Spool counts what the processes of one handler have of unfinished artifacts. Its zero value is ready, nil counts
// nothing, and it is safe for concurrent use.
type Spool struct {
	used atomic.Int64
	// free says how many bytes are free where artifacts are kept; nil asks the system.
	free func() int64
}

// errNoRoom is why an artifact cannot be kept where the disk is to blame, and not the handler: others use it, too.
var errNoRoom = errors.New("there is too little room")

// take is an error when the handler may not have so many bytes more. largest is the size of one artifact. What is on the disk is
// held to the handler's share of that as well.
func (s *Spool) take(n, largest int64, onDisk bool) error {
	if s == nil {
		return nil
	}
	used := s.used.Add(n)
	if limit := spoolBytes + largest; used > limit {
		s.used.Add(-n)
		return fmt.Errorf("the unfinished artifacts of this handler have more than %d bytes, the most that they may have here: end them before you begin others", limit)
	}
	if !onDisk {
		return nil
	}
	free := s.free
	if free == nil {
		free = freeTemp
	}
	if left := free(); used > (left+used)/spoolShare {
		s.used.Add(-n)
		return noRoom(fmt.Errorf("%d bytes are free, whoever has the others, and a handler may take half of what is free", left))
	}
	return nil
}

// noRoom says that the disk is to blame.
func noRoom(why error) error {
	return fmt.Errorf("an artifact of more than %d bytes cannot be kept because %w in %s: %w; make room there, or give the daemon another TMPDIR", spoolAbove, errNoRoom, os.TempDir(), why)
}

func (s *Spool) give(n int64) {
	if s != nil {
		s.used.Add(-n)
	}
}

func freeTemp() int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(os.TempDir(), &st); err != nil {
		return spoolBytes * spoolShare
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// ownListener takes the connections of a handler's own processes, up to a number, and a few of others.
type ownListener struct {
	net.Listener
	owner     owner
	uid       int
	own       chan struct{}
	strangers chan struct{}
	calls     *atomic.Int64 // on all connections of its own
	turns     *turns        // of all of them
}

func newOwnListener(l net.Listener, o owner, uid int, calls *atomic.Int64, q *turns) *ownListener {
	return &ownListener{Listener: l, owner: o, uid: uid, calls: calls, turns: q, own: make(chan struct{}, maxConnections), strangers: make(chan struct{}, maxStrangers)}
}

// ownConn knows whether it may be used, and makes room for another one when it ends.
type ownConn struct {
	net.Conn
	allowed bool
	calls   *wireCalls // nil for strangers
	once    sync.Once
	room    chan struct{}
}

func (c *ownConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.calls != nil {
		c.calls.received(b[:n])
	}
	return n, err
}

func (c *ownConn) Write(b []byte) (int, error) {
	if c.calls == nil {
		return c.Conn.Write(b)
	}
	return c.calls.write(c.Conn, b)
}

func (c *ownConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		<-c.room
		if c.calls != nil {
			c.calls.close()
		}
	})
	return err
}

// Accept closes connections beyond the limits at once.
func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &ownConn{Conn: conn, allowed: checkPeer(conn, l.owner, l.uid) == nil, room: l.strangers}
		if c.allowed {
			c.room, c.calls = l.own, newWireCalls(l.calls, l.turns)
		}
		select {
		case c.room <- struct{}{}:
			return c, nil
		default:
			conn.Close()
		}
	}
}

// limitStreams refuses calls beyond maxStreams, those counted whose end nobody has read.
func limitStreams(open *atomic.Int64) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
		if p, ok := peer.FromContext(stream.Context()); ok {
			if auth, ok := p.AuthInfo.(hostAuth); ok && auth.conn != nil {
				defer auth.conn.calls.serve(auth.conn)()
			}
		}
		if open.Load() > maxStreams {
			return status.Errorf(codes.ResourceExhausted, "this handler has more than %d calls of the host service open", maxStreams)
		}
		return next(srv, stream)
	}
}

// errOverdue means that a stream did not say in time what it is for.
var errOverdue = errors.New("the call did not say in time which task it is for")

// within runs f, which ends with the call, and returns early when over is closed: then f is left to its end, which follows
// at once because the call has ended.
func (h *host) within(over <-chan struct{}, f func() error) error {
	done := make(chan error, 1)
	h.left.Add(1)
	go func() {
		defer h.left.Done()
		done <- f()
	}()
	select {
	case err := <-done:
		return err
	case <-over:
		return answer(errTaskEnded)
	}
}

// firstOf receives the first message of a call, which says what task it is for, and waits for it only so long.
func firstOf[M any](h *host, receive func() (M, error)) (first M, err error) {
	late, stop := deadline(firstMessage)
	defer stop()
	type result struct {
		message M
		err     error
	}
	// It can be large, and whose it is says only the message itself: so only a few are received at once.
	select {
	case h.greeting <- struct{}{}:
	case <-late:
		return first, status.Error(codes.DeadlineExceeded, errOverdue.Error())
	}
	received := make(chan result, 1)
	_ = h.within(late, func() error {
		defer func() { <-h.greeting }()
		m, err := receive()
		received <- result{m, err}
		return err
	})
	select {
	case r := <-received:
		return r.message, r.err
	default:
		return first, status.Error(codes.DeadlineExceeded, errOverdue.Error())
	}
}

// transfer is a kind of stream of which a task may have only so many.
type transfer int

const (
	downloading transfer = iota
	publishing
	calling
	transfers // how many kinds there are
)

// most is how many transfers of a kind a task may have under way.
func (t transfer) most() int {
	if t == calling {
		return maxCalling
	}
	return maxTransfers
}

// begin counts a transfer of the task, and refuses one too many. end must follow when the error is nil.
func (a *assignment) begin(kind transfer) (end func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ended:
		return nil, errTaskEnded
	case a.transfers[kind] >= kind.most():
		return nil, status.Errorf(codes.ResourceExhausted, "the task has %d transfers of this kind under way, the most that are taken: end one first", kind.most())
	}
	a.transfers[kind]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.transfers[kind]--
	}, nil
}

// deadline is closed after d; stop frees it.
func deadline(d time.Duration) (over <-chan struct{}, stop func()) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	return ctx.Done(), cancel
}
