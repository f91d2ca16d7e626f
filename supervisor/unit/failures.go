package unit

import (
	"slices"
	"time"
)

// failures is what is remembered of failed processes. It decides when the next one may be started.
type failures struct {
	// restarts are the times of counted restarts inside the window, oldest first; owed are failures whose restart is
	// still to come. Together they may not exceed the limit.
	restarts []time.Time
	owed     int
	total    int64 // counted restarts ever
	inARow   int   // failures since the last stable run
	notUntil time.Time

	quarantined bool
	probing     bool // a quarantined handler is being tried
	probeAt     time.Time
}

// fail counts a failure and decides between a delayed restart and quarantine.
func (u *Unit) fail(r Reason, up time.Duration, jitter float64, now time.Time) {
	if up >= u.policy.StableAfter {
		u.inARow = 0
	}
	u.inARow++
	u.restarts = slices.DeleteFunc(u.restarts, func(t time.Time) bool { return now.Sub(t) >= u.policy.Window })
	if r.hopeless() || u.probing || len(u.restarts)+u.owed >= u.policy.MaxRestarts*u.instances {
		u.quarantined, u.probing = true, false
		u.owed = 0
		u.probeAt = now.Add(u.policy.ProbeEvery)
		return
	}
	u.owed++
	u.notUntil = now.Add(u.policy.delay(u.inARow, jitter))
}
