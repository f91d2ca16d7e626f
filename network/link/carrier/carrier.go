// Package carrier sends small requests by HTTP/1.1 and reads their answers in the goroutine of the caller. A publish through
// net/http passes through two more goroutines, a request, maps of headers and several contexts, which cost more than all
// else that is done for it.
//
// It does only what is usual: a request in one piece, an answer of a known length. Whatever else an answer is, package
// net/http reads it. What it does not do at all is left to its callers: proxies, redirects, compression, HTTP/2, large bodies.
package carrier

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config of a Carrier. Origin and Dial are required.
type Config struct {
	// Origin is a host with or without a port.
	Origin string
	// Secure means TLS.
	Secure bool
	// Dial makes a connection.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DialTimeout bounds Dial together with the handshake of TLS.
	DialTimeout time.Duration
	// Idle is how many connections are kept that nobody uses, IdleTimeout for how long.
	Idle        int
	IdleTimeout time.Duration
	// MaxAnswer bounds an answer, in bytes.
	MaxAnswer int64
	// TLS is nil for the default; for tests.
	TLS *tls.Config
}

// maxDials is how many connections are made at once. Who has to wait for one may get one that became free meanwhile, so that
// a burst of requests does not open a connection each.
const maxDials = 16

// ErrClosed is the error of every request to a Carrier that is closed.
var ErrClosed = errors.New("the connections are closed")

// Carrier keeps connections to one origin. Its methods may be called from any goroutine.
type Carrier struct {
	cfg     Config
	address string
	tls     *tls.Config
	dials   chan struct{} // holds one for each dial under way

	mu      sync.Mutex // guards what follows
	closed  bool
	idle    []*conn      // the one that was used last is last
	busy    []*conn      // in no order; conn.at is its place
	waiting []chan *conn // capacity 1 each, the longest wait first
	sweeper *time.Timer  // closes idle connections; nil while there are none
}

// New makes a Carrier. Nothing is sent before the first request.
func New(cfg Config) (*Carrier, error) {
	if cfg.Origin == "" || strings.ContainsFunc(cfg.Origin, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\?#@%"`, r) }) {
		return nil, fmt.Errorf("connect to origin %q: it is not a host with or without a port", cfg.Origin)
	}
	c := &Carrier{cfg: cfg, address: cfg.Origin, dials: make(chan struct{}, maxDials)}
	host, _, err := net.SplitHostPort(cfg.Origin)
	if err != nil {
		port := "80"
		if cfg.Secure {
			port = "443"
		}
		host = strings.Trim(cfg.Origin, "[]")
		c.address = net.JoinHostPort(host, port)
	}
	if cfg.Secure {
		c.tls = &tls.Config{}
		if cfg.TLS != nil {
			c.tls = cfg.TLS.Clone()
		}
		c.tls.ServerName, c.tls.NextProtos = host, []string{"http/1.1"}
	}
	return c, nil
}

// Request is one request. Target and Body must not be changed before Do has returned.
type Request struct {
	Method string
	// Target is the path with the query. All of it is escaped as it must be.
	Target []byte
	// Body is JSON, nil for none.
	Body []byte
	// Stall, if not 0, is how long the answer may stand still once it has begun. MaxAnswer, if not 0, bounds it instead of
	// the limit of the carrier. Both are for long polls.
	Stall     time.Duration
	MaxAnswer int64
	// Wrote, if not nil, is called when the request is about to be written.
	Wrote func()
}

// Answer is what came back.
type Answer struct {
	Status int
	// Header is nil for an answer with status 200.
	Header http.Header
	Body   []byte
}

// Do sends a request and returns its answer; timeout bounds all of it. wrote is false if nothing of the request can have
// reached the network.
func (c *Carrier) Do(ctx context.Context, timeout time.Duration, r Request) (a Answer, wrote bool, err error) {
	deadline := time.Now().Add(timeout)
	conn, err := c.take(ctx, deadline)
	if err != nil {
		return Answer{}, false, err
	}
	canceled := context.AfterFunc(ctx, conn.interrupt)
	a, err = conn.exchange(r)
	if !canceled() {
		conn.usable = false // the interruption may still come, and would hit whoever has it next
	}
	c.put(conn)
	if err != nil {
		err = reason(ctx, deadline, timeout, err)
	}
	return a, true, err
}

// reason is the error of a request that failed: that of ctx where it was the cause.
func reason(ctx context.Context, deadline time.Time, timeout time.Duration, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errStalled):
	case !time.Now().Before(deadline):
		return fmt.Errorf("no answer within %s: %w", timeout, context.DeadlineExceeded)
	}
	return err
}

