package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

func TestCancel(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 8, ""), st, nil)
	a.await(StateOnline)

	t.Run("obeyed with an error", func(t *testing.T) {
		a.control(startTask("c1", ""))
		c := st.next(t)
		a.control(`{"type":"CancelTask","taskId":"c1"}`)
		if reason := c.asked(t); reason != dispatch.CancelUser {
			t.Errorf("reason %v", reason)
		}
		c.result <- errors.New("context canceled")
		n.terminal("c1")
		n.same("c1", "running canceled")
	})
	t.Run("ignored", func(t *testing.T) {
		a.control(startTask("c2", ""))
		c := st.next(t)
		a.control(`{"type":"CancelTask","taskId":"c2"}`)
		n.terminal("c2")
		if running := a.Status().Running; running != 0 {
			t.Errorf("%d slots are held by a handler that does not end", running)
		}
		if err := c.port.Artifact(t.Context(), wire.Artifact{Data: []byte("late")}); !errors.Is(err, errTaskOver) {
			t.Errorf("late artifact: %v", err)
		}
		c.result <- nil
		n.same("c2", "running canceled")
	})
	t.Run("by an operator", func(t *testing.T) {
		a.control(startTask("c3", ""))
		c := st.next(t)
		if found, err := a.CancelTask(t.Context(), "c3"); !found || err != nil {
			t.Errorf("found %v, %v", found, err)
		}
		if reason := c.asked(t); reason != dispatch.CancelTerminated {
			t.Errorf("reason %v", reason)
		}
		c.result <- nil
		n.terminal("c3")
		n.same("c3", "running canceled:terminated")
		if found, _ := a.CancelTask(t.Context(), "nobody"); found {
			t.Error("a task that is not there was found")
		}
	})
	t.Run("pending artifact does not hold it up", func(t *testing.T) {
		a.control(startTask("c4", ""))
		c := st.next(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.port.Artifact(ctx, wire.Artifact{Data: []byte("x")}); !errors.Is(err, context.Canceled) {
			t.Errorf("artifact with an ended context: %v", err)
		}
		a.control(`{"type":"TerminateTask","taskId":"c4"}`)
		c.asked(t)
		c.result <- nil
		if e := n.terminal("c4"); e.State != wire.Canceled || e.Reason != wire.ReasonTerminated {
			t.Errorf("%+v", e)
		}
	})
}

func TestDeadline(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	far := n.serve(cardOf(t, "far", 8, `, "maxRunningTimeSec": 3600`), st, nil)
	far.await(StateOnline)
	far.control(startTask("d0", ""))
	c := st.next(t)
	if c.task.Deadline.IsZero() || !far.Tasks()[0].Deadline.Equal(c.task.Deadline) {
		t.Errorf("deadlines %v and %v", c.task.Deadline, far.Tasks()[0].Deadline)
	}
	c.result <- nil
	n.terminal("d0")

	a := n.serve(cardOf(t, "worker", 8, `, "maxRunningTimeSec": 1`), st, nil)
	a.await(StateOnline)
	a.control(startTask("d1", ""))
	c = st.next(t)
	if reason := c.asked(t); reason != dispatch.CancelDeadline {
		t.Errorf("reason %v", reason)
	}
	e := n.terminal("d1") // without the handler's help
	if e.State != wire.Failed || e.Error != "The task was stopped because it ran longer than the 1 seconds that its agent allows." {
		t.Errorf("%s %q", e.State, e.Error)
	}
	c.result <- nil
}

func TestPipe(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 8, ""), st, nil)
	a.await(StateOnline)
	a.control(startTask("p1", `,"taskKind":"pipe","duration":1,"durationExpiresAtMs":1`)) // long past
	c := st.next(t)
	<-c.ctx.Done() // asked, or ended before the process had it
	c.result <- nil
	if e := n.terminal("p1"); e.State != wire.Completed {
		t.Errorf("%+v", e)
	}
	a.control(startTask("p2", fmt.Sprintf(`,"taskKind":"pipe","duration":1,"durationExpiresAtMs":%d`, time.Now().Add(time.Hour).UnixMilli())))
	st.next(t).result <- nil // detached: its slot stays taken
	a.control(`{"type":"PauseTask","taskId":"p2"}`)
	a.control(`{"type":"ExpireTask","taskId":"p2"}`)
	if e := n.terminal("p2"); e.State != wire.Completed {
		t.Errorf("%+v", e)
	}
	n.same("p2", "running completed")
}

// deaf is a stage whose handler is asked to end when a test lets it be.
type deaf struct {
	*stage
	listen chan error
}

func (d deaf) CancelTask(ctx context.Context, id string, reason dispatch.CancelReason, grace time.Duration) error {
	select {
	case err := <-d.listen:
		if err != nil {
			return err
		}
		return d.stage.CancelTask(ctx, id, reason, grace)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestCancelReturnsWhenNotified: the operator's cancel waits for the handler to be notified, and for nothing else.
func TestCancelReturnsWhenNotified(t *testing.T) {
	n, d := newNetwork(t, true), deaf{newStage(), make(chan error)}
	a := n.serve(cardOf(t, "worker", 8, ""), d, func(c *Config) { c.CancelGrace = patience })
	a.await(StateOnline)
	a.control(startTask("c1", ""))
	c := d.next(t)
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if found, err := a.CancelTask(short, "c1"); !found || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the handler was notified: found %v, %v", found, err)
	}
	both := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := a.CancelTask(t.Context(), "c1")
			both <- err
		}()
	}
	d.listen <- nil
	c.asked(t)
	for range 2 {
		if err := <-both; err != nil {
			t.Error(err)
		}
	}
	if len(a.Tasks()) != 1 {
		t.Error("cancel waited for the end of the task")
	}
	c.result <- nil
	n.terminal("c1")

	a.control(startTask("c2", ""))
	c = d.next(t)
	go func() { d.listen <- errors.New("broken pipe") }()
	if found, err := a.CancelTask(t.Context(), "c2"); !found || err == nil {
		t.Errorf("found %v, %v", found, err)
	}
	c.result <- nil
	n.terminal("c2")
}
