package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// generation is the processes of a handler that run the same program in the same way. It carries out what its unit decides.
// Its fields are guarded by handler.mu.
type generation struct {
	h         *handler
	config    HandlerConfig // immutable
	number    int64         // immutable; counts the programs that the handler has had
	unit      *unit.Unit
	processes map[int64]*process // by the number that the unit gave
	timer     *time.Timer
	sum       string   // of the program, as it was when a process was started last
	reason    string   // why it is not ready, or was not lately
	skipped   []string // limits that this machine does not keep, a sentence each
	failures  int      // since its first start
	worked    bool     // it was ready once
	retired   bool     // its processes take no more tasks
	described bool     // its cards were handed on
	used      bool     // it was told that its content works
}

// process is one process of a handler, from the decision to start it on. Its fields are guarded by handler.mu, but for those
// that never change.
type process struct {
	id        int64
	g         *generation
	giveUp    context.CancelCauseFunc // ends a start that is going on
	startedAt time.Time
	lost      chan struct{} // closed when even SIGKILL did not end it
	requested bool          // we asked it to end
	conn      *plug.Conn    // nil until it is ready
	running   int           // calls that it has not let go of
	served    int           // calls that it was given
	draining  bool
	gone      bool
}

func newGeneration(h *handler, c HandlerConfig, number int64) *generation {
	return &generation{h: h, config: c, number: number, unit: unit.New(c.Restart, max(c.Instances, 1)), processes: map[int64]*process{}}
}

// works reports whether the generation takes tasks, or soon will again.
func (g *generation) works() bool {
	switch g.unit.State() {
	case unit.Ready, unit.Idle:
		return true
	case unit.Starting, unit.Unhealthy, unit.BackingOff:
		return g.worked
	}
	return false
}

// step feeds an event to the unit and carries out its actions. handler.mu is held.
func (g *generation) step(e unit.Event) {
	h := g.h
	before := h.availabilityLocked()
	e.Jitter = h.fleet.config.Jitter()
	queue := []unit.Event{e}
	for len(queue) > 0 {
		actions := g.unit.Step(queue[0], h.fleet.config.Now())
		queue = queue[1:]
		for _, a := range actions {
			p := g.processes[a.Process]
			switch a.Kind {
			case unit.StartProcess:
				g.start(a.Process)
			case unit.DrainProcess:
				if p != nil {
					p.drainLocked()
					if p.running == 0 {
						queue = append(queue, unit.Event{Kind: unit.ProcessIdle, Process: p.id})
					}
				}
			case unit.StopProcess:
				g.stop(p)
			case unit.KillProcess:
				if p != nil && p.conn != nil {
					p.requested = true
					p.conn.Kill()
				}
			case unit.SetTimer:
				g.arm(a.At)
			}
		}
	}
	if g.unit.State() == unit.Ready {
		g.worked = true
	}
	if e.Kind == unit.ProcessReady { // there may be room for all that wait
		for range len(h.queue) {
			h.tellNext()
		}
	}
	h.settle()
	if h.availabilityLocked() != before {
		h.told()
	}
	h.emitStateLocked()
}

// drainLocked keeps further tasks from the process.
func (p *process) drainLocked() {
	if p.conn != nil && !p.draining {
		p.g.h.taking++
	}
	p.draining = true
}

func (g *generation) arm(at time.Time) {
	g.disarm()
	if at.IsZero() || g.h.stopped {
		return
	}
	g.timer = time.AfterFunc(at.Sub(g.h.fleet.config.Now()), func() {
		g.h.mu.Lock()
		defer g.h.mu.Unlock()
		g.step(unit.Event{Kind: unit.Timer})
	})
}

func (g *generation) disarm() {
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

func (g *generation) start(id int64) {
	ctx, cancel := context.WithCancelCause(context.Background()) // ended by giveUp
	p := &process{id: id, g: g, giveUp: cancel, startedAt: g.h.fleet.config.Now(), lost: make(chan struct{})}
	g.processes[id] = p
	g.h.work.Go(func() {
		defer cancel(nil)
		g.run(ctx, p)
	})
}

func (g *generation) stop(p *process) {
	if p == nil {
		return
	}
	p.requested = true
	p.drainLocked()
	if p.conn == nil {
		p.giveUp(errStopping)
		return
	}
	g.h.work.Go(func() {
		if !p.conn.Stop() {
			g.h.emit(event.Event{Type: event.Notice, Level: slog.LevelError, PID: p.conn.PID(), Reason: "the handler process could not be ended and is left behind"})
			close(p.lost)
		}
	})
}

// run is the life of one process.
func (g *generation) run(ctx context.Context, p *process) {
	h := g.h
	conn, err := g.launch(ctx)
	if err != nil {
		var f *plug.Failure
		if unasked := g.exited(p, err); unasked && errors.As(err, &f) && !f.Crash.Time.IsZero() {
			h.fleet.book.SetCrash(h.name, f.Crash)
		}
		return
	}
	h.mu.Lock()
	first := g == h.current
	h.mu.Unlock()
	if first {
		g.announce(conn) // before it gets tasks
	}
	watching, stopWatching := context.WithCancel(ctx)
	done := make(chan struct{})
	h.mu.Lock()
	p.conn = conn
	g.reason, g.skipped = "", conn.Skipped()
	requested := p.requested
	if !requested {
		h.taking++
		h.emit(event.Event{
			Type: event.ProcessStarted, PID: conn.PID(), Duration: h.fleet.config.Now().Sub(p.startedAt),
			Details: []slog.Attr{slog.Int64("generation", g.number)},
		})
		g.step(unit.Event{Kind: unit.ProcessReady, Process: p.id})
	}
	go func() { // from the moment on at which it is seen to be ready
		defer close(done)
		if err := conn.Watch(watching); err != nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.emit(event.Event{Type: event.Notice, Level: slog.LevelWarn, PID: conn.PID(), Reason: err.Error()})
			g.reason = err.Error()
			g.step(unit.Event{Kind: unit.ProcessUnhealthy, Process: p.id})
		}
	}()
	h.mu.Unlock()
	if requested { // stopped while it became ready
		conn.Kill()
	} else {
		g.announce(conn)
	}
	select {
	case <-conn.Done():
	case <-p.lost:
	}
	stopWatching()
	<-done
	select {
	case <-conn.Done():
		f := conn.Exit()
		f.Text = fmt.Sprintf("handler %s is down because %s", h.name, f.Text)
		unasked := g.exited(p, &plug.Failure{Reason: f.Reason, Text: f.Text}, conn.Tail(crashLines)...)
		conn.Close()
		if unasked { // now that all of its output has been read
			h.fleet.book.SetCrash(h.name, conn.Failed(f).Crash)
		}
	default: // lost: what belongs to it cannot be freed
		g.exited(p, &plug.Failure{Reason: unit.Requested, Text: "it could not be ended"})
	}
}

