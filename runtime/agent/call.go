package agent

import (
	"context"
	"errors"
	"log/slog"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/runtime/task"
)

// handlerCall is the call of a task's handler.
type handlerCall struct {
	// begin calls the handler, from a goroutine; end ends the call's context.
	begin func()
	end   context.CancelFunc
	// notify asks the handler to end, in a goroutine that reports the result.
	notify func(n task.NotifyHandler, ack chan<- error)
	// ack holds the answer of the handler that was asked to end; nil before, and where there is no handler to ask. The
	// lock of the job guards it.
	ack chan error
}

// callHandler gives the task to the handler. Nothing waits for the end of the call, which counts as work until then.
func (j *job) callHandler(ctx context.Context) {
	work := &j.agent.work
	work.Add(1)
	j.agent.cfg.Dispatcher.Start(ctx, j.agent.cfg.Handler, &j.task, port{j}, func(err error) {
		defer work.Done()
		j.handlerDone(ctx, err)
	})
}

// handlerDone takes the end of the call.
func (j *job) handlerDone(ctx context.Context, err error) {
	var failure *dispatch.TaskFailure
	if err != nil && !errors.As(err, &failure) {
		failure = &dispatch.TaskFailure{Kind: dispatch.HandlerError, Private: err.Error()}
	}
	level := slog.LevelWarn
	j.mu.Lock()
	if j.machine.Phase() >= task.Canceling { // how a handler obeys
		level = slog.LevelDebug
	}
	j.stepLocked(task.HandlerDone{Failure: failure})
	j.mu.Unlock()
	if failure != nil {
		j.agent.work.Go(func() { // who tells of the end does not wait for the log
			j.log.Log(ctx, level, "handler did not finish the task", "handler", j.agent.cfg.Handler, "err", failure)
		})
	}
}

// notifyHandler asks the handler to end the task.
func (j *job) notifyHandler(ctx context.Context, n task.NotifyHandler, ack chan<- error) {
	ctx, cancel := context.WithTimeout(ctx, n.Grace)
	defer cancel()
	err := j.agent.cfg.Dispatcher.CancelTask(ctx, j.task.ID, n.Reason, n.Grace)
	ack <- err
	if err != nil {
		j.log.Info("the handler was not notified that the task is to end; its call ends after the grace", "reason", n.Reason, "err", err)
	}
}

// awaitCancelAck returns once the handler was notified that the task is to end, at once where there is none to notify any
// more. The error is that of ctx, or says why the handler was not notified.
func (j *job) awaitCancelAck(ctx context.Context) error {
	j.mu.Lock()
	ack := j.call.ack
	j.mu.Unlock()
	if ack == nil || j.decided() {
		return nil
	}
	select {
	case err := <-ack:
		ack <- err // for others that wait
		if j.decided() {
			return nil
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decided reports whether the task has its outcome.
func (j *job) decided() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.machine.Phase() >= task.Ending
}
