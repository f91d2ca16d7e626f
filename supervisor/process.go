package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// crashLines of output go into the log when a process ends unexpectedly.
const crashLines = 20

var errStopping = errors.New("the daemon asked the handler to stop")

// process is one process of a handler, from the decision to start it on. Its fields are guarded by handler.mu, but for those
// of the first lines, which never change.
type process struct {
	id        int64
	g         *generation
	giveUp    context.CancelCauseFunc // ends a start that is going on
	startedAt time.Time
	lost      chan struct{} // closed when even SIGKILL did not end it in time

	requested bool       // we asked it to end
	conn      *plug.Conn // nil until it is ready
	draining  bool       // it is given no further task
	exited    bool
}

// startLocked begins the life of process number id.
func (g *generation) startLocked(id int64) {
	ctx, cancel := context.WithCancelCause(context.Background()) // ended by giveUp
	p := &process{id: id, g: g, giveUp: cancel, startedAt: g.h.fleet.config.Now(), lost: make(chan struct{})}
	g.processes[id] = p
	g.h.work.Go(func() {
		defer cancel(nil)
		p.run(ctx)
	})
}

// drainLocked keeps further tasks from the process.
func (p *process) drainLocked() {
	if p.conn != nil && !p.draining {
		p.g.h.processChanges++
		p.g.h.queue.Close(p)
	}
	p.draining = true
}

// takesTasksLocked reports whether the process may be given tasks. One that has ended is not, although its unit learns of
// that a moment later.
func (p *process) takesTasksLocked() bool {
	return p.conn != nil && !p.draining && !closed(p.conn.Done())
}

// stopLocked begins to end the process, or gives its start up.
func (p *process) stopLocked() {
	p.requested = true
	p.drainLocked()
	if p.conn == nil {
		p.giveUp(errStopping)
		return
	}
	p.endLocked(p.conn.Stop)
}

// killLocked ends the process, which has been ready, at once.
func (p *process) killLocked() {
	if p.conn != nil {
		p.requested = true
		p.endLocked(p.conn.KillAndWait)
	}
}

