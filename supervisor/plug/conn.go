// Package plug is the connection to one handler process, from its start to its end: handshake, description, health, tasks,
// the host service, and the stop ladder. It is the only host-side importer of go-plugin, which it uses for the handshake
// and the connection and for nothing else: every wait here has a deadline of its own.
package plug

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/logpump"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Conn is one running handler process. Its methods may be used from several goroutines.
type Conn struct {
	config      Config
	timeouts    Timeouts
	dir         string // private, with the sockets
	plan        *launch.Plan
	mark        string                         // an entry of the environment that no other process has
	process     atomic.Pointer[launch.Process] // set once, by the goroutine that starts it
	leftBehind  bool                           // even SIGKILL did not end it in time; only Start uses it
	abandoned   bool                           // go-plugin still waits for something that the process has left; only Start and Close use it
	host        *host
	description Description
	calls       calls // that have not ended, given up or not

	output
	rpc
}

// rpc is the gRPC connection to the process.
type rpc struct {
	plugin *plugin.Client
	conns  conns
	turns  *turns      // of the handler's large answers
	works  atomic.Bool // false from when the connection breaks, before a call hears of it, until there is another one
	conn   *grpc.ClientConn
	client handlerv1.HandlerServiceClient
	health grpc_health_v1.HealthClient
}

var errHandshakeTimeout = errors.New("no handshake in time")

// Start starts a process and returns when it is ready for tasks. An error is a *Failure, and leaves nothing behind but a
// process that even SIGKILL does not end.
func Start(ctx context.Context, c Config) (*Conn, error) {
	if c.MaxArtifactBytes <= 0 {
		c.MaxArtifactBytes = wire.MaxArtifactBytes
	}
	if c.Spool == nil {
		c.Spool = &Spool{}
	}
	p := &Conn{config: c, timeouts: c.Timeouts.Filled(), output: output{pumped: make(chan struct{})}}
	var err error
	if p.pump, err = logpump.New(logpump.Config{Log: c.outputLog(), Buffer: c.Buffer, Handler: c.Handler}); err != nil {
		return nil, failure(unit.Spawn, "handler %s could not be started: %v", c.Handler, err)
	}
	if err := p.start(ctx); err != nil {
		// The last lines are best read once the process has ended.
		ended := !p.leftBehind && p.KillAndWait()
		if ended {
			p.Close()
		}
		var f *Failure
		if !errors.As(err, &f) {
			f = failure(unit.Spawn, "handler %s could not be started: %v", c.Handler, err)
		}
		if p.process.Load() != nil && f.Reason != unit.Requested && f.Reason != unit.Refused { // a refusal says it all
			f.Text = withTail(f.Text, p.pump.Tail(5))
		}
		if !ended {
			f.Text += "; the process could not be ended, even by SIGKILL, and is left behind: find out what it waits for"
		}
		p.note(f)
		return nil, f
	}
	p.calls.begin()
	go p.endCalls()
	return p, nil
}

// endCalls ends the calls with the process. What it has sent is still in the socket and counts, but nothing is waited for
// long: something may hold the socket open.
func (p *Conn) endCalls() {
	defer p.calls.end()
	<-p.Done()
	p.host.cutOff(p.timeouts.ExitDrain)
}

func (p *Conn) start(ctx context.Context) (err error) {
	if p.plan, err = p.config.Limits.PlanFor(p.config.Machine, p.subject()); err != nil {
		return failure(unit.Refused, "handler %s is not started because %v", p.config.Handler, err)
	}
	if p.dir, err = p.config.Dirs.NewFor(p.plan); err != nil {
		return err
	}
	token, err := newToken()
	if err != nil {
		return err
	}
	if p.host, err = newHost(p.dir, token, p, p.plan, p.config.OnAnotherProcess, p.config.MaxArtifactBytes, p.config.Spool); err != nil {
		return err
	}
	hctx, cancel := context.WithTimeoutCause(ctx, p.timeouts.Handshake, errHandshakeTimeout)
	defer cancel()
	if err := p.connect(hctx, token); err != nil {
		return err
	}
	dctx, cancel := context.WithTimeout(ctx, p.timeouts.Describe)
	defer cancel()
	return p.describe(dctx)
}

func (p *Conn) subject() launch.Subject {
	c := p.config
	return launch.Subject{Handler: c.Handler, Path: c.Path, Dir: c.Dir, Args: c.Args, Needed: c.Needed}
}

// Description of the handler.
func (p *Conn) Description() Description { return p.description }

// PID of the process.
func (p *Conn) PID() int { return p.process.Load().PID() }

// Owns reports whether pid is the process, or one that it has started.
func (p *Conn) Owns(pid int) bool {
	process := p.process.Load()
	return process != nil && process.Owns(pid)
}

// ResidentBytes is the memory of the process and of what it has started, by its control group; 0 when that is unknown.
func (p *Conn) ResidentBytes() int64 { return p.process.Load().ResidentBytes() }

// CPUTime is what they have used, by its control group; false when that is unknown.
func (p *Conn) CPUTime() (time.Duration, bool) { return p.process.Load().CPUTime() }

// Skipped says which limits of the process are not kept as wished, one sentence each.
func (p *Conn) Skipped() []string { return p.plan.Skipped }

// Isolation is what keeps the process from the daemon and from other handlers, and what that leaves open here.
func (p *Conn) Isolation() (level string, open []string) { return string(p.plan.Level), p.plan.Open }

// Done is closed when the process has ended.
func (p *Conn) Done() <-chan struct{} { return p.process.Load().Done() }

// Tail returns the last lines that the process wrote.
func (p *Conn) Tail(n int) []string { return p.pump.Tail(n) }
