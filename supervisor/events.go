package supervisor

import (
	"log/slog"

	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/rollout"
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

// view is what a HandlerState event is about.
type view struct {
	generation     int64
	state          unit.State
	reason         string
	processChanges int // as in handler
}

// emitStateLocked emits a HandlerState event if the state, the reason for it, or the processes that take tasks are not
// what they were at the last event.
func (h *handler) emitStateLocked() {
	g := h.currentLocked()
	v := view{generation: g.id, state: h.rollout.State(), processChanges: h.processChanges}
	if v.state != unit.Ready && v.state != unit.Idle {
		v.reason = g.reason
	}
	if v == h.last {
		return
	}
	h.last = v
	h.emit(event.Event{Type: event.HandlerState, Level: slog.LevelDebug, State: v.state.String(), Reason: v.reason})
}

func (h *handler) emitStarted(p *process) {
	h.emit(event.Event{
		Type: event.ProcessStarted, PID: p.conn.PID(), Duration: h.fleet.config.Now().Sub(p.startedAt),
		Details: []slog.Attr{slog.Int64("generation", p.g.number)},
	})
}

func (h *handler) emitExited(p *process, f *plug.Failure, tail []string) {
	e := event.Event{Type: event.ProcessExited, PID: p.pidLocked()}
	if !p.requested {
		e.Level, e.Reason = slog.LevelError, f.Text
		e.Details = []slog.Attr{slog.String("reason", f.Reason.String())}
		if len(tail) > 0 {
			e.Details = append(e.Details, slog.Any("tail", tail))
		}
	}
	h.emit(e)
}

func (h *handler) emitUnhealthy(pid int, err error) {
	h.emit(event.Event{Type: event.Notice, Level: slog.LevelWarn, PID: pid, Reason: err.Error()})
}

func (h *handler) emitTainted(pid int) {
	h.emit(event.Event{Type: event.Notice, Level: slog.LevelWarn, PID: pid, Reason: "handler process is replaced because it did not let go of a task"})
}

func (h *handler) emitLeftBehind(pid int) {
	h.emit(event.Event{Type: event.Notice, Level: slog.LevelError, PID: pid, Reason: "the handler process could not be ended, even by SIGKILL, and is left behind: find out what it waits for"})
}

func (h *handler) emitBadCard(err error) {
	h.emit(event.Event{
		Type: event.Notice, Level: slog.LevelWarn, Reason: "a card that the handler describes itself with is not used",
		Details: []slog.Attr{slog.Any("err", err)},
	})
}

func (h *handler) emitQuarantine(g *generation) {
	sentence := "handler is quarantined because it failed too often"
	if g.hopeless {
		sentence = "handler is quarantined because restarts cannot help"
	}
	h.emit(event.Event{
		Type: event.Notice, State: "quarantined", Level: slog.LevelError, Reason: sentence,
		Details: []slog.Attr{slog.String("reason", g.reason), slog.Duration("next_try", g.config.Restart.Filled().ProbeEvery)},
	})
}

func (h *handler) emitStarting(g *generation) {
	h.emitRollout(g, rolloutStarting, "a new generation of the handler is started alongside the current one")
}

func (h *handler) emitDone(g *generation) {
	h.emitRollout(g, rolloutDone, "the new generation of the handler takes the tasks from now on")
}

// emitSuperseded says why a generation was not waited for.
func (h *handler) emitSuperseded(g *generation, because rollout.EventKind) {
	why := map[rollout.EventKind]string{
		rollout.Deploy:  "the configuration or the program was changed again",
		rollout.Restart: "a restart was asked for",
		rollout.Remove:  "the handler is removed",
		rollout.Stop:    "the daemon stops",
	}[because]
	h.emitRollout(g, rolloutRejected, "the new generation of the handler is given up because "+why)
}

func (h *handler) emitRejected(notice string) {
	h.emit(event.Event{Type: event.Rollout, Level: slog.LevelError, State: rolloutRejected, Reason: notice})
}

func (h *handler) emitRollout(g *generation, state, sentence string) {
	h.emit(event.Event{
		Type: event.Rollout, State: state, Reason: sentence,
		Details: []slog.Attr{slog.String("sha256", g.config.Content), slog.Int64("generation", g.number)},
	})
}
