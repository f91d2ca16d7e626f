package agent

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// quietPort is a port for functions that use only Dispatched.
type quietPort struct{ dispatch.NoStreams }

func (quietPort) Dispatched(int)                                     {}
func (quietPort) Status(string)                                      {}
func (quietPort) Artifact(context.Context, wire.Artifact) error      { return nil }
func (quietPort) Input(context.Context, int) (dispatch.Input, error) { return dispatch.Input{}, io.EOF }

// give gives a task to the function and returns its outcome.
func give(ctx context.Context, d *FuncDispatcher, handler string, task *wire.Task, port dispatch.TaskPort) (outcome error) {
	d.Start(ctx, handler, task, port, func(err error) { outcome = err })
	return outcome
}

func TestFuncDispatcher(t *testing.T) {
	task := &wire.Task{ID: "t1"}

	t.Run("panic", func(t *testing.T) {
		d := NewFuncDispatcher(func(context.Context, *wire.Task, dispatch.TaskPort) error { panic("with a secret") })
		var failure *dispatch.TaskFailure
		if err := give(t.Context(), d, "f", task, quietPort{}); !errors.As(err, &failure) {
			t.Fatalf("error is %v", err)
		}
		if failure.Kind != dispatch.HandlerCrash || strings.Contains(failure.Public, "secret") || !strings.Contains(failure.Private, "secret") {
			t.Errorf("failure is %+v", failure)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		entered := make(chan struct{})
		d := NewFuncDispatcher(func(ctx context.Context, _ *wire.Task, _ dispatch.TaskPort) error {
			close(entered)
			<-ctx.Done()
			return context.Cause(ctx)
		})
		done := make(chan error, 1)
		go func() { done <- give(t.Context(), d, "f", task, quietPort{}) }()
		<-entered
		if err := d.CancelTask(t.Context(), "t1", dispatch.CancelDrain, time.Second); err != nil {
			t.Fatal(err)
		}
		var canceled *Canceled
		if err := <-done; !errors.As(err, &canceled) || canceled.Reason != dispatch.CancelDrain {
			t.Errorf("cause is %v", err)
		}
		if err := d.CancelTask(t.Context(), "t1", dispatch.CancelDrain, time.Second); err == nil {
			t.Error("a call that is over was canceled")
		}
	})
}
