package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// steps is a script for the handler "scripted".
func steps(t *testing.T, all ...map[string]any) string {
	t.Helper()
	b, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// listed are the tasks that the key has sent to an agent: those of users and those of handlers.
func listed(t *testing.T, n *system.Network, agent string) (states []string) {
	t.Helper()
	r := n.Run(t, n.Env, "calls", "--json", "--agent", agent)
	var found []struct{ State string }
	if err := json.Unmarshal([]byte(r.Stdout), &found); err != nil || r.Code != 0 {
		t.Fatalf("%v: exit %d, %s%s", err, r.Code, r.Stdout, r.Stderr)
	}
	for _, f := range found {
		states = append(states, f.State)
	}
	return states
}

// TestOrchestrator: a handler calls two agents at once and joins what they answer.
func TestOrchestrator(t *testing.T) {
	dir := system.PluginDir(t, map[string]string{
		"echo": filepath.Join(bin.Plugins(), "echo"), "adder": filepath.Join(bin.Plugins(), "adder"), "orchestrator": filepath.Join(bin.Plugins(), "orchestrator"),
	}, nil)
	_, env := bin.Sandbox(t, dir)
	n := daemonOn(t, env, dir, "")
	wantShape(t, n.Call(t, "orchestrator", "--json-part", `{"text":"hi","a":2,"b":3}`), 0,
		"submitted", "running", "status asking echo and adder", `artifact application/json {"echo":"Echoed request: hi","adder":{"ok":true,"a":2,"b":3,"sum":5}}`, "terminal completed")
	for _, agent := range []string{"echo", "adder"} {
		if got := listed(t, n, agent); len(got) != 1 {
			t.Errorf("%s was called %d times", agent, len(got))
		}
	}
	n.Stop(t)
}

// TestHandlerCalls: files go out and come back, and what a handler did wrong is one sentence.
func TestHandlerCalls(t *testing.T) {
	n := scriptedDaemon(t)
	pattern := make([]byte, 3<<20)
	for i := range pattern {
		pattern[i] = byte(i * 7 % 251)
	}
	digest := fmt.Sprintf("pattern.bin application/octet-stream %d %x", len(pattern), sha256.Sum256(pattern))
	inner := steps(t, map[string]any{"digest": "file"})
	wantShape(t, n.Call(t, "scripted", "--text", steps(t, map[string]any{"call": map[string]any{"agent": "scripted", "text": inner, "size": len(pattern)}})), 0,
		"submitted", "running", "status called ID", "artifact text/plain request progress artifact terminal", "artifact text/plain "+digest, "terminal completed")

	files := steps(t,
		map[string]any{"return": map[string]any{"text": "x", "fileName": "../../same.txt"}},
		map[string]any{"return": map[string]any{"size": 100_000, "fileName": "same.txt"}},
		map[string]any{"return": map[string]any{"text": "", "fileName": ".profile", "mimeType": "text/plain"}},
	)
	wantShape(t, n.Call(t, "scripted", "--text", steps(t, map[string]any{"call": map[string]any{"agent": "scripted", "text": files, "save": true}})), 0,
		"submitted", "running", "status called ID", "artifact text/plain request progress artifact artifact artifact terminal",
		"artifact text/plain same.txt: 1\nsame (2).txt: 100000\nprofile.txt: 0\nsame (3).txt: 1\nsame (4).txt: 100000\nprofile (2).txt: 0",
		"terminal completed")

	for _, c := range []struct {
		call map[string]any
		want string
	}{
		{map[string]any{"agent": "nobody", "text": "x"}, "call agent nobody: "},
		{map[string]any{"agent": "no-body", "text": "x"}, "must consist of letters, digits and underscores"},
		{map[string]any{"agent": "scripted", "text": steps(t, map[string]any{"fail": "on purpose"})}, "failed: on purpose"},
	} {
		task := n.Call(t, "scripted", "--text", steps(t, map[string]any{"call": c.call}))
		if last := task.Events[len(task.Events)-1]; task.Code != 4 || !strings.Contains(last.Error, c.want) {
			t.Errorf("%v: exit %d, %+v", c.call, task.Code, last)
		}
	}
	n.Stop(t)
}

// TestCallsEndWithTheirTask: what a task has sent is canceled when the task is, or when it does not want it any more; but
// not what is detached.
func TestCallsEndWithTheirTask(t *testing.T) {
	n := scriptedDaemon(t)
	call := n.StartCall(t, "scripted", "--text", steps(t, map[string]any{"call": map[string]any{"agent": "sleeper", "text": "10m"}}))
	call.AwaitStatus(t)
	if got := listed(t, n, "sleeper"); len(got) != 1 {
		t.Fatalf("the sleeper was called %d times", len(got))
	}
	call.Interrupt()
	if r := call.Result(t); r.Code != 5 {
		t.Errorf("exit %d: %s", r.Code, r.Stderr)
	}
	wantState := func(want ...string) {
		t.Helper()
		system.Eventually(t, system.CallDeadline, "the sleepers are "+strings.Join(want, ", "), func() bool {
			return strings.Join(listed(t, n, "sleeper"), " ") == strings.Join(want, " ")
		})
	}
	wantState("canceled")
	leave := map[string]any{"agent": "sleeper", "text": "10m", "leave": true}
	if r := n.Call(t, "scripted", "--text", steps(t, map[string]any{"call": leave})); r.Code != 0 {
		t.Errorf("exit %d: %s", r.Code, r.Stderr)
	}
	wantState("canceled", "canceled")
	leave["detached"] = true
	if r := n.Call(t, "scripted", "--text", steps(t, map[string]any{"call": leave})); r.Code != 0 {
		t.Errorf("exit %d: %s", r.Code, r.Stderr)
	}
	wantState("running", "canceled", "canceled")
}

// TestCallsInACircle: agents that call each other without end fail after a few rounds.
func TestCallsInACircle(t *testing.T) {
	n := scriptedDaemon(t)
	script := steps(t, map[string]any{"return": map[string]any{"text": "the end", "mimeType": "text/plain"}})
	for range 12 {
		script = steps(t, map[string]any{"call": map[string]any{"agent": "scripted", "text": script}})
	}
	task := n.Call(t, "scripted", "--text", script)
	if last := task.Events[len(task.Events)-1]; task.Code != 4 || !strings.Contains(last.Error, "calls may be nested 8 deep") {
		t.Errorf("exit %d, %+v", task.Code, last)
	}
	if got := listed(t, n, "scripted"); len(got) != 9 {
		t.Errorf("%d tasks were sent", len(got))
	}
	n.Stop(t)
}

// scriptedDaemon serves the handlers scripted and sleeper, on a sandbox with these flags.
func scriptedDaemon(t *testing.T, flags ...string) *system.Network {
	t.Helper()
	dir := system.PluginDir(t, map[string]string{
		"scripted": filepath.Join(bin.TestPlugins(), "scripted"), "sleeper": filepath.Join(bin.TestPlugins(), "sleeper"),
	}, nil)
	_, env := bin.Sandbox(t, dir, flags...)
	return daemonOn(t, env, dir, "")
}
