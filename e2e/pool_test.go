package e2e

import (
	"path/filepath"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// TestPool: several processes share the tasks, each takes no more than it may, and an unused one is stopped and started
// again by the next task.
func TestPool(t *testing.T) {
	dir := system.PluginDir(t, map[string]string{"sleeper": filepath.Join(bin.TestPlugins(), "sleeper")}, nil)
	_, env := bin.Sandbox(t, dir)
	n := daemonOn(t, env, dir, "handlers:\n  - name: sleeper\n    instances: 3\n    process_concurrency: 2\n    idle_timeout: 1s\n")
	if a := n.Status(t).Agents[0]; a.Concurrency != 6 {
		t.Errorf("the agent takes %d tasks at once", a.Concurrency)
	}
	var calls []*system.RunningCall
	for range 6 {
		calls = append(calls, n.StartCall(t, "sleeper", "--text", "10m"))
	}
	system.Eventually(t, system.CallDeadline, "each of three processes has two tasks", func() bool {
		h, _ := handlerOf(n, t, "sleeper")
		busy := 0
		for _, p := range h.Processes {
			if p.Running > 2 {
				t.Fatalf("process %+v", p)
			}
			if p.Running == 2 {
				busy++
			}
		}
		return busy == 3
	})
	for _, call := range calls {
		if r := n.Run(t, n.Env, "cancel", call.TaskID); r.Code != 0 {
			t.Errorf("cancel: exit %d, %s", r.Code, r.Stderr)
		}
		if task := call.Result(t); task.Code != 5 {
			t.Errorf("exit %d: %s", task.Code, task.Stderr)
		}
	}
	system.Eventually(t, system.CallDeadline, "the unused processes are stopped, and the agent stays online", func() bool {
		s := n.Status(t)
		return s.Ready && s.Handlers[0].State == "idle" && len(s.Handlers[0].Processes) == 0 && s.Agents[0].State == "online"
	})
	if task := n.Call(t, "sleeper", "--text", "1ms"); task.Code != 0 {
		t.Errorf("exit %d: %s", task.Code, task.Stderr)
	}
	n.Stop(t)
}
