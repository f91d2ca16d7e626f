package inside_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// others are the processes that an attack must not touch: the daemon's and those of the other handlers.
func others(t *testing.T) map[int]string {
	t.Helper()
	pids := pidsOf(t)
	for pid, name := range pids {
		if name == "hostile" {
			delete(pids, pid)
		}
	}
	pid, err := strconv.Atoi(property(t, "MainPID"))
	if err != nil {
		t.Fatal(err)
	}
	pids[pid] = "the daemon"
	return pids
}

// hostile returns the row of the handler that attacks.
func hostile(t *testing.T) handler {
	t.Helper()
	return rowOf(t, "hostile")
}

// served sees that the others are as before and answer, and waits for the attacker to be itself again.
func served(t *testing.T, before map[int]string) {
	t.Helper()
	after := others(t)
	for pid, name := range before {
		if after[pid] != name {
			t.Errorf("process %d of %s is gone", pid, name)
		}
	}
	if got := call(t, "echo", "hello"); !strings.Contains(got, "hello") {
		t.Errorf("echo answers %q", got)
	}
	eventually(t, "hostile is ready again", func() bool { return hostile(t).State == "ready" })
}

// memoryLimit: a handler that takes too much ends, with what it has started, and says why.
func memoryLimit(t *testing.T) {
	before, old := others(t), hostile(t).Processes[0].PID
	ctx, c := consumer(t)
	task, err := c.Submit(ctx, "hostile", "sh head -c 300m /dev/zero | tail")
	if err != nil {
		t.Fatal(err)
	}
	end, err := c.Await(ctx, task)
	if err != nil || end.State != "failed" {
		t.Errorf("the task ends as %s %s, %v", end.State, end.Error, err)
	}
	served(t, before)
	h := hostile(t)
	if h.Processes[0].PID == old {
		t.Error("it is the same process")
	}
	if h.Crash == nil || h.Crash.Reason != "out_of_memory" {
		t.Errorf("handlers says %+v", h.Crash)
	}
}

// processLimit: a fork bomb stays in its group, and a restart of the handler ends it.
func processLimit(t *testing.T) {
	before, old := others(t), hostile(t).Processes[0].PID
	b, err := os.ReadFile("/proc/" + strconv.Itoa(old) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	dir := "/sys/fs/cgroup" + strings.TrimSpace(strings.TrimPrefix(string(b), "0::"))
	ctx, c := consumer(t)
	task, err := c.Submit(ctx, "hostile", "sh b() { b | b & }; b; sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	refused := func() bool {
		b, err := os.ReadFile(dir + "/pids.events")
		return err == nil && strings.HasPrefix(string(b), "max ") && !strings.HasPrefix(string(b), "max 0")
	}
	eventually(t, "the limit is reached", refused)
	if got := call(t, "echo", "hello"); !strings.Contains(got, "hello") {
		t.Errorf("echo answers %q", got)
	}
	if b, err := os.ReadFile(dir + "/pids.current"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err != nil || n > 60 {
			t.Errorf("%s processes", b)
		}
	}
	ok(t, "blocksd", "cancel", task.ID)
	ok(t, "blocksd", "restart", "hostile")
	if end, err := c.Await(ctx, task); err != nil || end.State == "completed" {
		t.Errorf("the task ends as %s, %v", end.State, err)
	}
	eventually(t, "the group of the bomb is gone", func() bool {
		_, err := os.Stat(dir)
		return err != nil
	})
	served(t, before)
}
