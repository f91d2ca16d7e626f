package unit

import "time"

// Policy says how a handler that fails is started again. Zero members take the defaults.
type Policy struct {
	// MaxRestarts within Window are allowed for each instance of the handler; one more quarantines it.
	MaxRestarts int           // default 5
	Window      time.Duration // default 60 s
	// The delay before a restart doubles from MinDelay to MaxDelay and is multiplied by a random number in [0,1), so that
	// handlers that fail for one common reason do not come back at the same moment.
	MinDelay time.Duration // default 250 ms
	MaxDelay time.Duration // default 30 s
	// StableAfter is how long a process must have been ready for the delay to begin at MinDelay again.
	StableAfter time.Duration // default 60 s
	// ProbeEvery is how often a quarantined handler is tried once.
	ProbeEvery time.Duration // default 10 min
	// UnhealthyGrace is how long an unhealthy process keeps the tasks that it holds before it is killed.
	UnhealthyGrace time.Duration // default 10 s
	// IdleTimeout stops the processes of a handler that has had no task for so long; the next task starts them. 0: never.
	IdleTimeout time.Duration
	// RecycleAge replaces a process that has been ready for so long, one at a time, once its replacement is ready. 0: never.
	RecycleAge time.Duration
}

// Filled returns p with the defaults in place of zero members.
func (p Policy) Filled() Policy {
	if p.MaxRestarts <= 0 {
		p.MaxRestarts = 5
	}
	for _, d := range []struct {
		member *time.Duration
		value  time.Duration
	}{
		{&p.Window, time.Minute},
		{&p.MinDelay, 250 * time.Millisecond},
		{&p.MaxDelay, 30 * time.Second},
		{&p.StableAfter, time.Minute},
		{&p.ProbeEvery, 10 * time.Minute},
		{&p.UnhealthyGrace, 10 * time.Second},
	} {
		if *d.member <= 0 {
			*d.member = d.value
		}
	}
	return p
}

// delay before restart number n in a row, from 1.
func (p Policy) delay(n int, jitter float64) time.Duration {
	d := p.MinDelay
	for ; n > 1 && d < p.MaxDelay; n-- {
		d *= 2
	}
	return time.Duration(float64(min(d, p.MaxDelay)) * min(max(jitter, 0), 1))
}
