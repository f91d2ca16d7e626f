package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// handler carries out what its unit decides. Nothing under its lock waits for a process.
type handler struct {
	fleet  *Fleet
	config HandlerConfig
	log    *slog.Logger
	sum    checksum

	work sync.WaitGroup // every goroutine that works for the handler

	mu         sync.Mutex
	unit       *unit.Unit         // guarded by mu, like the fields below
	processes  map[int64]*process // by the number that the unit gave
	timer      *time.Timer
	changed    chan struct{} // closed and replaced when the availability changes
	reason     string        // why it is not ready, or was not lately
	generation int64
	announced  bool // the cards of this generation
	stopped    bool // nothing may be started any more
}

// process is one process of a handler, from the decision to start it on.
type process struct {
	id        int64
	giveUp    context.CancelCauseFunc // ends a start that is going on
	startedAt time.Time
	lost      chan struct{} // closed when even SIGKILL did not end it
	requested bool          // guarded by handler.mu; we asked it to end
	conn      *plug.Conn    // guarded by handler.mu; nil until it is ready
	running   int           // guarded by handler.mu; calls that it has not let go of
	draining  bool          // guarded by handler.mu
	gone      bool          // guarded by handler.mu
}

var errStopping = errors.New("the daemon asked the handler to stop")

func newHandler(f *Fleet, c HandlerConfig) *handler {
	c.Instances = max(c.Instances, 1)
	return &handler{
		fleet: f, config: c, log: f.config.Log.With("handler", c.Name), unit: unit.New(c.Restart, c.Instances),
		processes: map[int64]*process{}, changed: make(chan struct{}), generation: 1,
	}
}

// step feeds an event to the unit and carries out its actions.
func (h *handler) step(e unit.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stepLocked(e)
}

func (h *handler) stepLocked(e unit.Event) {
	before := availability(h.unit.State())
	if e.Kind == unit.Stop {
		h.stopped = true
	}
	e.Jitter = h.fleet.config.Jitter()
	queue := []unit.Event{e}
	for len(queue) > 0 {
		actions := h.unit.Step(queue[0], h.fleet.config.Now())
		queue = queue[1:]
		for _, a := range actions {
			switch a.Kind {
			case unit.StartProcess:
				h.startLocked(a.Process)
			case unit.DrainProcess:
				if p := h.processes[a.Process]; p != nil {
					p.draining = true
					if p.running == 0 {
						queue = append(queue, unit.Event{Kind: unit.ProcessIdle, Process: p.id})
					}
				}
			case unit.StopProcess:
				h.stopLocked(a.Process)
			case unit.KillProcess:
				if p := h.processes[a.Process]; p != nil && p.conn != nil {
					p.requested = true
					p.conn.Kill()
				}
			case unit.SetTimer:
				h.armLocked(a.At)
			}
		}
	}
	if availability(h.unit.State()) != before {
		close(h.changed)
		h.changed = make(chan struct{})
	}
}

func (h *handler) armLocked(at time.Time) {
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
	if at.IsZero() || h.stopped {
		return
	}
	h.timer = time.AfterFunc(at.Sub(h.fleet.config.Now()), func() { h.step(unit.Event{Kind: unit.Timer}) })
}

func (h *handler) startLocked(id int64) {
	ctx, cancel := context.WithCancelCause(context.Background()) // ended by giveUp
	p := &process{id: id, giveUp: cancel, startedAt: h.fleet.config.Now(), lost: make(chan struct{})}
	h.processes[id] = p
	h.work.Go(func() {
		defer cancel(nil)
		h.run(ctx, p)
	})
}

func (h *handler) stopLocked(id int64) {
	p := h.processes[id]
	if p == nil {
		return
	}
	p.requested, p.draining = true, true
	if p.conn == nil {
		p.giveUp(errStopping)
		return
	}
	conn := p.conn
	h.work.Go(func() {
		if !conn.Stop() {
			h.log.Error("the handler process could not be ended and is left behind", "pid", conn.PID())
			close(p.lost)
		}
	})
}

