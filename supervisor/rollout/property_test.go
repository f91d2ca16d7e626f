package rollout

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// simulated is a generation as the one who carries the actions out sees it.
type simulated struct {
	decided  bool           // it has taken over, was given up, or was superseded
	alive    map[int64]bool // its processes; true for one that is ready and may be given tasks
	timer    time.Time
	retiring bool
}

// simulation carries out what a rollout decides and checks it.
type simulation struct {
	*rapid.T
	r           *Rollout
	now         time.Time
	generations map[int64]*simulated
	current     int64
}

func (s *simulation) step(e Event) {
	before, working := s.r.Availability(), s.current
	actions := s.r.Step(e, s.now)
	for _, a := range actions {
		s.carryOut(a)
	}
	given := slices.ContainsFunc(actions, func(a Action) bool { return a.Kind == GiveUp })
	if given && (s.current != working || s.generations[working].retiring) {
		s.Fatal("a generation was given up, and the one before does not stay")
	}
	if s.current != s.r.Current() {
		s.Fatalf("%d is current, and %d has taken over last", s.r.Current(), s.current)
	}
	wanted := e.Kind == Deploy || e.Kind == Restart || e.Kind == Unused || e.Kind == Start || given ||
		e.Kind == OfUnit && (e.Unit.Kind == unit.ProcessReady || e.Unit.Kind == unit.Timer || e.Unit.Kind == unit.ProcessIdle || e.Unit.Kind == unit.ProcessWorn)
	if wanted && before == dispatch.Available && s.r.Availability() != dispatch.Available {
		s.Fatalf("%+v takes away what works", e)
	}
	s.checkProcesses()
}

func (s *simulation) carryOut(a Action) {
	if a.Kind == NewGeneration {
		if s.generations[a.Generation] != nil || s.r.stopped {
			s.Fatalf("generation %d must not begin", a.Generation)
		}
		s.generations[a.Generation] = &simulated{alive: map[int64]bool{}}
		return
	}
	g := s.generations[a.Generation]
	if g == nil {
		s.Fatalf("%+v is about a generation that is not there", a)
	}
	switch a.Kind {
	case TakeOver, GiveUp, Supersede:
		if g.decided {
			s.Fatalf("%+v, which was decided before", a)
		}
		g.decided = true
		if a.Kind == TakeOver {
			s.generations[s.current].retiring = true
			s.current = a.Generation
		} else {
			g.retiring = true
		}
	case Forget:
		if len(g.alive) > 0 || !g.retiring {
			s.Fatalf("generation %d is forgotten with %d processes", a.Generation, len(g.alive))
		}
		delete(s.generations, a.Generation)
	case ForUnit:
		s.carryOutUnit(g, a.Unit)
	}
}

func (s *simulation) carryOutUnit(g *simulated, a unit.Action) {
	switch a.Kind {
	case unit.StartProcess:
		if g.retiring || s.r.stopped {
			s.Fatal("a process is started for what is over")
		}
		g.alive[a.Process] = false
	case unit.DrainProcess, unit.StopProcess, unit.KillProcess:
		if _, ok := g.alive[a.Process]; !ok {
			s.Fatalf("%+v is about a process that is not there", a)
		}
		g.alive[a.Process] = false
	case unit.SetTimer:
		g.timer = a.At
	}
}

// checkProcesses compares what a dispatcher may give tasks to with what the units know: it asks none of them for a task.
func (s *simulation) checkProcesses() {
	for id, g := range s.generations {
		for process, ready := range g.alive {
			if state := s.r.ProcessState(id, process); ready != (state == unit.Ready) {
				s.Fatalf("process %d/%d is %v, and takes tasks: %v", id, process, state, ready)
			}
		}
	}
	if _, ok := s.generations[s.current]; !ok {
		s.Fatal("the current generation is forgotten")
	}
}

// live draws a generation that is there and one of its processes, 0 if it has none.
func (s *simulation) live() (int64, *simulated, int64) {
	ids := s.ids()
	id := rapid.SampledFrom(ids).Draw(s.T, "generation")
	var processes []int64
	for process := range s.generations[id].alive {
		processes = append(processes, process)
	}
	slices.Sort(processes)
	if len(processes) == 0 {
		return id, s.generations[id], 0
	}
	return id, s.generations[id], rapid.SampledFrom(processes).Draw(s.T, "process")
}

// ofProcess makes something happen to a process.
func (s *simulation) ofProcess() {
	id, g, process := s.live()
	if process == 0 {
		return
	}
	e := unit.Event{
		Process: process, Jitter: rapid.Float64Range(0, 1).Draw(s.T, "jitter"),
		Kind: rapid.SampledFrom([]unit.EventKind{
			unit.ProcessReady, unit.ProcessReady, unit.ProcessExited, unit.ProcessUnhealthy, unit.ProcessTainted, unit.ProcessIdle, unit.ProcessWorn,
		}).Draw(s.T, "what"),
	}
	state := s.r.ProcessState(id, process)
	switch e.Kind {
	case unit.ProcessReady:
		if state == unit.Starting {
			g.alive[process] = true
		}
	case unit.ProcessExited:
		e.Reason = rapid.SampledFrom([]unit.Reason{unit.Requested, unit.ExitCode, unit.Handshake, unit.Checksum}).Draw(s.T, "reason")
		if state == unit.Ready || state == unit.Starting {
			e.Reason = max(e.Reason, unit.ExitCode) // nobody asked it to end
		}
		delete(g.alive, process)
	}
	s.step(Event{Kind: OfUnit, Generation: id, Unit: e})
}

