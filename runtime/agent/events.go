package agent

import (
	"log/slog"

	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/lifecycle"
)

// What an agent puts on the event bus. That never blocks, so it may be done with any lock held.

// emitState says that the agent has another state, or another reason for it.
func (a *Agent) emitState(s lifecycle.EmitState) {
	a.emit(event.Event{Type: event.AgentState, State: s.State, Reason: s.Reason, Level: levels[s.Level]})
}

var levels = [...]slog.Level{
	lifecycle.Detail: slog.LevelDebug, lifecycle.Info: slog.LevelInfo, lifecycle.Warning: slog.LevelWarn, lifecycle.Error: slog.LevelError,
}

func (a *Agent) emit(e event.Event) {
	e.Agent, e.TaskID = a.name(), wire.CutText(e.TaskID, maxLoggedID)
	a.cfg.Events.Emit(e)
}

// emitRefused says that a task was answered without having been begun.
func (a *Agent) emitRefused(id string, t wire.Terminal) {
	a.emit(event.Event{Type: event.TaskRefused, TaskID: id, Reason: t.Error})
}

// emitEnded says that the outcome of a task is decided and durable.
func (a *Agent) emitEnded(e event.Event, t wire.Terminal) {
	e.Type, e.Handler, e.State, e.Reason = event.TaskEnded, a.cfg.Handler, string(t.State), reasonOf(t)
	a.emit(e)
}

// reasonOf is what a consumer reads about the outcome.
func reasonOf(t wire.Terminal) string {
	switch {
	case t.Error != "":
		return t.Error
	case t.Reason != "":
		return t.Reason
	}
	return t.CompletionReason
}

// emitAcceptedLocked says once that the task is accepted, and that its end is to follow.
func (j *job) emitAcceptedLocked() {
	if j.announced {
		return
	}
	j.announced = true
	j.agent.emit(event.Event{Type: event.TaskAccepted, TaskID: j.task.ID, Duration: j.agent.cfg.Now().Sub(j.since), Trace: j.trace})
}

func (j *job) emitEnded(t wire.Terminal) {
	j.agent.emitEnded(event.Event{TaskID: j.task.ID, Duration: j.agent.cfg.Now().Sub(j.since)}, t)
}

// emitStartedLocked says that a process has the task.
func (j *job) emitStartedLocked() {
	j.agent.emit(event.Event{Type: event.TaskStarted, TaskID: j.task.ID, Handler: j.agent.cfg.Handler, PID: j.machine.PID()})
}

// emitOverdueLocked says that the handler did not end the task when it was asked to.
// A handler that ignores one cancel mostly ignores all, so one such event a minute is emitted.
func (j *job) emitOverdueLocked() {
	a := j.agent
	a.mu.Lock()
	held, ok := a.throttle.allow("overdue", a.cfg.Now())
	a.mu.Unlock()
	if !ok {
		return
	}
	a.emit(event.Event{
		Type: event.Notice, Level: slog.LevelWarn, TaskID: j.task.ID, Handler: a.cfg.Handler, PID: j.machine.PID(),
		Reason:  "The handler did not end the task within its grace, so its call is ended.",
		Details: []slog.Attr{slog.Int("more_like_it", held)},
	})
}

// Bounds of what others may make us repeat.
const (
	maxLoggedID = 128 // bytes of a stranger's task id in the log and in events
	maxVersion  = 64  // bytes of a foreign version or name
)
