package agent

import (
	"github.com/blocksd/blocksd/network/wire"
)

// What an agent counts as its tasks go on. The lock of a job may be held.

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

// countOutcome counts an outcome, whose terminal event is now on its way.
func (a *Agent) countOutcome(t wire.Terminal) {
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
}

// countDelivery counts a terminal event that the network has acknowledged, or that was given up.
func (a *Agent) countDelivery(delivered bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Outbox--
	if !delivered {
		a.counts.Undelivered++
	}
	// The slot was announced before the terminal. A network that frees it with the first state that follows the terminal
	// would otherwise wait for the next task or heartbeat.
	if a.conn.presence != nil {
		a.conn.presence.Resync()
	}
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