// endLocked ends the process in a way that returns false when even the kernel does not end it in time: then it is left
// behind.
func (p *process) endLocked(how func() bool) {
	h, pid := p.g.h, p.conn.PID()
	h.work.Go(func() {
		if how() {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if !closed(p.lost) {
			close(p.lost)
			h.emitLeftBehind(pid)
		}
	})
}

// run is the life of the process.
func (p *process) run(ctx context.Context) {
	g, h := p.g, p.g.h
	conn, err := g.connect(ctx)
	if err != nil {
		var f *plug.Failure
		if unasked := p.ended(err); unasked && errors.As(err, &f) && !f.Crash.Time.IsZero() {
			h.fleet.buffer.SetCrash(h.name, f.Crash)
		}
		return
	}
	h.mu.Lock()
	current := g == h.currentLocked()
	h.mu.Unlock()
	if current {
		g.announce(conn) // before it gets tasks
	}
	watching, stopWatching := context.WithCancel(ctx)
	watched := make(chan struct{})
	wanted := p.ready(conn, func() {
		defer close(watched)
		p.watch(watching, conn)
	})
	if wanted {
		g.announce(conn)
	}
	select {
	case <-conn.Done():
	case <-p.lost:
	}
	stopWatching()
	<-watched
	select {
	case <-conn.Done():
		f := conn.Exit()
		why := f.Text
		f.Text = fmt.Sprintf("handler %s is down because %s", h.name, why)
		unasked := p.ended(&plug.Failure{Reason: f.Reason, Text: f.Text}, conn.Tail(crashLines)...)
		conn.Close()
		if unasked { // now that all of its output has been read
			f.Text = fmt.Sprintf("handler %s went down because %s", h.name, why) // by the time that somebody reads it, it may run again
			h.fleet.buffer.SetCrash(h.name, conn.Failed(f).Crash)
		}
	default: // lost: what belongs to it cannot be freed
		p.ended(&plug.Failure{Reason: unit.Requested, Text: "it could not be ended"})
	}
}

// ready says that the process can take tasks. One that was asked to end meanwhile is not wanted, and is killed. From the
// moment on at which the process is seen to be ready, watch runs.
func (p *process) ready(conn *plug.Conn, watch func()) (wanted bool) {
	g, h := p.g, p.g.h
	h.mu.Lock()
	defer h.mu.Unlock()
	p.conn = conn
	g.reason, g.hopeless, g.skipped = "", false, conn.Skipped()
	g.isolation, g.open = conn.Isolation()
	wanted = !p.requested
	if wanted {
		h.processChanges++
		h.emitStarted(p)
		g.stepLocked(unit.Event{Kind: unit.ProcessReady, Process: p.id})
	} else {
		p.killLocked()
	}
	go watch() // run waits for it
	return wanted
}

// watch says when the process does not answer any more.
func (p *process) watch(ctx context.Context, conn *plug.Conn) {
	err := conn.Watch(ctx)
	if err == nil {
		return
	}
	h := p.g.h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.emitUnhealthy(conn.PID(), err)
	p.g.reason = err.Error()
	p.g.stepLocked(unit.Event{Kind: unit.ProcessUnhealthy, Process: p.id})
}

// connect starts the process and returns when it is ready for tasks.
func (g *generation) connect(ctx context.Context) (*plug.Conn, error) {
	f := g.h.fleet
	sum, conn, err := f.startProgram(ctx, g.config, &g.h.spool)
	if sum != "" {
		g.h.mu.Lock()
		g.sum = sum
		g.h.mu.Unlock()
	}
	return conn, err
}

func plugConfig(f *Fleet, c HandlerConfig, spool *plug.Spool) plug.Config {
	c.MaxArtifactBytes = cmp.Or(c.MaxArtifactBytes, f.config.MaxArtifactBytes)
	if c.Environment == nil {
		c.Environment = f.config.Environment
	}
	c.Timeouts = cmp.Or(c.Timeouts, f.config.Timeouts)
	path, argv0 := c.program(), c.Path
	if c.Interpreter != "" {
		path, argv0 = c.Interpreter, c.Interpreter
	}
	return plug.Config{
		Handler: c.Name, Path: path, Argv0: argv0, Args: c.Args, Dir: c.Dir, Interpreter: c.Interpreter != "", Needed: c.Needed,
		Environment: launch.Merge(launch.Environment(os.Environ(), c.Environment), c.Variables),
		Spawner:     f.spawner, Dirs: f.dirs, Log: f.config.Log, OutputLog: f.config.OutputLog, Buffer: f.buffer, Timeouts: c.Timeouts.Filled(), OnAnotherProcess: f.tasks.assigned,
		Limits: c.Limits, Machine: f.machine, MTLS: c.MTLS, MaxArtifactBytes: c.MaxArtifactBytes, Spool: spool,
	}
}

// ended says that the process has ended, or could not be started. unasked is false when we had asked it to end.
func (p *process) ended(err error, tail ...string) (unasked bool) {
	var f *plug.Failure
	if !errors.As(err, &f) {
		f = &plug.Failure{Reason: unit.Spawn, Text: err.Error()}
	}
	g, h := p.g, p.g.h
	h.mu.Lock()
	defer h.mu.Unlock()
	p.exited = true
	p.drainLocked()
	delete(g.processes, p.id)
	if p.requested {
		f.Reason = unit.Requested
	} else {
		g.reason, g.hopeless = f.Text, f.Reason.Hopeless()
	}
	h.emitExited(p, f, tail)
	g.stepLocked(unit.Event{Kind: unit.ProcessExited, Process: p.id, Reason: f.Reason})
	if h.rollout.Ended() {
		h.work.Go(func() { h.fleet.forget(h) })
	}
	return !p.requested
}

// pidLocked is 0 for a process that is not ready yet.
func (p *process) pidLocked() int {
	if p.conn == nil {
		return 0
	}
	return p.conn.PID()
}
