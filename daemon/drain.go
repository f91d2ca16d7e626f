package daemon

import (
	"context"
	"fmt"

	"github.com/blocksd/blocksd/event"
)

// A drained daemon has no agent on the network but goes on: its handlers run, its control socket answers. Undrain begins
// the next session.

// reasonDrained is why an agent is not online in a drained daemon.
const reasonDrained = "the daemon is drained; blocksd undrain brings the agent back"

// Drain implements control.Daemon.
func (d *Daemon) Drain(ctx context.Context) error {
	changes := d.events.Follow(event.AgentState, event.Drain)
	defer changes.Close()
	if d.sessions.drain() {
		d.events.Emit(event.Event{Type: event.Drain, State: "draining", Reason: "an operator asked the daemon to drain"})
	}
	for {
		left := true
		for _, s := range d.served.all() {
			left = left && !s.takesPart()
		}
		if left || !d.sessions.isDrained() {
			return nil
		}
		if _, err := changes.Next(ctx); err != nil {
			return fmt.Errorf("drain: %w", err)
		}
	}
}

// Undrain implements control.Daemon.
func (d *Daemon) Undrain() {
	if d.sessions.undrain() {
		d.events.Emit(event.Event{Type: event.Drain, State: "serving", Reason: "an operator asked the daemon to serve again"})
	}
}

// whyRetired is why an agent of a session that is over is not online.
func (d *Daemon) whyRetired() string {
	if d.sessions.isDrained() {
		return reasonDrained
	}
	return "the agent connects anew"
}
