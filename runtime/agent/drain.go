package agent

import (
	"time"

	"github.com/blocksd/blocksd/dispatch"
)

// drain ends the service in the order that loses nothing. The network learns at once that the agent is full; tasks that
// it sent before it knew are taken for a short while, because a consumer should not see that a daemon restarts. The agent
// does not leave while tasks run, see attend.
func (a *Agent) drain() {
	t := a.cfg.Timeouts
	a.mu.Lock()
	a.phase = draining
	a.refuseFrom = a.cfg.Now().Add(min(t.Settle, a.cfg.Drain))
	a.announceSlots()
	a.updateLocked()
	linger := a.linger
	a.mu.Unlock()
	if linger != nil {
		select {
		case <-a.whenIdle():
		case <-linger:
		}
	}
	if await(a.whenIdle(), a.cfg.Drain) {
		return
	}
	a.endTasks(dispatch.CancelDrain)
	if await(a.whenIdle(), a.cfg.CancelGrace+t.Terminals) {
		return
	}
	for _, j := range a.snapshot() {
		j.stopTimers()
		info := j.info()
		a.log.Error("stopping although a task is not over", "task", info.TaskID, "state", info.State)
	}
}

// endTasks asks every task to end, also those that have their slot and are not known yet: begin looks at asked.
func (a *Agent) endTasks(reason dispatch.CancelReason) {
	a.mu.Lock()
	a.asked = reason
	a.mu.Unlock()
	for _, j := range a.snapshot() {
		j.cancel(reason)
	}
}

// Linger lets running tasks go on for as long as they take when the agent drains, until the channel closes; from then on
// Config.Drain counts. It is for an agent that makes place for another while the daemon goes on, and to be called before
// the end of Run's context.
func (a *Agent) Linger(until <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.linger = until
}

// awaitWork waits for the goroutines of tasks, whose contexts have ended. A call that does not return in spite of that
// is the Dispatcher's defect and must not keep the daemon alive.
func (a *Agent) awaitWork() {
	done := make(chan struct{})
	go func() {
		a.work.Wait()
		close(done)
	}()
	if !await(done, a.cfg.Timeouts.CallEnd) {
		a.log.Error("a handler's call did not return after it was ended; leaving it behind", "waited", a.cfg.Timeouts.CallEnd)
	}
}

// whenIdle returns a channel that is closed once no task and no refusal is in flight.
func (a *Agent) whenIdle() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.idle == nil {
		a.idle = make(chan struct{})
	}
	idle := a.idle
	a.checkIdle()
	return idle
}

// checkIdle closes idle if there is nothing in flight. mu is held.
func (a *Agent) checkIdle() {
	if a.idle != nil && len(a.jobs) == 0 && a.running == 0 && a.refusing == 0 {
		// From here on the agent is leaving, and what it took now it would not end. What it leaves alone the network gives
		// to another instance when it has left.
		a.leaving = true
		close(a.idle)
		a.idle = nil
	}
}

// await reports whether done closed within d.
func await(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}
