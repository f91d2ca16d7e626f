// Package retry has the pauses between attempts: how long they are, and the waiting.
package retry

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Backoff is a pause that doubles from First up to Max. The upper half of each pause is random, so that many clients
// that failed for one common reason do not come back at the same moment.
type Backoff struct {
	First, Max time.Duration
	// Jitter returns a number in [0,1); nil is random.
	Jitter func() float64
}

// Delay returns the pause after the n-th failure in a row, n from 1: between a half and the whole of First·2^(n-1), at
// most Max.
func (b Backoff) Delay(n int) time.Duration {
	d := b.First
	for ; n > 1 && d < b.Max; n-- {
		d *= 2
	}
	d = min(d, b.Max)
	jitter := b.Jitter
	if jitter == nil {
		jitter = rand.Float64
	}
	return d/2 + time.Duration(jitter()*float64(d/2))
}

// Pause waits for d. It returns the error of ctx if ctx ends first, and at once if ctx has ended already.
func Pause(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// After reads a Retry-After header in seconds, at most limit; 0 if there is none that we understand (RFC 9110, 10.2.3;
// its other form, a date, depends on two clocks).
func After(h http.Header, limit time.Duration) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s <= 0 {
		return 0
	}
	if s > int(limit/time.Second) {
		return limit
	}
	return time.Duration(s) * time.Second
}
