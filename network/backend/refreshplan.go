package backend

import "time"

// When a consumer's token is renewed ahead of its end.
const (
	// defaultTokenLife is that of a token whose life is not announced.
	defaultTokenLife = time.Minute
	// renewNumerator and renewDenominator are the part of its life after which a token is renewed.
	renewNumerator, renewDenominator = 4, 5
	// renewSoonest keeps a network that gives very short tokens from being asked all the time.
	renewSoonest = time.Second
	// renewTries is how often in a row a renewal is tried. After the n-th failure there is a pause of n·renewPause.
	renewTries = 3
	renewPause = 5 * time.Second
)

// refreshPlan decides when a token is renewed ahead of its end, and when that is given up. It is pure: the clock is its
// caller's.
type refreshPlan struct {
	due      time.Time // zero: not by itself any more
	failures int       // in a row
}

// stored notes a new token that was asked for at some time.
func (p *refreshPlan) stored(asked time.Time, life time.Duration) {
	if life <= 0 {
		life = defaultTokenLife
	}
	// Divided first: a life may be years.
	*p = refreshPlan{due: asked.Add(max(life/renewDenominator*renewNumerator, renewSoonest))}
}

// failed notes a renewal ahead of time that failed. gaveUp is true the moment it was the last one.
func (p *refreshPlan) failed(now time.Time) (gaveUp bool) {
	p.failures++
	if p.failures >= renewTries {
		p.due = time.Time{}
		return true
	}
	p.due = now.Add(time.Duration(p.failures) * renewPause)
	return false
}

// overdue reports whether the token should be renewed before its next use.
func (p *refreshPlan) overdue(now time.Time) bool { return !p.due.IsZero() && !now.Before(p.due) }
