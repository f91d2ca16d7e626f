package link

import (
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds what a server can make us wait with Retry-After.
const maxRetryAfter = 60 * time.Second

// backoff is the wait after the n-th failure in a row (n from 1): start, doubled each time up to limit, of which the
// upper half is random so that many clients do not return together.
func backoff(n int, start, limit time.Duration, jitter float64) time.Duration {
	d := limit
	if n < 1 {
		n = 1
	}
	if n <= 30 && start<<(n-1) < limit {
		d = start << (n - 1)
	}
	return d/2 + time.Duration(jitter*float64(d/2))
}

// retryAfter reads a Retry-After header in seconds; 0 if there is none that we understand.
func retryAfter(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s <= 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, maxRetryAfter)
}
