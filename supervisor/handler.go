package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// handler is one handler through all its generations: tasks go to the current one; the next one, if there is one, is being
// started beside it and takes over when it is ready; retired ones finish their tasks. Nothing under its lock waits for a
// process.
type handler struct {
	fleet *Fleet
	name  string
	log   *slog.Logger

	// named: the last Apply wants it, although it may not have been deployed again yet. Guarded by fleet.mu.
	named bool

	work sync.WaitGroup // every goroutine that works for the handler
	// announcing is held while the cards of a generation are handed on, so that those of the latest come last.
	announcing sync.Mutex

	mu      sync.Mutex
	current *generation // guarded by mu, like the fields below
	next    *generation
	retired []*generation
	wanted  HandlerConfig // what was asked for last
	started bool
	stopped bool // nothing may be started any more
	removed bool // draining for good
	// notice says in one sentence why what runs is not what was asked for.
	notice   string
	restarts int64 // of generations that are not current any more

	users   int     // tasks that wait or run
	running int     // tasks on processes
	queue   []place // tasks that wait for a process or a free place on one, the first first

	changed chan struct{} // closed and replaced when the availability, or the current generation, changes
	taking  int           // how often the set of processes that take tasks has changed
	last    view          // of the last HandlerState event
}

var errStopping = errors.New("the daemon asked the handler to stop")

// rejectAfter failures a new generation is given up, if there is an older one that works.
const rejectAfter = 3

func newHandler(f *Fleet, c HandlerConfig) *handler {
	h := &handler{
		fleet: f, name: c.Name, log: f.config.Log.With("handler", c.Name), wanted: c,
		changed: make(chan struct{}),
	}
	h.current = newGeneration(h, c, 1)
	return h
}

// start begins the first generation.
func (h *handler) start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.started && !h.stopped {
		h.started = true
		h.current.step(unit.Event{Kind: unit.Start})
	}
}

// stop ends everything, tasks included.
func (h *handler) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	for _, g := range h.generations() {
		g.step(unit.Event{Kind: unit.Stop})
	}
}

// generations that may have processes. mu is held.
func (h *handler) generations() []*generation {
	all := append(slices.Clone(h.retired), h.current)
	if h.next != nil {
		all = append(all, h.next)
	}
	return all
}

// deploy makes c what the handler runs.
func (h *handler) deploy(c HandlerConfig) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped || !h.removed && reflect.DeepEqual(h.wanted, c) {
		return
	}
	back := h.removed
	h.wanted, h.notice, h.removed = c, "", false
	switch {
	case !h.started:
		h.current = newGeneration(h, c, 1)
	case !back && reflect.DeepEqual(h.current.config, c): // what runs is right again
		h.dropNext("its program was changed back to the one that runs")
		h.told()
	default:
		h.roll(c)
	}
}

// roll starts a generation. It takes over at once if the current one is of no use. mu is held.
func (h *handler) roll(c HandlerConfig) *generation {
	h.dropNext("its program or configuration was changed again")
	number := h.current.number
	if c.Content != h.current.config.Content {
		number++
	}
	g := newGeneration(h, c, number)
	if h.current.works() {
		h.next = g
		h.emit(event.Event{Type: event.Rollout, State: rolloutStarting, Reason: "a new generation of the handler is started beside the current one", Details: g.facts()})
	} else {
		old := h.current
		h.current = g
		h.emitDone(g)
		h.retire(old)
		h.told()
	}
	g.step(unit.Event{Kind: unit.Start})
	if h.users > 0 {
		g.step(unit.Event{Kind: unit.Used})
	}
	return g
}

// dropNext ends a generation that has not taken over and is not wanted any more. mu is held.
func (h *handler) dropNext(why string) {
	if g := h.next; g != nil {
		h.next = nil
		h.emit(event.Event{Type: event.Rollout, State: rolloutRejected, Reason: "the new generation of the handler is given up because " + why, Details: g.facts()})
		h.retire(g)
	}
}

// retire lets a generation finish its tasks and end. mu is held.
func (h *handler) retire(g *generation) {
	g.retired = true
	h.restarts += g.unit.Restarts()
	h.retired = append(h.retired, g)
	g.step(unit.Event{Kind: unit.Drain})
	h.clean()
}

