package supervisor

import (
	"log/slog"
	"reflect"
	"slices"
	"sync"

	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/queue"
	"github.com/blocksd/blocksd/supervisor/rollout"
)

// handler is one handler through all its generations. It carries out what its rollout decides: tasks go to the current
// generation; the next one, if there is one, is being started alongside and takes over when it is ready; retired ones
// finish their tasks. Nothing waits for a process while mu is held.
type handler struct {
	fleet *Fleet
	name  string
	log   *slog.Logger
	spool plug.Spool // of all its processes

	work sync.WaitGroup // every goroutine that works for the handler
	// announcing is held while the cards of a generation are handed on, so that those of the latest come last. It is taken
	// before mu.
	announcing sync.Mutex

	mu          sync.Mutex
	rollout     *rollout.Rollout // guarded by mu, like the fields below
	wanted      HandlerConfig    // what was asked for last
	generations map[int64]*generation
	notice      string // why the last rollout was given up, one sentence
	queue       *queue.Queue[*process, *waitingTask]
	users       int // tasks that wait or run

	changed        chan struct{} // closed and replaced when the availability, or the current generation, changes
	processChanges int           // how often the set of processes that take tasks has changed
	last           view          // of the last HandlerState event
}

func newHandler(f *Fleet, c HandlerConfig) *handler {
	p := c.rolloutProgram(1)
	h := &handler{
		fleet: f, name: c.Name, log: f.config.Log.With("handler", c.Name),
		rollout: rollout.New(p), queue: queue.New[*process, *waitingTask](c.queueLimits()), wanted: c, generations: map[int64]*generation{}, changed: make(chan struct{}),
	}
	h.addLocked(h.rollout.Current(), p.ID, c) // nothing else knows it yet
	return h
}

// rolloutProgram is what the rollout has to know of a configuration.
func (c HandlerConfig) rolloutProgram(id int64) rollout.Program {
	return rollout.Program{ID: id, Content: c.Content, Policy: c.Restart, Instances: max(c.Instances, 1)}
}

// programIDLocked returns the number of what is wanted or runs if c is the same, else a new one.
func (h *handler) programIDLocked(c HandlerConfig) int64 {
	wanted, current := h.rollout.Wanted().ID, h.currentLocked()
	switch {
	case reflect.DeepEqual(c, h.wanted):
		return wanted
	case reflect.DeepEqual(c, current.config):
		return current.program
	}
	id := wanted
	for _, g := range h.generations {
		id = max(id, g.program)
	}
	return id + 1
}

// addLocked makes the generation with this id.
func (h *handler) addLocked(id, program int64, c HandlerConfig) {
	h.generations[id] = &generation{
		h: h, id: id, program: program, config: c, number: h.rollout.Number(id), processes: map[int64]*process{},
	}
}

func (h *handler) currentLocked() *generation { return h.generations[h.rollout.Current()] }

// generationsLocked returns all generations, the oldest first.
func (h *handler) generationsLocked() []*generation {
	all := make([]*generation, 0, len(h.generations))
	for _, g := range h.generations {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *generation) int { return int(a.id - b.id) })
	return all
}

// start begins the first generation.
func (h *handler) start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stepLocked(rollout.Event{Kind: rollout.Start})
}

// stop ends everything, tasks included.
func (h *handler) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stepLocked(rollout.Event{Kind: rollout.Stop})
}

// deploy makes c what the handler runs.
func (h *handler) deploy(c HandlerConfig) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := c.rolloutProgram(h.programIDLocked(c))
	h.wanted = c
	h.stepLocked(rollout.Event{Kind: rollout.Deploy, Program: p})
}

// remove drains the handler for good; true says that it has ended already.
func (h *handler) remove() (ended bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stepLocked(rollout.Event{Kind: rollout.Remove})
	return h.rollout.Ended()
}

// wait returns when nothing works for the handler any more; it must have been stopped, or have ended.
func (h *handler) wait() {
	h.work.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, g := range h.generations {
		g.disarmLocked()
	}
}

// stepLocked feeds an event to the rollout and carries out what it decides. What that leads to at once is fed to it too,
// one after the other.
func (h *handler) stepLocked(e rollout.Event) {
	now, before, processes, changed := h.fleet.config.Now(), h.rollout.Availability(), h.processChanges, e.Kind == rollout.Remove
	if e.Kind == rollout.OfUnit {
		e.Unit.Jitter = h.fleet.config.Jitter()
	}
	var follow []rollout.Event
	for next := &e; next != nil; {
		for _, a := range h.rollout.Step(*next, now) {
			changed = changed || a.Kind == rollout.TakeOver || a.Kind == rollout.Supersede
			if idle, ok := h.carryOutLocked(a, e); ok {
				follow = append(follow, idle)
			}
		}
		next = nil
		if len(follow) > 0 {
			next, follow = &follow[0], follow[1:]
		}
	}
	h.openReadyLocked()
	h.assignLocked()
	changed = changed || h.rollout.Availability() != before
	if changed || h.processChanges != processes {
		h.wakeWaitingLocked()
	}
	if changed {
		close(h.changed)
		h.changed = make(chan struct{})
	}
	h.emitStateLocked()
}
