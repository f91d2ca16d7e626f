package supervisor

import (
	"log/slog"

	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// States of a Rollout event. Each "starting" is followed by one "done" or "rejected"; a generation that replaces one
// which does not work takes over at once, and has only a "done".
const (
	rolloutStarting = "starting"
	rolloutDone     = "done"
	rolloutRejected = "rejected"
)

// emit puts an event of the handler on the bus. It never blocks, so it may be called with any lock held.
func (h *handler) emit(e event.Event) {
	e.Handler = h.name
	h.fleet.config.Events.Emit(e)
}

// facts are what the events of a rollout say about the generation.
func (g *generation) facts() []slog.Attr {
	return []slog.Attr{slog.String("sha256", g.config.Content), slog.Int64("generation", g.number)}
}

func (h *handler) emitDone(g *generation) {
	h.emit(event.Event{Type: event.Rollout, State: rolloutDone, Reason: "the new generation of the handler takes the tasks from now on", Details: g.facts()})
}

// view is what a HandlerState event is about; a view that differs from the last one is emitted.
type view struct {
	generation *generation
	state      unit.State
	reason     string
	// taking counts the changes of the set of processes that take tasks.
	taking int
}

// emitStateLocked emits a HandlerState event if the state, the reason for it, or the processes that take tasks are not
// what they were at the last event.
func (h *handler) emitStateLocked() {
	g := h.current
	v := view{generation: g, state: g.unit.State(), taking: h.taking}
	if v.state != unit.Ready && v.state != unit.Idle {
		v.reason = g.reason
	}
	if v == h.last {
		return
	}
	h.last = v
	h.emit(event.Event{Type: event.HandlerState, Level: slog.LevelDebug, State: v.state.String(), Reason: v.reason})
}
