package supervisor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Texts for the consumer.
const (
	publicNoProcess = "The handler of this agent is not available."
	publicTwice     = "The task is running already."
	publicCanceled  = "The task was canceled before a handler process was ready."
)

// ErrNoTask is returned by CancelTask for a task that is not here.
var ErrNoTask = errors.New("no such task is with a handler")

// placement is where a task is. Its fields are guarded by Fleet.mu.
type placement struct {
	conn     *plug.Conn    // nil while it waits for a process
	canceled chan struct{} // closed when it was canceled while it waited
}

// Do gives a task to a process of the handler and blocks until the handler's call has ended. The answer is nil or a
// *wire.TaskFailure. While no process is ready but one is expected, the task waits up to Config.Hold. When ctx ends the
// daemon ends the call; a process that does not let go of it is replaced. The port is not used after Do has returned.
func (f *Fleet) Do(ctx context.Context, name string, task *wire.Task, port wire.TaskPort) error {
	h := f.handlers[name]
	if h == nil {
		return noProcess("there is no handler called %q", name)
	}
	pl := &placement{canceled: make(chan struct{})}
	if !f.place(task.ID, pl) {
		return &wire.TaskFailure{Kind: wire.NoProcess, Public: publicTwice, Private: fmt.Sprintf("task %s is with a handler already", task.ID)}
	}
	defer f.remove(task.ID)
	select {
	case <-pl.canceled: // by a cancellation that came first
		return &wire.TaskFailure{Kind: wire.CallEnded, Public: publicCanceled}
	default:
	}
	p, err := h.acquire(ctx, f.config.Hold, pl.canceled)
	if err != nil {
		return err
	}
	return p.conn.Do(ctx, task, port, plug.Hooks{
		Assigned: func() bool { return f.settle(pl, p.conn) },
		Released: func(taint bool) { h.released(p, taint) },
	})
}

// acquire picks a process and counts the task on it.
func (h *handler) acquire(ctx context.Context, hold time.Duration, canceled <-chan struct{}) (*process, error) {
	var timer *time.Timer
	for {
		h.mu.Lock()
		p := h.pickLocked()
		if p != nil {
			p.running++
		}
		state, changed, reason := h.unit.State(), h.changed, h.reason
		h.mu.Unlock()
		if p != nil {
			return p, nil
		}
		if availability(state) == wire.Unavailable {
			return nil, noProcess("handler %s is %v: %s", h.config.Name, state, reason)
		}
		if timer == nil {
			timer = time.NewTimer(hold)
			defer timer.Stop()
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, noProcess("handler %s had no process ready within %v: %s", h.config.Name, hold, reason)
		case <-canceled:
			return nil, &wire.TaskFailure{Kind: wire.CallEnded, Public: publicCanceled}
		case <-ctx.Done():
			return nil, &wire.TaskFailure{Kind: wire.CallEnded, Public: publicCanceled, Private: fmt.Sprintf("the daemon ended the task while it waited for handler %s: %v", h.config.Name, context.Cause(ctx))}
		}
	}
}

// pickLocked returns the ready process with the fewest tasks, nil when there is none.
func (h *handler) pickLocked() *process {
	var best *process
	for _, p := range h.processes {
		if p.conn == nil || p.draining || ended(p.conn) || h.unit.ProcessState(p.id) != unit.Ready {
			continue
		}
		if best == nil || p.running < best.running || p.running == best.running && p.id < best.id {
			best = p
		}
	}
	return best
}

// ended is true as soon as the process is gone, which is a moment before the unit knows.
func ended(c *plug.Conn) bool {
	select {
	case <-c.Done():
		return true
	default:
		return false
	}
}

// released counts a task off a process, once the process has let go of it.
func (h *handler) released(p *process, taint bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.running--
	if p.gone {
		return
	}
	if taint {
		h.log.Warn("handler process is replaced because it did not let go of a task", "pid", p.conn.PID())
		h.stepLocked(unit.Event{Kind: unit.ProcessTainted, Process: p.id})
	}
	if p.draining && p.running == 0 {
		h.stepLocked(unit.Event{Kind: unit.ProcessIdle, Process: p.id})
	}
}

// CancelTask asks the handler to end a task; it returns when the handler has been told. A task that waits for a process
// ends at once. ErrNoTask when it is neither; if its Do comes within the grace it ends at once, because a cancellation may
// overtake the task.
func (f *Fleet) CancelTask(ctx context.Context, taskID string, reason wire.CancelReason, grace time.Duration) error {
	f.mu.Lock()
	pl := f.tasks[taskID]
	var conn *plug.Conn
	if pl != nil {
		if conn = pl.conn; conn == nil {
			select {
			case <-pl.canceled: // before
			default:
				close(pl.canceled)
			}
		}
	} else {
		f.rememberLocked(taskID, grace)
	}
	f.mu.Unlock()
	if pl == nil {
		return ErrNoTask
	}
	if conn == nil {
		return nil
	}
	if err := conn.CancelTask(ctx, taskID, reason, grace); err != nil && !errors.Is(err, plug.ErrNoTask) {
		return err
	}
	return nil
}

// maxEarly bounds the memory of cancellations of tasks that are not here.
const maxEarly = 1024

func (f *Fleet) rememberLocked(taskID string, grace time.Duration) {
	now := f.config.Now()
	if len(f.early) >= maxEarly {
		maps.DeleteFunc(f.early, func(_ string, until time.Time) bool { return !now.Before(until) })
	}
	if len(f.early) < maxEarly {
		f.early[taskID] = now.Add(grace)
	}
}

func (f *Fleet) place(taskID string, pl *placement) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.tasks[taskID]; ok {
		return false
	}
	f.tasks[taskID] = pl
	if until, ok := f.early[taskID]; ok {
		delete(f.early, taskID)
		if f.config.Now().Before(until) {
			close(pl.canceled)
		}
	}
	return true
}

// settle is false when the task was canceled while it waited.
func (f *Fleet) settle(pl *placement, conn *plug.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-pl.canceled:
		return false
	default:
		pl.conn = conn
		return true
	}
}

func (f *Fleet) remove(taskID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tasks, taskID)
}

// placed reports whether some process works on a task.
func (f *Fleet) placed(taskID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	pl := f.tasks[taskID]
	return pl != nil && pl.conn != nil
}

func noProcess(format string, args ...any) *wire.TaskFailure {
	return &wire.TaskFailure{Kind: wire.NoProcess, Public: publicNoProcess, Private: fmt.Sprintf(format, args...)}
}