// clean forgets retired generations that have ended. mu is held.
func (h *handler) clean() {
	h.retired = slices.DeleteFunc(h.retired, func(g *generation) bool { return len(g.processes) == 0 })
}

// settle lets the next generation take over when it can, and gives it up when it cannot. mu is held.
func (h *handler) settle() {
	g := h.next
	if g == nil {
		return
	}
	switch {
	case g.unit.Full(), g.unit.State() == unit.Ready && h.current.unit.State() != unit.Ready:
		old := h.current
		h.current, h.next, h.notice = g, nil, ""
		h.emitDone(g)
		h.retire(old)
		h.told()
		for _, p := range g.processes {
			if p.conn != nil {
				h.work.Go(func() { g.announce(p.conn) })
				break
			}
		}
	case g.failures >= rejectAfter, g.unit.State() == unit.Quarantined:
		h.next = nil
		h.notice = fmt.Sprintf("handler %s goes on with its earlier program%s because the new one%s does not start: %s",
			h.name, short(h.current.config.Content), short(g.config.Content), g.reason)
		h.emit(event.Event{Type: event.Rollout, Level: slog.LevelError, State: rolloutRejected, Reason: h.notice})
		h.retire(g)
	}
}

// short is how texts name a content.
func short(sum string) string {
	if len(sum) < 12 {
		return ""
	}
	return " (" + sum[:12] + ")"
}

// told wakes everybody who waits for the handler. mu is held.
func (h *handler) told() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// remove drains the handler for good; false says that it is over already.
func (h *handler) remove() (draining bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.removed {
		h.removed, h.notice = true, ""
		h.dropNext("the handler is removed")
		h.current.step(unit.Event{Kind: unit.Drain})
		h.told()
	}
	return h.aliveLocked()
}

func (h *handler) aliveLocked() bool {
	h.clean()
	return len(h.retired) > 0 || len(h.current.processes) > 0
}

// restart replaces the processes, or tries again if there are none, and waits for the outcome. The error is a sentence.
func (h *handler) restart(ctx context.Context) error {
	h.mu.Lock()
	if h.stopped || h.removed || !h.started {
		h.mu.Unlock()
		return fmt.Errorf("handler %s cannot be restarted: it is being stopped", h.name)
	}
	h.notice = ""
	g := h.current
	if h.next == nil && !g.works() && reflect.DeepEqual(g.config, h.wanted) {
		g.step(unit.Event{Kind: unit.Reset})
	} else {
		g = h.roll(h.wanted)
	}
	failures := g.failures
	h.mu.Unlock()
	return h.await(ctx, g, failures)
}

// await returns when generation g takes the tasks, or has failed more often than it had.
func (h *handler) await(ctx context.Context, g *generation, failures int) error {
	events := h.fleet.config.Events.Follow(event.HandlerState, event.ProcessExited, event.Rollout)
	defer events.Close()
	for {
		h.mu.Lock()
		state, current := g.unit.State(), g == h.current
		retired, failed, reason, notice := g.retired, g.failures > failures, g.reason, h.notice
		h.mu.Unlock()
		switch {
		case current && !retired && (state == unit.Ready || state == unit.Idle):
			return nil
		case retired && notice != "":
			return errors.New(notice)
		case retired:
			return fmt.Errorf("handler %s was changed again meanwhile", h.name)
		case current && failed:
			return errors.New(reason)
		case state == unit.Stopped || state == unit.Draining:
			return fmt.Errorf("handler %s is being stopped", h.name)
		}
		if _, err := events.Next(ctx); err != nil {
			return fmt.Errorf("handler %s is not ready yet: %w", h.name, context.Cause(ctx))
		}
	}
}

// availabilityLocked is that of the current generation.
func (h *handler) availabilityLocked() dispatch.Availability {
	return availability(h.current.unit.State())
}

// wait returns when nothing works for the handler any more; it must have been stopped.
func (h *handler) wait() {
	h.work.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.generations() {
		g.disarm()
	}
	h.clean()
}
