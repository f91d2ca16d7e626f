package e2e

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// calledTask is the id of a task in the status text of a handler that has sent it.
var calledTask = regexp.MustCompile(`task_[a-z0-9]+`)

// shape is a task's events in short: submitted, running, status texts, artifacts with their data, the terminal.
func shape(t *testing.T, events []system.Event) []string {
	t.Helper()
	var out []string
	for _, e := range events {
		switch {
		case e.Type == "request":
		case e.Type == "progress" && e.State == "running":
			out = append(out, "running")
		case e.Type == "progress":
			out = append(out, "status "+calledTask.ReplaceAllString(e.Message, "ID"))
		case e.Type == "artifact":
			out = append(out, "artifact "+e.Artifact.MIMEType+" "+artifactText(t, e))
		case e.Type == "terminal":
			out = append(out, strings.TrimSpace("terminal "+e.State+" "+e.Error+" "+e.Reason))
		default:
			out = append(out, e.Type)
		}
	}
	return out
}

func artifactText(t *testing.T, e system.Event) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(e.Artifact.Data)
	if err != nil {
		t.Fatalf("artifact data %q is not base64: %v", e.Artifact.Data, err)
	}
	return string(b)
}

func wantShape(t *testing.T, task system.Task, code int, want ...string) {
	t.Helper()
	if got := shape(t, task.Events); !slices.Equal(got, want) || task.Code != code {
		t.Errorf("exit %d, events\n%s\nwant exit %d, events\n%s\nstderr: %s", task.Code, strings.Join(got, "\n"), code, strings.Join(want, "\n"), task.Stderr)
	}
}

func TestReferenceHandlers(t *testing.T) {
	n := bin.Dev(t, bin.Plugins())
	if out := n.Process.Output(); strings.Contains(out, "queued") { // the examples are sent when there is somebody to take them
		t.Errorf("an example had to wait:\n%s", out)
	}

	file := filepath.Join(t.TempDir(), "ü two.txt")
	if err := os.WriteFile(file, []byte("<&>"), 0o644); err != nil {
		t.Fatal(err)
	}
	const addsNothing = "artifact application/json {\n  \"ok\": false,\n  \"error\": \"Missing math_add request with numeric a and b\",\n  \"input\": "
	for _, c := range []struct {
		name, agent string
		args        []string
		artifact    string
	}{
		{"echo text", "echo", []string{"--text", "hello <&> ü 😀"}, "artifact text/plain Echoed request: hello <&> ü 😀"},
		{"echo empty text", "echo", []string{"--text", ""}, "artifact text/plain Echoed request: "},
		{"adder", "adder", []string{"--json-part", `{"a":2,"b":3.5}`}, "artifact application/json {\n  \"ok\": true,\n  \"a\": 2,\n  \"b\": 3.5,\n  \"sum\": 5.5\n}"},
		{"adder with words", "adder", []string{"--text", "2 and three"}, addsNothing + "\"2 and three\"\n}"},
		{"adder with a boolean", "adder", []string{"--text", `{"a":true,"b":1}`}, addsNothing + "\"{\\\"a\\\":true,\\\"b\\\":1}\"\n}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantShape(t, n.Call(t, c.agent, c.args...), 0, "submitted", "running", c.artifact, "terminal completed")
		})
	}
	t.Run("echo without a text part", func(t *testing.T) {
		task := n.Call(t, "echo", "--file", "first="+file, "--force") // its card requires one
		if task.Code != 0 {
			t.Fatalf("exit %d: %s", task.Code, task.Stderr)
		}
		got := strings.Join(shape(t, task.Events), "\n")
		// The parts as they came.
		for _, want := range []string{`Echoed request: [{`, `"partId":"first"`, `"fileName":"ü two.txt"`, `"data":"PCY+"`} {
			if !strings.Contains(got, want) {
				t.Errorf("events\n%s\ndo not contain %s", got, want)
			}
		}
	})
	t.Run("the saved artifact", func(t *testing.T) {
		dir := t.TempDir()
		if task := n.Call(t, "echo", "--text", "kept", "--save", dir); task.Code != 0 {
			t.Fatalf("exit %d: %s", task.Code, task.Stderr)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("saved %v, %v; want one file", files, err)
		}
		if b, err := os.ReadFile(files[0]); err != nil || string(b) != "Echoed request: kept" {
			t.Errorf("saved %q, %v", b, err)
		}
	})
	t.Run("the same key is the same task", func(t *testing.T) {
		first := n.Call(t, "echo", "--text", "once", "--idempotency-key", "k1")
		second := n.Call(t, "echo", "--text", "once", "--idempotency-key", "k1")
		if first.Code != 0 || second.Code != 0 || first.Events[0].TaskID != second.Events[0].TaskID {
			t.Errorf("first %d %s, second %d %s", first.Code, first.Stdout, second.Code, second.Stdout)
		}
	})
	n.Stop(t)
}

// sleeperWith makes a plugins directory with a sleeper of its own concurrency.
func sleeperWith(t *testing.T, concurrency int) string {
	t.Helper()
	return system.PluginDir(t, map[string]string{"sleeper": filepath.Join(bin.TestPlugins(), "sleeper")}, func(_ string, card map[string]any) {
		card["runtime"].(map[string]any)["concurrency"] = concurrency
	})
}