// crashLines of output go into the log when a process ends unexpectedly.
const crashLines = 20

func (g *generation) launch(ctx context.Context) (*plug.Conn, error) {
	f := g.h.fleet
	sum, err := verify(&f.hashes, g.config)
	if sum != "" {
		g.h.mu.Lock()
		g.sum = sum
		g.h.mu.Unlock()
	}
	if err != nil {
		return nil, err
	}
	return plug.Start(ctx, plugConfig(f, g.config))
}

func plugConfig(f *Fleet, c HandlerConfig) plug.Config {
	return plug.Config{
		Handler: c.Name, Path: c.program(), Argv0: c.Path, Args: c.Args, Dir: c.Dir, Environment: f.environment(),
		Spawner: f.spawner, Dirs: f.dirs, Log: f.config.Log, Book: f.book, Timeouts: f.config.Timeouts, Elsewhere: f.placed,
		Limits: c.Limits, Machine: f.machine, MTLS: c.MTLS, MaxArtifactBytes: f.config.MaxArtifactBytes,
	}
}

// announce hands on, once each, the cards of a generation that takes the tasks and that its content works.
func (g *generation) announce(conn *plug.Conn) {
	h := g.h
	h.announcing.Lock()
	defer h.announcing.Unlock()
	h.mu.Lock()
	current := g == h.current && !g.retired
	describe, use := current && !g.described, current && !g.used && g.worked
	g.described, g.used = g.described || describe, g.used || use
	h.mu.Unlock()
	if use && h.fleet.config.OnUsed != nil && g.config.Content != "" {
		h.fleet.config.OnUsed(h.name, g.config.Content)
	}
	d := conn.Description()
	if !describe || h.fleet.config.OnCards == nil || !d.Described {
		return
	}
	cards := make([]card.Card, 0, len(d.Cards))
	for _, doc := range d.Cards {
		c, err := card.Parse(doc)
		if err != nil {
			h.emit(event.Event{
				Type: event.Notice, Level: slog.LevelWarn, Reason: "a card that the handler describes itself with is not used",
				Details: []slog.Attr{slog.Any("err", err)},
			})
			continue
		}
		cards = append(cards, c)
	}
	h.fleet.config.OnCards(h.name, cards)
}

// exited tells the unit that a process is gone, or could not be started. unasked is false when we had asked it to end.
func (g *generation) exited(p *process, err error, tail ...string) (unasked bool) {
	var f *plug.Failure
	if !errors.As(err, &f) {
		f = &plug.Failure{Reason: unit.Spawn, Text: err.Error()}
	}
	h := g.h
	h.mu.Lock()
	defer h.mu.Unlock()
	p.gone = true
	delete(g.processes, p.id)
	was := g.unit.State()
	p.drainLocked()
	if p.requested {
		f.Reason = unit.Requested
		h.emit(event.Event{Type: event.ProcessExited, PID: pid(p)})
	} else {
		g.reason = f.Text
		g.failures++
		details := []slog.Attr{slog.String("reason", f.Reason.String())}
		if len(tail) > 0 {
			details = append(details, slog.Any("tail", tail))
		}
		h.emit(event.Event{Type: event.ProcessExited, Level: slog.LevelError, PID: pid(p), Reason: f.Text, Details: details})
	}
	g.step(unit.Event{Kind: unit.ProcessExited, Process: p.id, Reason: f.Reason})
	if is := g.unit.State(); is == unit.Quarantined && was != is && !p.requested {
		h.emit(event.Event{
			Type: event.Notice, Level: slog.LevelError, Reason: "handler is quarantined because it failed too often",
			Details: []slog.Attr{slog.String("reason", g.reason), slog.Duration("next_try", g.config.Restart.Filled().ProbeEvery)},
		})
	}
	h.clean()
	if h.removed && !h.aliveLocked() {
		h.work.Go(func() { h.fleet.forget(h) })
	}
	return !p.requested
}

func pid(p *process) int {
	if p.conn == nil {
		return 0
	}
	return p.conn.PID()
}