// run is the life of one process.
func (h *handler) run(ctx context.Context, p *process) {
	conn, err := h.start(ctx)
	if err != nil {
		h.exited(p, err)
		return
	}
	h.announce(conn)
	h.mu.Lock()
	p.conn = conn
	h.reason = ""
	requested := p.requested
	if !requested {
		h.stepLocked(unit.Event{Kind: unit.ProcessReady, Process: p.id})
	}
	h.mu.Unlock()
	if requested { // stopped while it became ready
		conn.Kill()
	} else {
		h.log.Info("handler is ready", "pid", conn.PID(), "took", h.fleet.config.Now().Sub(p.startedAt))
	}

	watching, stopWatching := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if err := conn.Watch(watching); err != nil {
			h.log.Warn(err.Error(), "pid", conn.PID())
			h.setReason(err.Error())
			h.step(unit.Event{Kind: unit.ProcessUnhealthy, Process: p.id})
		}
	})
	select {
	case <-conn.Done():
	case <-p.lost:
	}
	stopWatching()
	watch.Wait()
	select {
	case <-conn.Done():
		f := conn.Exit()
		h.exited(p, &plug.Failure{Reason: f.Reason, Text: fmt.Sprintf("handler %s is down because %s", h.config.Name, f.Text)}, conn.Tail(crashLines)...)
		conn.Close()
	default: // lost: what belongs to it cannot be freed
		h.exited(p, &plug.Failure{Reason: unit.Requested, Text: "it could not be ended"})
	}
}

// crashLines of output go into the log when a process ends unexpectedly.
const crashLines = 20

func (h *handler) start(ctx context.Context) (*plug.Conn, error) {
	f := h.fleet
	if err := h.sum.verify(h.config); err != nil {
		return nil, err
	}
	return plug.Start(ctx, plug.Config{
		Handler: h.config.Name, Path: h.config.Path, Args: h.config.Args, Dir: h.config.Dir, Environment: f.environment(),
		Spawner: f.spawner, Dirs: f.dirs, Log: f.config.Log, Timeouts: f.config.Timeouts, Elsewhere: f.placed,
	})
}

// announce hands on the cards of a handler that has described itself, once per generation.
func (h *handler) announce(conn *plug.Conn) {
	h.mu.Lock()
	first := !h.announced
	h.announced = true
	h.mu.Unlock()
	d := conn.Description()
	if !first || h.fleet.config.OnCards == nil || !d.Described {
		return
	}
	cards := make([]card.Card, 0, len(d.Cards))
	for _, doc := range d.Cards {
		c, err := card.Parse(doc)
		if err != nil {
			h.log.Warn("a card that the handler describes itself with is not used", "err", err)
			continue
		}
		cards = append(cards, c)
	}
	h.fleet.config.OnCards(h.config.Name, cards)
}

// exited tells the unit that a process is gone, or could not be started.
func (h *handler) exited(p *process, err error, tail ...string) {
	var f *plug.Failure
	if !errors.As(err, &f) {
		f = &plug.Failure{Reason: unit.Spawn, Text: err.Error()}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p.gone = true
	if p.requested {
		f.Reason = unit.Requested
		h.log.Info("handler process has ended", "pid", pid(p))
	} else {
		h.reason = f.Text
		attrs := []any{"reason", f.Reason.String()}
		if p.conn != nil {
			attrs = append(attrs, "pid", p.conn.PID())
		}
		if len(tail) > 0 {
			attrs = append(attrs, "tail", tail)
		}
		h.log.Error(f.Text, attrs...)
	}
	delete(h.processes, p.id)
	h.stepLocked(unit.Event{Kind: unit.ProcessExited, Process: p.id, Reason: f.Reason})
	if h.unit.State() == unit.Quarantined && !p.requested {
		h.log.Error("handler is quarantined because it failed too often", "reason", h.reason, "next_try", h.config.Restart.Filled().ProbeEvery)
	}
}

func (h *handler) setReason(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reason = s
}

// wait returns when nothing works for the handler any more; it must have been stopped.
func (h *handler) wait() {
	h.work.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.armLocked(time.Time{})
}

func pid(p *process) int {
	if p.conn == nil {
		return 0
	}
	return p.conn.PID()
}