func TestConcurrencyIsKept(t *testing.T) {
	n := bin.Dev(t, sleeperWith(t, 4))
	var calls []*system.RunningCall
	for range 20 {
		calls = append(calls, n.StartCall(t, "sleeper", "--text", "300ms"))
	}
	// Every task sleeps from its status event to its artifact event; the network's own timetokens order them.
	type edge struct {
		timetoken string
		change    int
	}
	var edges []edge
	for _, call := range calls {
		task := call.Result(t)
		wantShape(t, task, 0, "submitted", "running", "status sleeping", "artifact text/plain slept 300ms", "terminal completed")
		for _, e := range task.Events {
			switch {
			case e.Type == "progress" && e.State == "running":
				edges = append(edges, edge{e.Timetoken, +1})
			case e.Type == "artifact":
				edges = append(edges, edge{e.Timetoken, -1})
			}
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return strings.Compare(a.timetoken, b.timetoken) })
	running, most := 0, 0
	for _, e := range edges {
		running += e.change
		most = max(most, running)
	}
	if t.Logf("at most %d tasks slept at the same time", most); most > 4 { // fewer where calls take long to start
		t.Error("want 4")
	}
	if s := n.Status(t); s.Tasks.Completed < 20 || s.Tasks.Failed != 0 || s.Tasks.Running != 0 {
		t.Errorf("counters %+v", s.Tasks)
	}
	n.Stop(t)
}

func TestCancel(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())

	t.Run("by the consumer", func(t *testing.T) {
		call := n.StartCall(t, "sleeper", "--text", "10m")
		call.AwaitStatus(t)
		call.Interrupt()
		wantShape(t, call.Result(t), 5, "submitted", "running", "status sleeping", "cancel_requested", "terminal canceled")
	})
	t.Run("by the operator", func(t *testing.T) {
		call := n.StartCall(t, "sleeper", "--text", "10m")
		call.AwaitStatus(t)
		if r := n.Run(t, n.Env, "cancel", call.TaskID); r.Code != 0 {
			t.Fatalf("cancel: exit %d, %s", r.Code, r.Stderr)
		}
		wantShape(t, call.Result(t), 5, "submitted", "running", "status sleeping", "terminal canceled  terminated")
	})
	t.Run("of a handler that does not listen", func(t *testing.T) {
		call := n.StartCall(t, "badhandler", "--text", "ignore-cancel")
		call.AwaitStatus(t)
		pid := n.WaitRunning(t, call.TaskID)
		call.Interrupt()
		wantShape(t, call.Result(t), 5, "submitted", "running", "status not listening", "cancel_requested", "terminal canceled")
		system.Eventually(t, system.CallDeadline, "the process that did not let go is replaced", func() bool { return !system.Alive(pid) })
		wantShape(t, n.Call(t, "badhandler", "--text", "error sorry"), 4, "submitted", "running", "terminal failed sorry")
	})
	t.Run("because its time is over", func(t *testing.T) {
		task := n.Call(t, "sleeper", "--text", "10m", "--timeout", "8s") // enough for it to be accepted, on a busy machine too
		got := shape(t, task.Events)
		if task.Code != 6 || !slices.Contains(got, "cancel_requested") || got[len(got)-1] != "terminal canceled" { // it may not have begun
			t.Errorf("exit %d, events %q, stderr %s", task.Code, got, task.Stderr)
		}
	})
	t.Run("of no task", func(t *testing.T) {
		r := n.Run(t, n.Env, "cancel", "nosuchtask")
		wantSentence(t, r, 1, "nosuchtask")
	})
	n.Stop(t)
}

func TestHandlerFailures(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())

	t.Run("panic", func(t *testing.T) {
		task := n.Call(t, "badhandler", "--text", "panic")
		if last := task.Events[len(task.Events)-1]; task.Code != 4 || last.State != "failed" || last.Error == "" || strings.Contains(last.Error, "goroutine") {
			t.Errorf("exit %d, %+v", task.Code, last)
		}
	})
	t.Run("its own error", func(t *testing.T) {
		wantShape(t, n.Call(t, "badhandler", "--text", "error no such city"), 4, "submitted", "running", "terminal failed no such city")
	})
	t.Run("killed in mid-task", func(t *testing.T) {
		call := n.StartCall(t, "sleeper", "--text", "10m")
		call.AwaitStatus(t) // until then it could be tried again
		pid := n.WaitRunning(t, call.TaskID)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		task := call.Result(t)
		last := task.Events[len(task.Events)-1]
		if task.Code != 4 || last.State != "failed" || last.Error == "" {
			t.Fatalf("exit %d, %+v", task.Code, last)
		}
		wantShape(t, n.Call(t, "sleeper", "--text", "1ms"), 0, "submitted", "running", "status sleeping", "artifact text/plain slept 1ms", "terminal completed")
		if s := n.Status(t); !s.Ready || s.Handler(t, "sleeper").Restarts != 1 {
			t.Errorf("status %+v", s)
		}
	})
	n.Stop(t)
}

// wantSentence checks an error as users see it: one sentence on stderr that names the object, no stack trace.
func wantSentence(t *testing.T, r system.Result, code int, names ...string) {
	t.Helper()
	text := strings.TrimSpace(r.Stderr)
	if r.Code != code {
		t.Errorf("exit %d, want %d; stderr: %s", r.Code, code, text)
	}
	if text == "" || strings.Contains(text, "\n") || strings.Contains(text, "goroutine ") {
		t.Errorf("stderr is not one line: %q", r.Stderr)
	}
	for _, name := range names {
		if !strings.Contains(text, name) {
			t.Errorf("stderr %q does not name %q", text, name)
		}
	}
}
