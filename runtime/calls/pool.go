// Package calls gives tasks to other agents on behalf of handlers, as a consumer with the API key of the calling agent. The
// key stays here: a handler sees neither it nor a token.
package calls

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/deployment"
)

const (
	// DefaultMaxOpen is how many calls of one task may be under way at once, DefaultMaxSent how many it may send in all.
	DefaultMaxOpen = 64
	DefaultMaxSent = 10_000
	// DefaultMaxDepth is how deeply calls may be nested: a task that nobody here has sent has depth 0.
	DefaultMaxDepth = 8
	// DefaultMaxStreams is how many streams of called tasks a task may have open, DefaultMaxAllStreams all tasks together.
	DefaultMaxStreams    = 64
	DefaultMaxAllStreams = 1024
	// idle is how long the credentials of a key are kept without a call: renewing them costs a request a minute.
	idle = time.Minute
	// connectTimeout bounds getting them, cancelTimeout the request to cancel a task that is not wanted any more.
	connectTimeout = 30 * time.Second
	cancelTimeout  = 10 * time.Second
	// sendTimeout bounds the wait for sends under way, one of which may turn out to be of the task that calls.
	sendTimeout = 10 * time.Second
	// maxKnown is of how many tasks the depth is remembered.
	maxKnown = 100_000
	// defaultLate is longer than a busy machine stands still, and shorter than the network keeps what was streamed.
	defaultLate = 10 * time.Second
)

// Config of a Pool.
type Config struct {
	// Deployment says where the network is; false as long as that is not known.
	Deployment func() (deployment.Deployment, bool)
	// The limits are the defaults when zero.
	MaxOpen, MaxSent, MaxDepth, MaxStreams, MaxAllStreams int
	// Late is how long after the end of a called task its streams may still be opened: a handler that stood still hears of
	// them and of the end at once. The default if zero, not at all if negative.
	Late time.Duration
	Log  *slog.Logger // nil to discard
}

// Pool makes the calls of all agents. Agents with the same API key share its credentials and connections, which are there
// only while they are used.
type Pool struct {
	cfg     Config
	closing chan struct{} // closed by Close
	streams atomic.Int64  // of called tasks that are open, of all tasks

	mu      sync.Mutex // guards what follows
	closed  bool
	clients map[account]*shared
	depths  depths
	sending map[*sending]struct{}
	work    sync.WaitGroup // Add only under mu while not closed
}

// account is whose credentials a call uses, and where.
type account struct {
	apiKey  string
	network deployment.Deployment
}

// shared is a client with those who use it.
type shared struct {
	users int         // guarded by Pool.mu
	timer *time.Timer // guarded by Pool.mu; runs while there are no users

	connect sync.Mutex // held while client is made
	client  *client.Client
}

// New makes a Pool. Nothing is connected before the first call.
func New(cfg Config) (*Pool, error) {
	if cfg.Deployment == nil {
		return nil, errors.New("make calls to other agents: Config.Deployment is missing")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, limit := range []struct {
		of  *int
		def int
	}{{&cfg.MaxOpen, DefaultMaxOpen}, {&cfg.MaxSent, DefaultMaxSent}, {&cfg.MaxDepth, DefaultMaxDepth}, {&cfg.MaxStreams, DefaultMaxStreams}, {&cfg.MaxAllStreams, DefaultMaxAllStreams}} {
		if *limit.of <= 0 {
			*limit.of = limit.def
		}
	}
	if cfg.Late == 0 {
		cfg.Late = defaultLate
	}
	return &Pool{cfg: cfg, closing: make(chan struct{}), clients: map[account]*shared{}, depths: newDepths(maxKnown), sending: map[*sending]struct{}{}}, nil
}

// Close ends what calls are under way and waits for it. No call may begin after it.
func (p *Pool) Close() {
	p.mu.Lock()
	if !p.closed {
		close(p.closing)
	}
	p.closed = true
	clients := p.clients
	p.clients = nil
	p.mu.Unlock()
	p.work.Wait() // what is canceled needs the clients
	for _, s := range clients {
		if s.timer != nil {
			s.timer.Stop()
		}
		s.connect.Lock()
		if s.client != nil {
			s.client.Close()
		}
		s.connect.Unlock()
	}
}

// background runs f, which Close waits for; after Close it does nothing, and says so.
func (p *Pool) background(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.work.Go(f)
	}
	return !p.closed
}

