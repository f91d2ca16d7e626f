// Package rollout decides which generation of one handler takes the tasks: when another program is started alongside the
// one that runs, when it takes over, when it is given up, and when a generation is over. It is a pure state machine around
// those of package unit: events and the time go in, actions come out.
package rollout

import (
	"slices"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// giveUpAfter failures a new generation is given up, if there is an older one that works.
const giveUpAfter = 3

// generation is the processes of a handler that run the same program in the same way.
type generation struct {
	id       int64
	number   int64 // counts the contents that the handler has had, from 1
	program  Program
	unit     *unit.Unit
	failures int  // since its start
	worked   bool // it was ready once
}

// Rollout is the state machine of one handler. It is not safe for concurrent use.
type Rollout struct {
	wanted  Program       // what was asked for last
	current *generation   // takes the tasks; never nil
	next    *generation   // is being started alongside; may be nil
	retired []*generation // finish their tasks, oldest first
	last    int64         // id of the generation that was made last

	started  bool
	stopped  bool // nothing is started any more
	removed  bool
	inUse    bool
	rejected bool  // the last rollout was given up, and nothing was asked for since
	restarts int64 // of the generations that have retired
}

// New returns the state machine of a handler whose first generation, number 1, runs p once it gets Start.
func New(p Program) *Rollout {
	r := &Rollout{wanted: p}
	r.current = r.generation(p, 1)
	return r
}

func (r *Rollout) generation(p Program, number int64) *generation {
	r.last++
	return &generation{id: r.last, number: number, program: p, unit: unit.New(p.Policy, max(p.Instances, 1))}
}

// step is the handling of one event.
type step struct {
	*Rollout
	now time.Time
	out []Action
}

// Step takes one event at time now, which must not go backwards. Events that no longer apply are ignored: the generation
// may have ended before the event arrived.
func (r *Rollout) Step(e Event, now time.Time) []Action {
	s := step{Rollout: r, now: now}
	current, state := r.current, r.current.unit.State()
	switch e.Kind {
	case Start:
		if !r.started && !r.stopped && !r.removed {
			r.started = true
			s.feed(r.current, unit.Event{Kind: unit.Start})
		}
	case Stop:
		s.stop()
	case Remove:
		s.remove()
	case Deploy:
		s.deploy(e.Program)
	case Restart:
		s.restart()
	case Used, Unused:
		s.use(e.Kind == Used)
	case OfUnit:
		if g := r.find(e.Generation); g != nil {
			if e.Unit.Kind == unit.ProcessExited && e.Unit.Reason != unit.Requested {
				g.failures++
			}
			s.feed(g, e.Unit)
		}
	}
	s.decide()
	s.forget()
	if r.current.unit.State() == unit.Quarantined && (current != r.current || state != unit.Quarantined) {
		s.act(Quarantine, r.current)
	}
	return s.out
}

func (s *step) act(kind ActionKind, g *generation) {
	s.out = append(s.out, Action{Kind: kind, Generation: g.id})
}

// feed gives an event to the unit of a generation.
func (s *step) feed(g *generation, e unit.Event) {
	for _, a := range g.unit.Step(e, s.now) {
		s.out = append(s.out, Action{Kind: ForUnit, Generation: g.id, Unit: a})
	}
	g.worked = g.worked || g.unit.State() == unit.Ready
}

// deploy makes p what the handler is to run.
func (s *step) deploy(p Program) {
	if s.stopped || !s.removed && s.wanted.ID == p.ID {
		return
	}
	back := s.removed
	s.wanted, s.rejected, s.removed = p, false, false
	switch {
	case !back && s.current.program.ID == p.ID: // what runs is right again
		s.supersede()
	case !s.started:
		old := s.current
		s.current = s.begin(p)
		s.act(TakeOver, s.current)
		s.retire(old)
	default:
		s.roll()
	}
}

// restart gives the generation that is wanted another chance, or starts another one in its place.
func (s *step) restart() {
	if !s.Accepts() {
		return
	}
	s.rejected = false
	if s.next == nil && !s.current.works() && s.current.program.ID == s.wanted.ID {
		s.feed(s.current, unit.Event{Kind: unit.Reset})
	} else {
		s.roll()
	}
}

// roll starts a generation of what is wanted, alongside the current one or, if that does not work, in its place.
func (s *step) roll() {
	s.supersede()
	g := s.begin(s.wanted)
	if s.current.works() {
		s.next = g
	} else {
		old := s.current
		s.current = g
		s.act(TakeOver, g)
		s.retire(old)
	}
	s.feed(g, unit.Event{Kind: unit.Start})
	if s.inUse {
		s.feed(g, unit.Event{Kind: unit.Used})
	}
}

// begin makes a generation. Its number is that of the current one if it has the same content.
func (s *step) begin(p Program) *generation {
	number := s.current.number
	if s.started && p.Content != s.current.program.Content {
		number++
	}
	g := s.generation(p, number)
	s.out = append(s.out, Action{Kind: NewGeneration, Generation: g.id, Program: p})
	return g
}

// supersede retires a generation that has not taken over.
func (s *step) supersede() {
	if g := s.next; g != nil {
		s.next = nil
		s.act(Supersede, g)
		s.retire(g)
	}
}

// retire lets a generation finish its tasks and end.
func (s *step) retire(g *generation) {
	s.restarts += g.unit.Restarts()
	s.retired = append(s.retired, g)
	s.feed(g, unit.Event{Kind: unit.Drain})
}

func (s *step) remove() {
	if s.removed || s.stopped {
		return
	}
	s.removed, s.rejected = true, false
	s.supersede()
	s.feed(s.current, unit.Event{Kind: unit.Drain})
}

func (s *step) stop() {
	s.stopped = true
	s.supersede()
	for _, g := range append(slices.Clone(s.retired), s.current) {
		s.feed(g, unit.Event{Kind: unit.Stop})
	}
}

// use says whether the handler has tasks, to the generations that are stopped when it has none.
func (s *step) use(inUse bool) {
	s.inUse = inUse
	kind := unit.Unused
	if inUse {
		kind = unit.Used
	}
	if s.current.program.Policy.IdleTimeout > 0 {
		s.feed(s.current, unit.Event{Kind: kind})
	}
	if s.next != nil && s.next.program.Policy.IdleTimeout > 0 {
		s.feed(s.next, unit.Event{Kind: kind})
	}
}

// decide lets the next generation take over when it can, and gives it up when it cannot.
func (s *step) decide() {
	g := s.next
	if g == nil {
		return
	}
	switch {
	case g.unit.Full(), g.unit.State() == unit.Ready && s.current.unit.State() != unit.Ready:
		old := s.current
		s.current, s.next, s.rejected = g, nil, false
		s.act(TakeOver, g)
		s.retire(old)
	case g.failures >= giveUpAfter, g.unit.State() == unit.Quarantined:
		s.next, s.rejected = nil, true
		s.act(GiveUp, g)
		s.retire(g)
	}
}

// forget drops the generations that have ended.
func (s *step) forget() {
	s.retired = slices.DeleteFunc(s.retired, func(g *generation) bool {
		over := g.unit.State() == unit.Stopped
		if over {
			s.act(Forget, g)
		}
		return over
	})
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

func (r *Rollout) find(id int64) *generation {
	switch {
	case r.current.id == id:
		return r.current
	case r.next != nil && r.next.id == id:
		return r.next
	}
	for _, g := range r.retired {
		if g.id == id {
			return g
		}
	}
	return nil
}

// availability of a handler in each state. An unhealthy one is being replaced, an idle one starts with the next task.
func availability(s unit.State) dispatch.Availability {
	switch s {
	case unit.Ready, unit.Idle:
		return dispatch.Available
	case unit.Starting, unit.Unhealthy, unit.BackingOff:
		return dispatch.Recovering
	}
	return dispatch.Unavailable
}
