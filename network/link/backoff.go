package link

import (
	"time"

	"github.com/blocksd/blocksd/internal/retry"
)

// maxRetryAfter bounds what a server can make us wait with Retry-After.
const maxRetryAfter = 60 * time.Second

// backoff is the pause between attempts of this link, at most limit if that is not 0.
func (l *Link) backoff(limit time.Duration) retry.Backoff {
	t := l.cfg.Timeouts
	b := retry.Backoff{First: t.BackoffStart, Max: t.BackoffCap, Jitter: l.cfg.Jitter}
	if limit > 0 {
		b.Max = min(b.Max, limit)
	}
	return b
}
