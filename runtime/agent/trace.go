package agent

import (
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/wire"
)

// traceOf says in the task where its handler is in a trace, and returns what its event says of it: nil where it is not
// traced. It only computes, because it is on the way of each task.
func (a *Agent) traceOf(t *wire.Task) *event.Trace {
	caller := t.CallerTrace()
	if !a.cfg.Trace {
		setTrace(t, caller)
		return nil
	}
	trace := wire.TraceTask(a.cfg.InstanceID, t.ID, caller, a.cfg.TraceRatio)
	setTrace(t, trace.Handler)
	if trace.Task.Unrecorded {
		return nil
	}
	return &event.Trace{ID: trace.Task.ID, Task: trace.Task.Span, Handler: trace.Handler.Span, Parent: trace.Parent.Span}
}

func setTrace(t *wire.Task, trace wire.Trace) {
	if !trace.IsZero() {
		t.TraceContext = map[string]string{wire.TraceParent: trace.String()}
	}
}
