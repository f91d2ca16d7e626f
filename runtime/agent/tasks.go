package agent

import (
	"slices"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/admission"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/runtime/lifecycle"
)

// taskTable are the tasks that an agent has something to do with. Agent.mu guards it.
type taskTable struct {
	jobs     map[string]*job // in flight, by id
	accepted int64           // numbers the jobs by age
	running  int             // jobs that hold a slot
	refusing int             // answers to other tasks that are on their way
	finished recentOutcomes  // the outcomes of tasks that ended recently
	// recovering are the tasks from before a restart whose outcome is not out yet, by id.
	recovering map[string]*journal.Entry

	// cancelReason is why every task in flight was asked to end, CancelUnspecified before; one that is on its way in is
	// asked too.
	cancelReason dispatch.CancelReason
	// drainHold, if not nil, holds the time of the drain back until it closes.
	drainHold <-chan struct{}
	idle      chan struct{} // closed when nothing is in flight; nil when nobody waits
}

// find returns a task in flight, nil if there is none with this id.
func (a *Agent) find(taskID string) *job {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tasks.jobs[taskID]
}

// snapshot returns the jobs, the oldest first.
func (a *Agent) snapshot() []*job {
	a.mu.Lock()
	jobs := make([]*job, 0, len(a.tasks.jobs))
	for _, j := range a.tasks.jobs {
		jobs = append(jobs, j)
	}
	a.mu.Unlock()
	slices.SortFunc(jobs, func(x, y *job) int { return int(x.number - y.number) })
	return jobs
}

// knownLocked returns what is known about a task, and its outcome if it is over.
func (t *taskTable) knownLocked(id string, now time.Time) (admission.Known, wire.Terminal) {
	if t.jobs[id] != nil {
		return admission.InFlight, wire.Terminal{}
	}
	if t.recovering[id] != nil {
		return admission.Recovering, wire.Terminal{}
	}
	if outcome, ok := t.finished.recall(id, now); ok {
		return admission.Over, outcome
	}
	return admission.Unknown, wire.Terminal{}
}

// What follows is called as tasks go on; the lock of a job may be held.

// freeSlot gives a slot back and announces it.
func (a *Agent) freeSlot() {
	if a.cfg.Slots != nil {
		a.cfg.Slots.Release()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tasks.running--
	a.checkJournalLocked()
	a.announceSlotsLocked()
}

// countOutcome counts the outcome of a task, whose terminal event is now on its way.
func (a *Agent) countOutcome(id string, t wire.Terminal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch t.State {
	case wire.Completed:
		a.counts.Completed++
	case wire.Canceled:
		a.counts.Canceled++
	default:
		a.counts.Failed++
	}
	a.counts.Outbox++
	a.outbox[id] = a.cfg.Now()
}

// countDelivery counts a terminal event that the network has acknowledged, or that was given up. It returns since when that
// was owed.
func (a *Agent) countDelivery(id string, delivered bool) (since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Outbox--
	since = a.outbox[id]
	delete(a.outbox, id)
	if !delivered {
		a.counts.Undelivered++
	}
	// The slot was announced before the terminal. A network that frees it with the first state that follows the terminal
	// would otherwise wait for the next task or heartbeat.
	if a.conn.presence != nil {
		a.conn.presence.Resync()
	}
	return since
}

// forget forgets a job that is over and remembers its outcome.
func (a *Agent) forget(id string, outcome wire.Terminal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.tasks.jobs, id)
	a.tasks.finished.store(id, outcome, a.cfg.Now())
	a.checkIdleLocked()
	if len(a.tasks.jobs) == 0 && !a.life.Present(false) {
		a.wake() // it stayed for its tasks only
	}
}

// whenIdle returns a channel that is closed once no task and no answer is in flight.
func (a *Agent) whenIdle() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.tasks.idle == nil {
		a.tasks.idle = make(chan struct{})
	}
	idle := a.tasks.idle
	a.checkIdleLocked()
	return idle
}

// checkIdleLocked closes idle if there is nothing in flight.
func (a *Agent) checkIdleLocked() {
	t := &a.tasks
	if t.idle != nil && len(t.jobs) == 0 && t.running == 0 && t.refusing == 0 {
		// From here on the agent is leaving, and what it took now it would not end. What it leaves alone the network gives
		// to another instance when it has left.
		a.stepLocked(lifecycle.Idle{})
		close(t.idle)
		t.idle = nil
	}
}
