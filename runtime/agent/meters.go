package agent

import (
	"sync/atomic"
	"time"
)

// Meters are told how long things take. Their members may be nil; they are called often, so they must be quick.
type Meters struct {
	// Published: a message was published, from the first attempt until the network had acknowledged it.
	Published func(took time.Duration)
	// Delivered: the network has the outcome of a task; since it was decided, and since the task arrived.
	Delivered func(agent, taskID string, took, total time.Duration)
	// Streamed: so many bytes of a live stream were written by a handler, or read by one, which is inbound.
	Streamed func(agent string, inbound bool, bytes int)
}

// traffic counts live streams: those that tasks have now, and the bytes of all that there have been.
type traffic struct{ open, inbound, outbound atomic.Int64 }

// undelivered says since when each outcome waits for the network to acknowledge it, by the id of its task.
type undelivered map[string]time.Time

// oldest is the time of the one that has waited longest, zero when there is none.
func (u undelivered) oldest() (oldest time.Time) {
	for _, since := range u {
		if oldest.IsZero() || since.Before(oldest) {
			oldest = since
		}
	}
	return oldest
}

// OldestOutcome is since when the outcome that has waited longest waits for the network to acknowledge it; zero when none
// does.
func (a *Agent) OldestOutcome() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.outbox.oldest()
}

// meterDelivery tells how long an outcome took.
func (j *job) meterDelivery(decided time.Time) {
	if told := j.agent.cfg.Meters.Delivered; told != nil && !decided.IsZero() {
		now := j.agent.cfg.Now()
		told(j.agent.name(), j.task.ID, now.Sub(decided), now.Sub(j.since))
	}
}
