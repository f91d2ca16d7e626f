// Package unit decides when the processes of one handler are started, taken out of use and stopped. It is a pure state
// machine: events and the time go in, actions come out; it starts nothing itself and reads no clock.
package unit

import (
	"time"
)

type phase int

const (
	starting phase = iota + 1
	ready
	retiring // takes no tasks, still works on some; its replacement is being started
	stopping // asked to end
)

type process struct {
	phase     phase
	readyAt   time.Time
	unhealthy bool
	worn      bool // ready, and to be retired when its replacement is ready too
	// retireBy is when a retiring process is killed; zero when it may take its time.
	retireBy time.Time
}

// Unit is the state machine of one handler. It is not safe for concurrent use.
type Unit struct {
	policy    Policy
	instances int

	wanted    bool
	fresh     bool // before Start
	processes map[int64]*process
	last      int64 // number of the process that was started last

	failures
	idleness

	timer time.Time // armed; zero when none is
}

// idleness is what is known of the tasks of a handler that may be stopped while it has none.
type idleness struct {
	inUse   bool
	dormant bool      // stopped for want of tasks
	idleAt  time.Time // when it will be; zero when it will not
}

// New returns a unit that keeps instances processes running once it gets Start.
func New(p Policy, instances int) *Unit {
	return &Unit{policy: p.Filled(), instances: max(instances, 1), fresh: true, processes: map[int64]*process{}}
}

// Step takes one event at time now, which must not go backwards. Events that no longer apply are ignored: the process
// may have ended before the event arrived.
func (u *Unit) Step(e Event, now time.Time) []Action {
	var out []Action
	p := u.processes[e.Process]
	switch e.Kind {
	case Start:
		u.wanted, u.fresh = true, false
	case Stop:
		u.wanted, u.fresh = false, false
		out = u.stopAll(out)
	case Drain:
		u.wanted, u.fresh = false, false
		out = u.retireAll(out)
	case Used:
		u.inUse, u.dormant, u.idleAt = true, false, time.Time{}
	case Unused:
		u.inUse = false
		u.restUnlessUsed(now)
	case Reset:
		u.quarantined, u.probing, u.dormant = false, false, false
		u.restarts, u.owed, u.inARow = nil, 0, 0
		u.notUntil = time.Time{}
	case Timer:
		u.timer = time.Time{}
		out = u.expire(out, now)
	case ProcessReady:
		if p == nil || p.phase != starting {
			break
		}
		p.phase, p.readyAt = ready, now
		u.quarantined, u.probing = false, false
		u.restUnlessUsed(now)
		out = u.retireWorn(out)
	case ProcessUnhealthy:
		if p != nil && p.phase == retiring && !p.unhealthy { // it is replaced already, but may not take its time any more
			p.unhealthy, p.retireBy = true, now.Add(u.policy.UnhealthyGrace)
		}
		if p == nil || p.phase != ready {
			break
		}
		p.phase, p.unhealthy, p.retireBy = retiring, true, now.Add(u.policy.UnhealthyGrace)
		out = append(out, Action{Kind: DrainProcess, Process: e.Process})
		u.fail(Health, now.Sub(p.readyAt), e.Jitter, now)
	case ProcessTainted:
		// Not a failure that counts: otherwise consumers could quarantine a handler by canceling tasks.
		if p == nil || p.phase != ready {
			break
		}
		p.phase = retiring
		out = append(out, Action{Kind: DrainProcess, Process: e.Process})
	case ProcessWorn:
		// One after the other, so that there is one process too many at most.
		if p != nil && p.phase == ready && !u.anyWorn() {
			p.worn = true
		}
	case ProcessIdle:
		if p == nil || p.phase != retiring {
			break
		}
		p.phase = stopping
		out = append(out, Action{Kind: StopProcess, Process: e.Process})
	case ProcessExited:
		if p == nil {
			break
		}
		delete(u.processes, e.Process)
		if !u.wanted || p.phase == retiring || p.phase == stopping {
			break // asked to end, or replaced already
		}
		var up time.Duration
		if p.phase == ready {
			up = now.Sub(p.readyAt)
		}
		u.fail(e.Reason, up, e.Jitter, now)
	}
	out = u.fill(out, now)
	return u.arm(out)
}