func (s *simulation) timers() {
	for _, id := range s.ids() {
		if g := s.generations[id]; g != nil && !g.timer.IsZero() && !s.now.Before(g.timer) {
			g.timer = time.Time{}
			s.step(Event{Kind: OfUnit, Generation: id, Unit: unit.Event{Kind: unit.Timer}})
		}
	}
}

func (s *simulation) ids() []int64 {
	var ids []int64
	for id := range s.generations {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Whatever happens in whatever order: there is one current generation; nothing that was asked for takes away what works;
// one that is given up never ends the one before; each generation is decided about once and is forgotten once all of its
// processes have ended, at the end of the handler at the latest.
func TestPropertyRollout(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		program := func() Program {
			id := rapid.Int64Range(1, 4).Draw(t, "program")
			return Program{
				ID: id, Content: string(rune('a' + id/2)), Instances: int(1 + id%2),
				Policy: unit.Policy{MaxRestarts: 2, IdleTimeout: time.Duration(id%3) * 20 * time.Second},
			}
		}
		s := &simulation{T: t, r: New(program()), now: time.Unix(0, 0), current: 1}
		s.generations = map[int64]*simulated{1: {decided: true, alive: map[int64]bool{}}}
		if rapid.Bool().Draw(t, "started") {
			s.step(Event{Kind: Start})
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			s.now = s.now.Add(time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "wait")))
			s.timers()
			switch rapid.IntRange(0, 9).Draw(t, "event") {
			case 0:
				s.step(Event{Kind: Deploy, Program: program()})
			case 1:
				s.step(Event{Kind: rapid.SampledFrom([]EventKind{Start, Restart, Used, Unused}).Draw(t, "kind")})
			case 2:
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					s.step(Event{Kind: Remove})
				}
			default:
				s.ofProcess()
			}
		}
		s.end()
	})
}

// end stops the handler and lets its processes end.
func (s *simulation) end() {
	kind := rapid.SampledFrom([]EventKind{Stop, Remove}).Draw(s.T, "end")
	s.step(Event{Kind: kind})
	for range 2 { // the first pass may retire a generation
		for _, id := range s.ids() {
			g := s.generations[id]
			for g != nil && len(g.alive) > 0 {
				for process := range g.alive {
					delete(g.alive, process)
					s.step(Event{Kind: OfUnit, Generation: id, Unit: unit.Event{Kind: unit.ProcessExited, Process: process, Reason: unit.Requested}})
				}
			}
		}
	}
	if ids := s.ids(); len(ids) != 1 || ids[0] != s.current || s.r.State() != unit.Stopped {
		s.Fatalf("at the end there are the generations %v, and the handler is %v", ids, s.r.State())
	}
	if kind == Remove && !s.r.Ended() {
		s.Fatal("the removed handler has not ended")
	}
}

// TestPropertyTakeover: a program that works takes over, whatever happened before, and one that fails does not.
func TestPropertyTakeover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &simulation{T: t, r: New(Program{ID: 1, Instances: rapid.IntRange(1, 2).Draw(t, "instances")}), now: time.Unix(0, 0), current: 1}
		s.generations = map[int64]*simulated{1: {decided: true, alive: map[int64]bool{}}}
		s.step(Event{Kind: Start})
		for range rapid.IntRange(0, 30).Draw(t, "before") {
			s.now = s.now.Add(time.Second)
			s.timers()
			s.ofProcess()
		}
		worked := s.r.current.works()
		s.step(Event{Kind: Deploy, Program: Program{ID: 2, Instances: 1}})
		target := s.r.Target()
		good := rapid.Bool().Draw(t, "good")
		for i := 0; s.r.Outcome(target, 0) == Pending; i++ {
			if i > 1000 {
				t.Fatal("nothing is decided")
			}
			s.now = s.now.Add(time.Second)
			s.timers()
			g := s.generations[target]
			if g == nil {
				continue
			}
			for process, ready := range g.alive {
				if ready || s.r.ProcessState(target, process) != unit.Starting {
					continue
				}
				e := unit.Event{Kind: unit.ProcessReady, Process: process}
				if g.alive[process] = good; !good {
					e.Kind, e.Reason = unit.ProcessExited, unit.Handshake
					delete(g.alive, process)
				}
				s.step(Event{Kind: OfUnit, Generation: target, Unit: e})
				break
			}
		}
		want := Runs
		switch {
		case !good && worked:
			want = GivenUp
		case !good:
			want = Failed
		}
		if got := s.r.Outcome(target, 0); got != want {
			t.Fatalf("outcome %v, want %v", got, want)
		}
	})
}
