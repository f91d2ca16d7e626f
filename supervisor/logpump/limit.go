package logpump

import (
	"sync"
	"time"
)

// The rate that a process may log at. Lines above it are counted and dropped; crash records still have them. A long line
// counts as several, one for each lineCost bytes that it has begun.
const (
	lineCost = 2 << 10
	Rate     = 500  // lines a second
	Burst    = 2000 // lines at once
	// reserved lines of a burst are for errors: a flood of small talk does not hide why a handler failed.
	reserved = 200
	// reportAfter is how long dropped lines are counted before a record says how many they were.
	reportAfter = time.Second
)

// limiter is a token bucket, and the number of lines that found none.
type limiter struct {
	mu      sync.Mutex
	tokens  float64     // guarded by mu, like the fields below
	at      time.Time   // of the last refill
	dropped int64       // since the last report
	timer   *time.Timer // of the next report; nil when none is due
	closed  bool
}

// allow takes the tokens of a line of so many bytes, or counts a dropped line and schedules report.
func (l *limiter) allow(now time.Time, size int, urgent bool, report func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.IsZero() {
		l.tokens = Burst
	} else if d := now.Sub(l.at); d > 0 {
		l.tokens = min(Burst, l.tokens+d.Seconds()*Rate)
	}
	l.at = now
	cost := float64(1 + max(size-1, 0)/lineCost)
	floor := cost
	if !urgent {
		floor += reserved
	}
	if l.tokens >= floor {
		l.tokens -= cost
		return true
	}
	l.dropped++
	if l.timer == nil && !l.closed {
		l.timer = time.AfterFunc(reportAfter, report)
	}
	return false
}

// take returns the number of dropped lines and begins a new count. With closed nothing is reported later.
func (l *limiter) take(closed bool) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.closed = l.closed || closed
	n := l.dropped
	l.dropped = 0
	return n
}