// expire carries out what was waiting for the time to come.
func (u *Unit) expire(out []Action, now time.Time) []Action {
	for _, id := range u.ids() {
		p := u.processes[id]
		if p.phase == retiring && !p.retireBy.IsZero() && !now.Before(p.retireBy) {
			p.phase = stopping
			out = append(out, Action{Kind: KillProcess, Process: id})
		}
	}
	if u.wanted && u.quarantined && !u.probing && !now.Before(u.probeAt) {
		u.probing = true
		out = u.start(out)
	}
	if !u.idleAt.IsZero() && !now.Before(u.idleAt) {
		u.idleAt = time.Time{}
		// A handler that fails is not stopped as idle: its failure must stay visible.
		if u.wanted && !u.quarantined && u.count(ready) > 0 {
			u.dormant = true
			out = u.retireAll(out)
		}
	}
	for _, id := range u.ids() {
		if p := u.processes[id]; !u.anyWorn() && u.old(p, now) {
			p.worn = true
		}
	}
	return out
}

func (u *Unit) old(p *process, now time.Time) bool {
	return u.policy.RecycleAge > 0 && p.phase == ready && now.Sub(p.readyAt) >= u.policy.RecycleAge
}

// restUnlessUsed begins the time after which an unused handler is stopped.
func (u *Unit) restUnlessUsed(now time.Time) {
	if u.policy.IdleTimeout > 0 && !u.inUse && u.wanted {
		u.idleAt = now.Add(u.policy.IdleTimeout)
	}
}

// retireWorn takes a worn process out of use if there are enough others.
func (u *Unit) retireWorn(out []Action) []Action {
	for _, id := range u.ids() {
		if p := u.processes[id]; p.worn && p.phase == ready && u.count(ready) > u.instances {
			p.phase = retiring
			out = append(out, Action{Kind: DrainProcess, Process: id})
		}
	}
	return out
}

// retireAll lets the processes finish what they do and takes the others back.
func (u *Unit) retireAll(out []Action) []Action {
	for _, id := range u.ids() {
		switch p := u.processes[id]; p.phase {
		case ready:
			p.phase = retiring
			out = append(out, Action{Kind: DrainProcess, Process: id})
		case starting:
			p.phase = stopping
			out = append(out, Action{Kind: StopProcess, Process: id})
		}
	}
	return out
}

// fill starts the processes that are missing, if they may be started now.
func (u *Unit) fill(out []Action, now time.Time) []Action {
	if !u.wanted || u.quarantined || now.Before(u.notUntil) {
		return out
	}
	for n := u.missing(); n > 0; n-- {
		if u.owed > 0 {
			u.owed--
			u.total++
			u.restarts = append(u.restarts, now)
		}
		out = u.start(out)
	}
	return out
}

func (u *Unit) start(out []Action) []Action {
	u.last++
	u.processes[u.last] = &process{phase: starting}
	return append(out, Action{Kind: StartProcess, Process: u.last})
}

func (u *Unit) stopAll(out []Action) []Action {
	for _, id := range u.ids() {
		if p := u.processes[id]; p.phase != stopping {
			p.phase = stopping
			out = append(out, Action{Kind: StopProcess, Process: id})
		}
	}
	return out
}

// arm asks for the earliest time at which something is to be done.
func (u *Unit) arm(out []Action) []Action {
	var next time.Time
	consider := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for _, p := range u.processes {
		if p.phase == retiring && !p.retireBy.IsZero() {
			consider(p.retireBy)
		}
		if u.wanted && u.policy.RecycleAge > 0 && p.phase == ready && !u.anyWorn() {
			consider(p.readyAt.Add(u.policy.RecycleAge))
		}
	}
	if u.wanted && !u.idleAt.IsZero() {
		consider(u.idleAt)
	}
	switch {
	case !u.wanted:
	case u.quarantined && !u.probing:
		consider(u.probeAt)
	case !u.quarantined && u.missing() > 0:
		consider(u.notUntil)
	}
	if next.Equal(u.timer) {
		return out
	}
	u.timer = next
	return append(out, Action{Kind: SetTimer, At: next})
}
