package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/link"
)

// What an agent looks after while it serves, besides its tasks: the network's clock and the life of its token. Both cost
// a request an hour or less.

// keepTime learns how far the network's clock is ahead of ours, and again from time to time, because clocks drift and are
// set. Until there is an answer the clocks are taken to agree.
func (a *Agent) keepTime(ctx context.Context) {
	warned := false
	for wait := time.Duration(0); retry.Pause(ctx, wait) == nil; {
		err := a.readClock(ctx)
		if err != nil {
			if !warned && ctx.Err() == nil {
				a.log.Warn("the network's clock cannot be read, so deadlines go by the local one for now", "err", err)
			}
			warned, wait = true, min(a.cfg.Timeouts.RetryCap, a.cfg.Timeouts.Clock)
			continue
		}
		warned, wait = false, a.cfg.Timeouts.Clock
	}
}

func (a *Agent) readClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
	defer cancel()
	a.mu.Lock()
	l := a.conn.session.link
	a.mu.Unlock()
	before := a.cfg.Now()
	answer, err := l.Time(ctx)
	if err != nil {
		return err
	}
	return a.setClockOffset(answer, before)
}

// setClockOffset takes a timetoken that was asked for at before and has come now.
func (a *Agent) setClockOffset(timetoken string, before time.Time) error {
	offset, err := clockOffset(timetoken, before, a.cfg.Now())
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn.clockOffset = offset
	return nil
}

// clockOffset returns how far a timetoken, asked for between before and after, is ahead of our clock.
func clockOffset(timetoken string, before, after time.Time) (time.Duration, error) {
	var ticks int64 // of 100 ns
	if _, err := fmt.Sscan(timetoken, &ticks); err != nil {
		return 0, fmt.Errorf("read the network's time %q: %w", timetoken, err)
	}
	return time.Unix(0, ticks*100).Sub(before.Add(after.Sub(before) / 2)), nil
}

// renewShare of a token's life has passed when a new one is asked for: early enough to try many times.
const renewShare = 0.8

// keepToken connects again ahead of the end of the control channel's token, so that the network never has to refuse it.
// An instance that is idle gets no new token with its tasks, and one that is busy needs its polls.
func (a *Agent) keepToken(ctx context.Context) {
	// Spread, so that agents that started together do not connect together.
	spread := 0.1 * a.cfg.Jitter()
	var notBefore time.Time
	for retry.Pause(ctx, a.cfg.Timeouts.Token) == nil {
		a.mu.Lock()
		s, now := a.conn.session, a.cfg.Now().Add(a.conn.clockOffset)
		a.mu.Unlock()
		issued, expires, ok := link.TokenLife(s.link.Token())
		if !ok || now.Before(notBefore) {
			continue // a token of another form is used until it is refused
		}
		life := expires.Sub(issued)
		if now.Before(issued.Add(time.Duration((renewShare + spread) * float64(life)))) {
			continue
		}
		if err := a.reconnect(ctx, s); err != nil && ctx.Err() == nil {
			a.log.Warn("the token of the control channel could not be renewed ahead of its end, trying again", "ends", expires, "err", err)
		}
		// A network that gives the same token again is not asked at every look.
		notBefore = now.Add(max(a.cfg.Timeouts.Token, expires.Sub(now)/4))
	}
}