// take returns a connection for one request, with the deadline set: one that is kept, else one that becomes free or is made,
// whichever comes first.
func (c *Carrier) take(ctx context.Context, deadline time.Time) (*conn, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		kept, free, err := c.kept()
		if err != nil {
			return nil, err
		}
		if kept == nil {
			if kept, err = c.await(ctx, deadline, free); err != nil {
				return nil, err
			}
		}
		if kept.begin(deadline) {
			return kept, nil
		}
		c.put(kept) // the peer has closed it
	}
}

// kept returns a connection that is kept, or a place in the queue for one.
func (c *Carrier) kept() (*conn, chan *conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, ErrClosed
	}
	if n := len(c.idle); n > 0 {
		kept := c.idle[n-1]
		c.idle[n-1] = nil
		c.idle = c.idle[:n-1]
		c.enlistLocked(kept)
		return kept, nil, nil
	}
	free := make(chan *conn, 1)
	c.waiting = append(c.waiting, free)
	return nil, free, nil
}

// await waits for a connection that becomes free, or makes one.
func (c *Carrier) await(ctx context.Context, deadline time.Time, free chan *conn) (*conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	select {
	case kept := <-free:
		return orClosed(kept)
	case c.dials <- struct{}{}:
		defer func() { <-c.dials }()
	case <-ctx.Done():
		if kept := c.forgo(free); kept != nil {
			c.put(kept)
		}
		return nil, fmt.Errorf("connect to %s: %w", c.address, context.Cause(ctx))
	}
	if kept := c.forgo(free); kept != nil {
		return kept, nil
	}
	return c.dial(ctx)
}

// orClosed is what was given to somebody who waited: nothing when the carrier was closed.
func orClosed(kept *conn) (*conn, error) {
	if kept == nil {
		return nil, ErrClosed
	}
	return kept, nil
}

// forgo gives a place in the queue up. If a connection has been put there meanwhile, it is returned.
func (c *Carrier) forgo(free chan *conn) *conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, free); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return nil
	}
	return <-free // it is out of the queue, so it was given something
}

func (c *Carrier) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.DialTimeout)
	defer cancel()
	raw, err := c.cfg.Dial(ctx, "tcp", c.address)
	if err != nil {
		return nil, err
	}
	fresh := newConn(raw, raw, c.cfg)
	if c.tls != nil {
		secured := tls.Client(raw, c.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		fresh = newConn(raw, secured, c.cfg)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = raw.Close()
		return nil, ErrClosed
	}
	c.enlistLocked(fresh)
	return fresh, nil
}

func (c *Carrier) enlistLocked(used *conn) {
	used.at = len(c.busy)
	c.busy = append(c.busy, used)
}

// put takes a connection back.
func (c *Carrier) put(used *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.busy) - 1
	if used.usable && !c.closed && len(c.waiting) > 0 { // stays busy
		free := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		free <- used
		return
	}
	c.busy[used.at] = c.busy[last]
	c.busy[used.at].at = used.at
	c.busy[last] = nil
	c.busy = c.busy[:last]
	if !used.usable || c.closed || len(c.idle) >= c.cfg.Idle {
		used.close()
		return
	}
	used.since = time.Now()
	c.idle = append(c.idle, used)
	if c.sweeper == nil {
		c.sweeper = time.AfterFunc(c.cfg.IdleTimeout, c.sweep)
	}
}

// sweep closes what was idle for long.
func (c *Carrier) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := time.Now().Add(-c.cfg.IdleTimeout)
	n := 0
	for n < len(c.idle) && !c.idle[n].since.After(old) {
		c.idle[n].close()
		n++
	}
	c.idle = slices.Delete(c.idle, 0, n)
	if len(c.idle) == 0 || c.closed {
		c.sweeper = nil
		return
	}
	c.sweeper.Reset(time.Until(c.idle[0].since.Add(c.cfg.IdleTimeout)) + time.Millisecond)
}

// Ready reports whether there is a connection that nobody uses.
func (c *Carrier) Ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle) > 0
}

// Close ends all connections, also those in use: their requests fail. Later ones fail with ErrClosed.
func (c *Carrier) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, used := range c.busy {
		used.cut()
	}
	for _, kept := range c.idle {
		kept.close()
	}
	for _, free := range c.waiting {
		free <- nil
	}
	c.idle, c.waiting = nil, nil
	if c.sweeper != nil {
		c.sweeper.Stop()
	}
}
