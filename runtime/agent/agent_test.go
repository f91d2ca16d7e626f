package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// same fails the test unless the story of a task is as wanted.
func (n *network) same(id, want string) {
	n.t.Helper()
	if diff := cmp.Diff(want, n.story(id)); diff != "" {
		n.t.Errorf("task %s (-want +got):\n%s", id, diff)
	}
}

func TestTask(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 2, ""), st, nil)
	a.await(StateOnline)
	if state, there := n.present(a.channelName(), a.cfg.InstanceID); !there || state.Concurrency != 2 || state.ActiveTasks != 0 {
		t.Errorf("online, but the network knows %+v, %v", state, there)
	}
	a.control(startTask("t1", `,"writeToken":"secret","controlToken":"secret2"`))
	c := st.next(t)
	if c.task.AgentName != "worker" || c.task.OwnerID != "me" || *c.task.Parts[0].Text != "hi" {
		t.Errorf("the handler got %+v", c.task)
	}
	tasks := a.Tasks()
	if len(tasks) != 1 || tasks[0].State != "running" || tasks[0].PID == nil || tasks[0].TaskID != "t1" {
		t.Errorf("tasks are %+v", tasks)
	}
	eventually(t, "the slot is announced as taken", func() bool {
		state, _ := n.present(a.channelName(), a.cfg.InstanceID)
		return state.ActiveTasks == 1
	})
	c.port.Status("first")
	c.port.Status("second")
	c.port.Status("third")
	if err := c.port.Artifact(c.ctx, wire.Artifact{OutputID: "reply", Data: []byte("a")}); err != nil {
		t.Error(err)
	}
	c.port.Status("fourth")
	c.result <- nil
	n.terminal("t1")
	n.same("t1", "running status:first status:third artifact:a status:fourth completed")

	// Too late.
	if err := c.port.Artifact(t.Context(), wire.Artifact{Data: []byte("late")}); !errors.Is(err, errTaskOver) {
		t.Errorf("late artifact: %v", err)
	}
	c.port.Status("late")
	eventually(t, "the task is over", func() bool { return len(a.Tasks()) == 0 })
	want := Counts{Accepted: 1, Completed: 1}
	if diff := cmp.Diff(want, a.Status().Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	eventually(t, "the slot is announced as free", func() bool {
		state, _ := n.present(a.channelName(), a.cfg.InstanceID)
		return state.ActiveTasks == 0
	})
	n.same("t1", "running status:first status:third artifact:a status:fourth completed")
}

func TestFailures(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 8, ""), st, nil)
	a.await(StateOnline)
	for id, tc := range map[string]struct {
		err  error
		want string
	}{
		"error":  {&dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "Division by zero.", Private: "secret"}, "Division by zero."},
		"crash":  {&dispatch.TaskFailure{Kind: dispatch.HandlerCrash, Private: "exit 139"}, "The agent's handler ended unexpectedly while it worked on the task."},
		"plain":  {errors.New("password=secret"), "The agent reported an error without saying which."},
		"silent": {&dispatch.TaskFailure{Kind: dispatch.HandlerSilent}, "The agent's handler ended the task without a result."},
		"long":   {&dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: strings.Repeat("x", 1<<20)}, strings.Repeat("x", wire.MaxTextBytes-len("…")) + "…"},
	} {
		a.control(startTask(id, ""))
		st.next(t).result <- tc.err
		if e := n.terminal(id); e.State != wire.Failed || e.Error != tc.want {
			t.Errorf("%s: %s %q", id, e.State, e.Error)
		}
	}
}
