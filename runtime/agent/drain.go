package agent

import (
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/runtime/lifecycle"
)

// drain ends the service in the order that loses nothing. The network learns at once that the agent is full; tasks that
// it sent before it knew are taken, because a consumer should not see that a daemon restarts. The agent
// does not leave while tasks run, see runPresence.
func (a *Agent) drain() {
	t := a.cfg.Timeouts
	a.mu.Lock()
	a.checkJournalLocked()
	a.stepLocked(lifecycle.Drain{Open: t.DrainOpen, Within: a.tunables().Drain})
	hold := a.tasks.drainHold
	a.mu.Unlock()
	if hold != nil {
		select {
		case <-a.whenIdle():
		case <-hold:
		}
	}
	if await(a.whenIdle(), a.tunables().Drain) {
		return
	}
	a.cancelAll(dispatch.CancelDrain)
	if await(a.whenIdle(), a.tunables().CancelGrace+t.Terminals) {
		return
	}
	for _, j := range a.snapshot() {
		j.stopTimers()
		info := j.info()
		a.log.Error("stopping although a task is not over", "task", info.TaskID, "state", info.State)
	}
}

// cancelAll asks every task to end, also those that have their slot and are not known yet: begin looks at cancelReason.
func (a *Agent) cancelAll(reason dispatch.CancelReason) {
	a.mu.Lock()
	a.tasks.cancelReason = reason
	a.mu.Unlock()
	for _, j := range a.snapshot() {
		j.cancel(reason)
	}
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
