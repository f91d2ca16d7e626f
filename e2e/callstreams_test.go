package e2e

import (
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// streamsOf is a script of the handler "scripted" that gives it another one and uses the streams of that task.
func streamsOf(t *testing.T, inner string, use map[string]any) string {
	t.Helper()
	use["agent"], use["text"] = "scripted", inner
	return steps(t, map[string]any{"streams": use})
}

// TestStreamsOfCalledTasks: a handler reads and writes the streams of a task that it has given to another agent.
func TestStreamsOfCalledTasks(t *testing.T) {
	n := scriptedDaemon(t)
	write := func(name string, chunks ...any) map[string]any {
		return map[string]any{"write": map[string]any{"name": name, "chunks": chunks}}
	}
	for _, c := range []struct {
		what, inner string
		use         map[string]any
		want        []string
	}{
		{"text", steps(t, write("log", "one ", "two ", "äöü")), map[string]any{"read": []string{"log"}}, []string{"log: one two äöü", "completed"}},
		{"bytes in pieces", steps(t, map[string]any{"write": map[string]any{"name": "log", "chunks": []any{map[string]int{"size": 100_000}}, "repeat": 20}}), map[string]any{"read": []string{"log"}}, []string{"log: 2000000 bytes", "completed"}},
		{"events, and another stream after them", steps(t, write("ticks", map[string]int{"n": 1}, map[string]int{"n": 2}), write("log", "x")), map[string]any{"read": []string{"ticks", "log"}}, []string{`ticks: 2 events, then {"n":2}`, "log: x", "completed"}},
		{"what is left after the end of the task", steps(t, write("log", "last words")), map[string]any{"read": []string{"log"}, "pause": 2}, []string{"log: last words", "completed"}},
		{"a task that fails", steps(t, write("log", "so far"), map[string]any{"fail": "on purpose"}), map[string]any{"read": []string{"log"}}, []string{"log: so far", "failed on purpose"}},
		{"a conversation", steps(t, map[string]any{"converse": map[string]any{"name": "chat"}}, map[string]any{"complete": true}),
			map[string]any{"minutes": 1, "write": "chat", "answer": true, "chunks": []any{map[string]int{"n": 1}, map[string]string{"say": "hello"}, map[string]string{"say": "bye"}}},
			[]string{`{"heard":{"n":1}}`, `{"heard":{"say":"hello"}}`, "heard 3", "completed"}},
		{"what is sent up", steps(t, map[string]any{"collect": map[string]any{"name": "upper"}}, map[string]any{"complete": true}),
			map[string]any{"minutes": 1, "write": "upper", "chunks": []any{"one ", map[string]string{"hex": "c3a4"}}}, []string{"one ä", "completed"}},
		{"all at once", steps(t, write("log", "one"), write("ticks", map[string]int{"n": 1}), map[string]any{"converse": map[string]any{"name": "chat"}}, map[string]any{"complete": true}),
			map[string]any{"minutes": 1, "all": 3}, []string{"log: one", `ticks: 1 events, then {"n":1}`, "heard 1", "completed"}},
		{"misuse", steps(t, write("log", "x"), map[string]any{"until_cancel": 60}), map[string]any{"misuse": "log"}, []string{misuse}},
	} {
		t.Run(c.what, func(t *testing.T) {
			task := n.Call(t, "scripted", "--text", streamsOf(t, c.inner, c.use))
			var got []string
			for _, e := range task.Events {
				if e.Type == "artifact" {
					got = append(got, artifactText(t, e))
				}
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") || task.Code != 0 {
				t.Errorf("exit %d, the answer is %q, want %q\n%s", task.Code, got, c.want, task.Stderr)
			}
		})
	}
	n.Stop(t)
}

// misuse is what a handler hears that does everything wrongly.
const misuse = `open again: nothing
write: it is inbound: only the called agent writes it
fail: it belongs to a called task: end it, or cancel that task
activate: it belongs to a called task, which has announced it already
end: nothing
end again: nothing
read after the end: EOF`

// TestStreamsOfCalledTasksEnd: a task that reads such a stream can be canceled, and the called one is then; and there are
// limits.
func TestStreamsOfCalledTasksEnd(t *testing.T) {
	n := scriptedDaemon(t)
	endless := steps(t, map[string]any{"pace": map[string]any{"name": "log", "size": 10, "every": 0.1}})
	call := n.StartCall(t, "scripted", "--text", streamsOf(t, endless, map[string]any{"read": []string{"log"}}))
	call.AwaitStatus(t)
	system.Eventually(t, system.CallDeadline, "the called task runs", func() bool {
		return strings.Join(listed(t, n, "scripted"), " ") == "running running"
	})
	call.Interrupt()
	if r := call.Result(t); r.Code != 5 {
		t.Errorf("exit %d: %s", r.Code, r.Stderr)
	}
	system.Eventually(t, system.CallDeadline, "both tasks are canceled", func() bool {
		return strings.Join(listed(t, n, "scripted"), " ") == "canceled canceled"
	})
	many := steps(t, map[string]any{"pace": map[string]any{"name": "log", "streams": 70, "size": 1, "every": 60}})
	task := n.Call(t, "scripted", "--text", streamsOf(t, many, map[string]any{"many": 70}))
	const want = "64: this task has 64 streams of called tasks open, the most that it may have: end one first"
	if last := artifactText(t, task.Events[len(task.Events)-2]); last != want {
		t.Errorf("exit %d: %q, want %q", task.Code, last, want)
	}
	n.Stop(t)
}
