package control

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What callers may have open. Each user has a share, and nobody can use up those of root and of the daemon's own user, which
// the daemon asks itself by, too.
const (
	operatorConnections = 256 // of root and the daemon's user together
	userConnections     = 32  // of each other user, and of all handlers together
	otherConnections    = 256 // of all other users together
	operatorCalls       = 1024
	userCalls           = 64
	// connectionStreams bounds what one connection may have under way, and so what waits for a caller that does not read.
	connectionStreams = 32
	// greeting is how long a connection may be open without speaking HTTP/2.
	greeting = 5 * time.Second
)

// share is whom a caller shares its limits with.
type share struct {
	operator, handler bool
	uid               uint32 // of other users
}

func shareOf(p Peer, o operators) share {
	switch {
	case p.Handler:
		return share{handler: true}
	case o.include(p):
		return share{operator: true}
	}
	return share{uid: p.UID}
}

// counts is how much each share has of something.
type counts struct {
	operators, each, others int // the limits; others is 0 for none

	mu  sync.Mutex
	all map[share]int // guarded by mu
	sum int           // guarded by mu; of those that are not of operators
}

// take is false when there is no more for a caller.
func (c *counts) take(s share) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	limit := c.each
	if s.operator {
		limit = c.operators
	} else if c.others > 0 && c.sum >= c.others {
		return false
	}
	if c.all[s] >= limit {
		return false
	}
	if c.all == nil {
		c.all = map[share]int{}
	}
	c.all[s]++
	if !s.operator {
		c.sum++
	}
	return true
}

func (c *counts) give(s share) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.operator {
		c.sum--
	}
	if c.all[s]--; c.all[s] == 0 {
		delete(c.all, s)
	}
}

// fairListener closes connections beyond the limits at once.
type fairListener struct {
	net.Listener
	owned     func(pid int) bool
	operators operators
	open      *counts
}

// knownConn is a connection whose caller was looked at.
type knownConn struct {
	net.Conn
	peer Peer
	once sync.Once
	free func()
}

func (c *knownConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.free)
	return err
}

func (l *fairListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p, err := peerOfConn(conn, l.owned)
		if err != nil { // the kernel does not say who calls
			conn.Close()
			continue
		}
		s := shareOf(p, l.operators)
		if !l.open.take(s) {
			conn.Close()
			continue
		}
		return &knownConn{Conn: conn, peer: p, free: func() { l.open.give(s) }}, nil
	}
}

// enter counts a call; leave must follow if the error is nil.
func (s *Server) enter(ctx context.Context) (leave func(), err error) {
	p, _ := peerOf(ctx)
	of := shareOf(p, operators{uid: s.cfg.UID})
	if !s.calls.take(of) {
		return nil, status.Errorf(codes.ResourceExhausted, "user %d has as many calls of the control socket open as one may have: end one first", p.UID)
	}
	return func() { s.calls.give(of) }, nil
}

// refusalPause is how often at most the log says that a call was refused.
const refusalPause = time.Second

// refusals remembers those that the log does not have.
type refusals struct {
	mu     sync.Mutex
	last   time.Time // guarded by mu
	unsaid int       // guarded by mu
}

// say reports whether a refusal is to be logged, and how many before it were not.
func (r *refusals) say(now time.Time) (log bool, unsaid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.last) < refusalPause {
		r.unsaid++
		return false, 0
	}
	r.last = now
	unsaid, r.unsaid = r.unsaid, 0
	return true, unsaid
}
