package event

import (
	"cmp"
	"context"
	"log/slog"
)

// States returns the types that are not of single tasks or streams.
func States() []Type {
	var states []Type
	for _, t := range Types() {
		if t.class() == ofStates {
			states = append(states, t)
		}
	}
	return states
}

// Log writes the events of r to log until ctx ends, and then those that are still there. Nobody who emits waits for it.
// What happens to a single task is logged one level lower than it was emitted with.
func Log(ctx context.Context, r *Reader, log *slog.Logger) {
	for {
		item, err := r.Next(ctx)
		if err != nil {
			break
		}
		logItem(log, item)
	}
	for item, ok := r.TryNext(); ok; item, ok = r.TryNext() {
		logItem(log, item)
	}
}

func logItem(log *slog.Logger, i Item) {
	ctx := context.Background()
	if i.Missed > 0 {
		log.Warn("the log could not keep up and lacks events", "missed", i.Missed)
	}
	h := log.Handler()
	level := i.Level
	if i.Type.class() == ofTasks { // there may be thousands a second
		level -= slog.LevelInfo - slog.LevelDebug
	}
	if !h.Enabled(ctx, level) {
		return
	}
	message, reason := i.Reason, ""
	if m := messages[i.Type]; m != "" && (i.Level < slog.LevelWarn || message == "") {
		message, reason = m, i.Reason
	}
	record := slog.NewRecord(i.Time, level, cmp.Or(message, i.Type.String()), 0)
	for _, a := range []slog.Attr{
		slog.String("agent", i.Agent), slog.String("handler", i.Handler), slog.String("task", i.TaskID),
		slog.String("state", i.State), slog.String("reason", reason),
	} {
		if a.Value.String() != "" {
			record.AddAttrs(a)
		}
	}
	if i.PID != 0 {
		record.AddAttrs(slog.Int("pid", i.PID))
	}
	if i.Duration != 0 {
		record.AddAttrs(slog.Duration("took", i.Duration))
	}
	record.AddAttrs(i.Details...)
	_ = h.Handle(ctx, record) // there is nowhere to say that the log cannot be written
}

// messages of the types that are logged under a text of their own. Where an event is a warning or an error, its reason is
// the message, like that of the types that are not here.
var messages = [afterLast]string{
	TaskAccepted: "task accepted", TaskStarted: "task started", TaskEnded: "task ended", TaskRefused: "task refused",
	StreamOpened: "stream opened", StreamClosed: "stream closed",
	AgentState: "agent state", HandlerState: "handler state", ProcessStarted: "handler is ready",
	ProcessExited: "handler process has ended", ConfigReloaded: "configuration reloaded", Drain: "drain",
}
