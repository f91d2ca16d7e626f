package agent

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// Function is a handler inside this process. Its context ends when the task is to end; the cause is then a *Canceled,
// or the context's own error when the call is ended without asking. An error that is a *dispatch.TaskFailure reaches the
// consumer with its public text; of any other the consumer learns only that there was one, because error texts may
// hold secrets.
type Function func(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error

// Canceled is the cause of a context that ended because its task is to end.
type Canceled struct{ Reason dispatch.CancelReason }

func (c *Canceled) Error() string { return fmt.Sprintf("the task was asked to end: %v", c.Reason) }

// FuncDispatcher makes a Function a dispatch.Dispatcher, for programs that serve an agent without handler processes. Like any
// handler it can hurt only its task: a panic fails that. A function that does not return when its context ends keeps its
// goroutine; the task gets its outcome and frees its slot all the same.
type FuncDispatcher struct {
	handle Function

	mu    sync.Mutex // guards calls
	calls map[string]context.CancelCauseFunc
}

var _ dispatch.Dispatcher = (*FuncDispatcher)(nil)

// NewFuncDispatcher returns a dispatch.Dispatcher that calls f for each task.
func NewFuncDispatcher(f Function) *FuncDispatcher {
	return &FuncDispatcher{handle: f, calls: map[string]context.CancelCauseFunc{}}
}

// Start implements dispatch.Dispatcher; it returns when the function has.
func (d *FuncDispatcher) Start(ctx context.Context, _ string, task *wire.Task, port dispatch.TaskPort, done func(error)) {
	done(d.work(ctx, task, port))
}

func (d *FuncDispatcher) work(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.mu.Lock()
	d.calls[task.ID] = cancel
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.calls, task.ID)
	}()
	port.Dispatched(os.Getpid())
	return d.call(ctx, task, port)
}

func (d *FuncDispatcher) call(ctx context.Context, task *wire.Task, port dispatch.TaskPort) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &dispatch.TaskFailure{Kind: dispatch.HandlerCrash, Private: fmt.Sprintf("panic: %v\n%s", p, debug.Stack())}
		}
	}()
	return d.handle(ctx, task, port)
}

// CancelTask implements dispatch.Dispatcher.
func (d *FuncDispatcher) CancelTask(_ context.Context, taskID string, reason dispatch.CancelReason, _ time.Duration) error {
	d.mu.Lock()
	cancel := d.calls[taskID]
	d.mu.Unlock()
	if cancel == nil {
		return fmt.Errorf("cancel task %s: no call of it is in progress", taskID)
	}
	cancel(&Canceled{reason})
	return nil
}

// Availability implements dispatch.Dispatcher: a function is always available.
func (d *FuncDispatcher) Availability(string) (dispatch.Availability, <-chan struct{}) {
	return dispatch.Available, nil
}
