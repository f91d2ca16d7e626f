package daemon

import (
	"context"
	"fmt"

	"github.com/blocksd/blocksd/runtime/agent"
)

// A drained daemon has no agent on the network but goes on: its handlers run, its control socket answers. Agents serve in
// rounds, from one undrain to the next drain.

// round is the time between two drains, for all agents.
type round struct {
	// ctx ends with the round.
	ctx context.Context
	end context.CancelFunc
}

// reasonDrained is why an agent is not online in a drained daemon.
const reasonDrained = "the daemon is drained; blocksd undrain brings the agent back"

// Drain implements control.Daemon.
func (d *Daemon) Drain(ctx context.Context) error {
	d.mu.Lock()
	if !d.drained {
		d.cfg.Log.Info("daemon is drained, on request")
		d.drained = true
		if d.round != nil {
			d.round.end()
		}
	}
	d.mu.Unlock()
	d.changed.broadcast()
	for {
		changed := d.changed.wait()
		left := true
		for _, s := range d.everyone() {
			left = left && (s.get() == nil || s.isFinal())
		}
		d.mu.Lock()
		undrained := !d.drained
		d.mu.Unlock()
		if left || undrained {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("drain: %w", ctx.Err())
		}
	}
}

// Undrain implements control.Daemon.
func (d *Daemon) Undrain() {
	d.mu.Lock()
	if d.drained {
		d.cfg.Log.Info("daemon serves again, on request")
		d.drained, d.round = false, nil
	}
	d.mu.Unlock()
	d.changed.broadcast()
}

// whyRetired is why an agent of a round that is over is not online.
func (d *Daemon) whyRetired() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drained {
		return reasonDrained
	}
	return "the agent connects anew"
}

// nextRound returns the round that is on, or the next one. It is nil when ctx, which is that of all agents, has ended.
func (d *Daemon) nextRound(ctx context.Context, s *served) *round {
	for {
		changed := d.changed.wait()
		d.mu.Lock()
		if ctx.Err() != nil || s.told() {
			d.mu.Unlock()
			return nil
		}
		if !d.drained {
			if d.round == nil {
				r := &round{}
				r.ctx, r.end = context.WithCancel(ctx)
				d.round = r
			}
			r := d.round
			d.mu.Unlock()
			return r
		}
		d.mu.Unlock()
		s.wait(agent.StateOffline, reasonDrained)
		select {
		case <-changed:
		case <-s.quit:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