var errClosed = &dispatch.CallError{Fault: dispatch.CallUnavailable, Text: "the daemon is stopping"}

// acquire returns the client of a key. release must follow when the error is nil.
func (p *Pool) acquire(ctx context.Context, apiKey string) (c *client.Client, release func(), err error) {
	network, known := p.cfg.Deployment()
	if !known {
		return nil, nil, &dispatch.CallError{Fault: dispatch.CallUnavailable, Text: "the network has not been reached yet"}
	}
	of := account{apiKey, network}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, nil, errClosed
	}
	s := p.clients[of]
	if s == nil {
		s = &shared{}
		p.clients[of] = s
	}
	s.users++
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	p.mu.Unlock()
	release = func() { p.release(of, s) }
	if c, err = s.get(ctx, of, p.cfg.Log); err != nil {
		release()
		return nil, nil, fault("connect to the network", err)
	}
	return c, release, nil
}

// get makes the client when it is not there. Everybody else who needs it waits.
func (s *shared) get(ctx context.Context, of account, log *slog.Logger) (*client.Client, error) {
	s.connect.Lock()
	defer s.connect.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, fmt.Errorf("it did not answer within %s", connectTimeout))
	defer cancel()
	c, err := client.New(ctx, client.Options{
		Deployment: &of.network, APIKey: of.apiKey, Log: log, Getenv: func(string) string { return "" },
	})
	if err == nil {
		s.client = c
	}
	return c, err
}

func (p *Pool) release(of account, s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.users--; s.users == 0 && !p.closed {
		s.timer = time.AfterFunc(idle, func() { p.expire(of, s) })
	}
}

// expire closes a client that nobody has used for a while.
func (p *Pool) expire(of account, s *shared) {
	p.mu.Lock()
	if p.closed || s.users > 0 || p.clients[of] != s {
		p.mu.Unlock()
		return
	}
	delete(p.clients, of)
	p.work.Add(1)
	p.mu.Unlock()
	defer p.work.Done()
	s.connect.Lock()
	defer s.connect.Unlock()
	if s.client != nil {
		s.client.Close()
	}
}

// sending is a task on its way to an agent. Its id is known when done closes; the agent may have it before.
type sending struct {
	agent string
	done  chan struct{}
}

// send notes that a task, nested so deeply, is on its way. sent must follow, with its id, or "" if it was not sent.
func (p *Pool) send(agent string, depth int) (sent func(task string)) {
	s := &sending{agent, make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sending[s] = struct{}{}
	return func(task string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if task != "" {
			p.depths.set(task, depth)
		}
		delete(p.sending, s)
		close(s.done)
	}
}

// depth is how deeply a task of an agent is nested. A task can begin before who sent it has the answer to that, so this waits
// for what is on its way to the agent.
func (p *Pool) depth(ctx context.Context, agent, task string) (int, error) {
	p.mu.Lock()
	depth, known := p.depths.of[task]
	var under []*sending
	for s := range p.sending {
		if !known && s.agent == agent {
			under = append(under, s)
		}
	}
	p.mu.Unlock()
	if len(under) == 0 {
		return depth, nil
	}
	timer := time.NewTimer(sendTimeout)
	defer timer.Stop()
	for _, s := range under {
		select {
		case <-s.done:
		case <-timer.C:
			return 0, &dispatch.CallError{Fault: dispatch.CallUnavailable, Text: fmt.Sprintf("it is not known how deeply calls are nested, because a task that was sent to agent %s has no answer after %s: try again", agent, sendTimeout)}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.depths.of[task], nil
}

// depths remembers how deeply the tasks that were sent from here are nested. The network has no field for it, so a chain
// that leaves this daemon and comes back begins anew.
type depths struct {
	of    map[string]int
	order []string // the oldest first, as a ring of size
	size  int
	next  int
}

func newDepths(size int) depths { return depths{of: map[string]int{}, size: size} }

func (d *depths) set(task string, depth int) {
	if _, known := d.of[task]; known {
		d.of[task] = max(d.of[task], depth)
		return
	}
	d.of[task] = depth
	if len(d.order) < d.size {
		d.order = append(d.order, task)
		return
	}
	delete(d.of, d.order[d.next])
	d.order[d.next] = task
	d.next = (d.next + 1) % len(d.order)
}
