package supervisor

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/plug"
)

var _ dispatch.Dispatcher = (*Fleet)(nil)

// Texts for the consumer.
const (
	publicNoProcess = "The handler of this agent is not available."
	publicTwice     = "The task is running already."
	publicCanceled  = "The task was canceled before a handler process was ready."
)

// ErrNoTask is returned by CancelTask for a task that is not here.
var ErrNoTask = errors.New("no such task is with a handler")

// attempts of a task that may be repeated. A task that crashes two processes would crash the third. What a process never
// had is not an attempt.
const attempts = 2

// Do gives a task to a process of the handler and blocks until the handler's call has ended; a process has a pipe task until
// the task is over. The answer is nil or a
// *dispatch.TaskFailure. While no process is ready but one is expected, the task waits up to Config.Hold. When ctx ends the
// daemon ends the call; a process that does not let go of it is replaced. The port is not used after Do has returned.
func (f *Fleet) Do(ctx context.Context, name string, task *wire.Task, port dispatch.TaskPort) error {
	h := f.get(name)
	if h == nil {
		return noProcess("there is no handler called %q", name)
	}
	t, ok := f.tasks.add(task.ID)
	if !ok {
		return &dispatch.TaskFailure{Kind: dispatch.NoProcess, Public: publicTwice, Private: fmt.Sprintf("task %s is with a handler already", task.ID)}
	}
	defer f.tasks.remove(task.ID)
	select {
	case <-t.canceled: // by a cancellation that came first
		return &dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicCanceled}
	default:
	}
	h.enter()
	defer h.leave()
	watched := &watchedPort{TaskPort: port}
	var without []*process // that did not get it
	for attempt := 1; ; {
		p, err := h.acquire(ctx, f.config.Hold, t.canceled, without)
		if err != nil {
			return err
		}
		err = p.conn.Do(ctx, task, watched, plug.Hooks{
			Assigned: func() bool { return f.tasks.assign(t, p.conn) },
			Released: func(taint bool) { h.released(p, taint) },
		})
		var unsent *plug.Unsent
		why := "it did not reach the process"
		switch {
		case err == nil:
			return nil
		case errors.As(err, &unsent):
			err = unsent.TaskFailure
			without = append(without, p)
		case attempt < attempts && crashed(err) && !watched.published.Load() && p.idempotent():
			attempt++
			why = "it may be repeated and has published nothing"
		default:
			return err
		}
		if ctx.Err() != nil || !f.tasks.unassign(t) {
			return err
		}
		h.log.Warn("task is tried on another process, because "+why, "task", task.ID, "err", err)
	}
}

// idempotent reports whether a task that has published nothing may be repeated.
func (p *process) idempotent() bool { return p.g.config.Idempotent || p.conn.Description().Idempotent }

func crashed(err error) bool {
	var f *dispatch.TaskFailure
	return errors.As(err, &f) && f.Kind == dispatch.HandlerCrash
}

// watchedPort notices when a task publishes something; from then on it cannot be repeated unseen.
type watchedPort struct {
	dispatch.TaskPort
	published atomic.Bool
}

func (p *watchedPort) Status(text string) {
	p.published.Store(true)
	p.TaskPort.Status(text)
}

func (p *watchedPort) Artifact(ctx context.Context, a wire.Artifact) error {
	p.published.Store(true)
	return p.TaskPort.Artifact(ctx, a)
}

func (p *watchedPort) CreateStream(ctx context.Context, r dispatch.StreamRequest) (dispatch.Stream, bool, error) {
	p.published.Store(true)
	return p.TaskPort.CreateStream(ctx, r)
}

func (p *watchedPort) Detached() bool {
	p.published.Store(true) // its consumer may have the result
	return p.TaskPort.Detached()
}

// CancelTask asks the handler to end a task; it returns when the handler was notified. A task that waits for a process
// ends at once. ErrNoTask when it is neither; if its Do comes within the grace it ends at once, because a cancellation may
// overtake the task.
func (f *Fleet) CancelTask(ctx context.Context, taskID string, reason dispatch.CancelReason, grace time.Duration) error {
	conn, err := f.tasks.cancel(taskID, grace)
	if err != nil || conn == nil {
		return err
	}
	if err := conn.CancelTask(ctx, taskID, reason, grace); err != nil && !errors.Is(err, plug.ErrNoTask) {
		return err
	}
	return nil
}

func noProcess(format string, args ...any) *dispatch.TaskFailure {
	return &dispatch.TaskFailure{Kind: dispatch.NoProcess, Public: publicNoProcess, Private: fmt.Sprintf(format, args...)}
}
