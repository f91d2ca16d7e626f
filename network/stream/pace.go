package stream

import "time"

// pacer says when the next message may go out. It is a token bucket. A fixed rate always holds. Otherwise the rate is the
// highest that readers can follow, until the network says that it gets too much: from then on the rate falls at each such
// answer and rises again while there is none.
type pacer struct {
	fixed   bool
	rate    float64 // messages a second
	ceiling float64
	burst   float64
	// turn is how long the slowest answer took lately; 0 before the first. What kept it is likely to keep readers.
	turn time.Duration
	// tokens as of at.
	tokens float64
	at     time.Time
	// hold is until when nothing may go out, because the network said so.
	hold time.Time
	// second counts what has gone out since secondAt, last what went out in the second before.
	second, last int
	secondAt     time.Time
}

const (
	// fastest is the highest rate. The network keeps 100 messages of a channel, so a reader that does not ask for 40 ms
	// may miss some.
	fastest = 2000.0
	// slowest is the rate below which the pacer does not look: what PubNub advises for one channel at the least.
	slowest = 10.0
	// slower is by how much the rate falls when the network gets too much, faster by how much it rises in a second.
	slower, faster = 0.75, 1.15
	// fastBurst is how many messages may go out at once at the highest rate, after a stall: few, so that the 40 ms hold then
	// as well.
	fastBurst = 16
	// perTurn is how many messages may go out in the time that the slowest answer took: in twice that time, with a burst, no
	// more than the network keeps.
	perTurn = 42
	// slowBurst is how many, when the network has said that it gets too much.
	slowBurst = 10
)

func newPacer(rate float64, burst int) pacer {
	if rate > 0 {
		return pacer{fixed: true, rate: rate, ceiling: rate, burst: float64(burst), tokens: float64(burst)}
	}
	return pacer{rate: fastest, ceiling: fastest, burst: fastBurst, tokens: fastBurst}
}

// paced reports whether the channel gets less than readers can follow.
func (p *pacer) paced() bool { return p.fixed || p.rate < p.ceiling }

// allowed is the present rate, or less where readers are likely to be slow.
func (p *pacer) allowed() float64 {
	if p.fixed || p.turn <= 0 {
		return p.rate
	}
	return min(p.rate, perTurn/p.turn.Seconds())
}

// ready returns when the next message may go out: now or later.
func (p *pacer) ready(now time.Time) time.Time {
	p.refill(now)
	at := now
	if p.tokens < 1 {
		at = now.Add(time.Duration((1 - p.tokens) / p.allowed() * float64(time.Second)))
	}
	if p.hold.After(at) {
		at = p.hold
	}
	return at
}

// took counts a message that goes out now.
func (p *pacer) took(now time.Time) {
	p.refill(now)
	p.tokens--
	p.second++
}

func (p *pacer) refill(now time.Time) {
	if p.at.IsZero() {
		p.at, p.secondAt = now, now
	}
	if d := now.Sub(p.at); d > 0 {
		p.tokens = min(p.burst, p.tokens+d.Seconds()*p.allowed())
	}
	p.at = now
	if d := now.Sub(p.secondAt); d >= time.Second {
		p.last, p.second, p.secondAt = p.second, 0, now
		if d >= 2*time.Second {
			p.last = 0
		}
		if p.paced() && !p.fixed && !now.Before(p.hold) {
			if p.rate = min(p.rate*faster, p.ceiling); p.rate == p.ceiling {
				p.burst = fastBurst
			}
		}
	}
}

// throttled: the network said that it gets too much, and perhaps for how long it wants nothing.
func (p *pacer) throttled(now time.Time, wait time.Duration) {
	first := !now.Before(p.hold) // messages that were under way together get the same answer
	if at := now.Add(wait); at.After(p.hold) {
		p.hold = at
	}
	if !first || p.fixed {
		return
	}
	rate := p.rate
	if !p.paced() {
		rate = min(rate, float64(max(p.second, p.last)))
	}
	p.rate, p.burst, p.tokens = max(slowest, rate*slower), slowBurst, 0
}
