package plug

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/blocksd/blocksd/dispatch"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// ErrNoTask is returned for a task that this process does not work on.
var ErrNoTask = errors.New("no such task runs on this handler process")

// giveUp ends the task because ctx has ended, and the call soon after. The handler learns of that first: what it still does
// with the port may take a moment.
func (k *call) giveUp(ctx context.Context) {
	p := k.conn
	k.mu.Lock()
	answered := k.answered
	k.mu.Unlock()
	if answered {
		k.decide(nil)
		return
	}
	if !k.first() {
		return
	}
	letGo := time.Duration(0)
	if p.description.Cancel {
		letGo = p.timeouts.LetGo
		if !k.a.notified() && p.calls.begin() {
			go func() {
				defer p.calls.end()
				<-k.a.started // a cancellation must not overtake the task
				_ = p.cancel(context.WithoutCancel(ctx), k.task.ID, dispatch.CancelShutdown, letGo)
			}()
		}
	}
	k.cutOff(letGo)
	k.conclude(&dispatch.TaskFailure{
		Kind: dispatch.CallEnded, Public: publicEnded,
		Private: fmt.Sprintf("the call of task %s on handler %s was ended by the daemon: %v", k.task.ID, p.config.Handler, context.Cause(ctx)),
	})
}

// CancelTask asks the handler to end a task. It returns once the handler has been asked. A handler that does not know
// cancellation is not an error.
func (p *Conn) CancelTask(ctx context.Context, taskID string, reason dispatch.CancelReason, grace time.Duration) error {
	a := p.host.lookup(taskID)
	if a == nil {
		return ErrNoTask
	}
	a.notified()
	select {
	case <-a.started: // a cancellation must not overtake the task
	case <-ctx.Done():
		return fmt.Errorf("cancel task %s: %w", taskID, context.Cause(ctx))
	}
	return p.cancel(ctx, taskID, reason, grace)
}

func (p *Conn) cancel(ctx context.Context, taskID string, reason dispatch.CancelReason, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeouts.Cancel)
	defer cancel()
	_, err := p.client.CancelTask(ctx, &handlerv1.CancelTaskRequest{TaskId: taskID, Reason: cancelReason(reason), Grace: durationpb.New(grace)})
	switch {
	case err == nil, status.Code(err) == codes.Unimplemented:
		return nil
	case status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("handler %s did not answer within %v", p.config.Handler, p.timeouts.Cancel)
	}
	return fmt.Errorf("handler %s could not be asked: %s", p.config.Handler, status.Convert(err).Message())
}
