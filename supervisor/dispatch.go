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

// Start implements dispatch.Dispatcher; a process has a pipe task until the task is over. While no process is ready but one
// is expected, the task waits up to Config.Hold. When ctx ends the daemon ends the call; a process that does not let go of
// it is replaced.
func (f *Fleet) Start(ctx context.Context, name string, task *wire.Task, port dispatch.TaskPort, done func(error)) {
	h := f.get(name)
	if h == nil {
		done(noProcess("there is no handler called %q", name))
		return
	}
	t, ok := f.tasks.add(task.ID)
	if !ok {
		done(&dispatch.TaskFailure{Kind: dispatch.NoProcess, Public: publicTwice, Private: fmt.Sprintf("task %s is with a handler already", task.ID)})
		return
	}
	if closed(t.canceled) { // by a cancellation that came first
		f.tasks.remove(task.ID)
		done(&dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicCanceled})
		return
	}
	h.enter()
	d := &delivery{fleet: f, handler: h, task: task, entry: t, port: &watchedPort{TaskPort: port}, done: done}
	d.attempt(ctx)
}

// delivery is a task on its way to a process that works on it to the end.
type delivery struct {
	fleet   *Fleet
	handler *handler
	task    *wire.Task
	entry   *taskEntry
	port    *watchedPort
	done    func(error)
	crashes int        // of processes that had it
	without []*process // that did not get it
}

// attempt gives the task to a process.
func (d *delivery) attempt(ctx context.Context) {
	p, err := d.handler.acquire(ctx, d.fleet.config.Hold, d.entry.canceled, d.without)
	if err != nil {
		d.end(err)
		return
	}
	p.conn.Start(ctx, d.task, d.port, plug.Hooks{
		Assigned: func() bool { return d.fleet.tasks.assign(d.entry, p.conn) },
		Released: func(taint bool) { d.handler.released(p, taint) },
		Done: func(err error) {
			why, again := d.again(p, err)
			if !again || ctx.Err() != nil || !d.fleet.tasks.unassign(d.entry) {
				d.end(err)
				return
			}
			go func() { // whoever waits for done waits for it, and nothing waits for the log
				d.handler.log.Warn("task is tried on another process, because "+why, "task", d.task.ID, "err", err)
				d.attempt(ctx)
			}()
		},
	})
}

// again reports whether the task may be given to another process after it ended with err on p.
func (d *delivery) again(p *process, err error) (why string, again bool) {
	switch {
	case errors.As(err, new(*plug.Unsent)):
		d.without = append(d.without, p)
		return "it did not reach the process", true
	case d.crashes+1 < attempts && crashed(err) && !d.port.published.Load() && p.idempotent():
		d.crashes++
		return "it may be repeated and has published nothing", true
	}
	return "", false
}

func (d *delivery) end(err error) {
	d.handler.leave()
	d.fleet.tasks.remove(d.task.ID)
	if unsent := (*plug.Unsent)(nil); errors.As(err, &unsent) {
		err = unsent.TaskFailure
	}
	d.done(err)
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
// ends at once. ErrNoTask when it is neither; if its Start comes within the grace it ends at once, because a cancellation may
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
