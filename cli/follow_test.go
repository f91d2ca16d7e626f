package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// submitted sends a task that ends at once, and returns its id.
func submitted(t *testing.T, env []string, text string) string {
	t.Helper()
	r := runCLI(t, env, Interrupts{}, "call", "parrot", "--text", text, "--json")
	var first struct{ TaskID string }
	line, _, _ := strings.Cut(r.stdout, "\n")
	if err := json.Unmarshal([]byte(line), &first); err != nil || first.TaskID == "" {
		t.Fatalf("%v: %+v", err, r)
	}
	return first.TaskID
}

func TestFollow(t *testing.T) {
	env := startParrot(t)

	t.Run("a finished task", func(t *testing.T) {
		task := submitted(t, env, "hello")
		r := runCLI(t, env, Interrupts{}, "follow", task)
		want := "running\nstatus: working\nartifact reply reply.txt (text/plain, 24 bytes)\n  says hello\n  and \uFFFD[31mmore\ncompleted\n"
		if d := cmp.Diff(want, r.stdout); d != "" || r.code != 0 || r.stderr != "" {
			t.Errorf("exit %d, stderr %q\n%s", r.code, r.stderr, d)
		}
	})
	t.Run("for machines, saved", func(t *testing.T) {
		task, dir := submitted(t, env, "hello"), t.TempDir()
		r := runCLI(t, env, Interrupts{}, "follow", task, "--json", "--save", dir)
		var types []string
		for _, m := range regexp.MustCompile(`"type":"([a-z_]+)"`).FindAllStringSubmatch(r.stdout, -1) {
			types = append(types, m[1])
		}
		if d := cmp.Diff([]string{"request", "progress", "progress", "artifact", "terminal"}, types); d != "" || r.code != 0 {
			t.Errorf("exit %d: %s\n%s", r.code, d, r.stdout)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "reply.txt")); err != nil || !strings.HasPrefix(string(b), "says hello") {
			t.Errorf("saved %q, %v", b, err)
		}
	})
	t.Run("a failed task", func(t *testing.T) {
		if r := runCLI(t, env, Interrupts{}, "follow", submitted(t, env, "fail")); r.code != exitFailed || !strings.HasSuffix(r.stdout, "failed: no such word\n") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("a running task is left alone", func(t *testing.T) {
		task := startWaiting(t, env)
		r := runCLI(t, env, Interrupts{}, "follow", task, "--timeout", "300ms")
		if r.code != exitTimedOut || !strings.Contains(r.stderr, "did not end within 300ms; it goes on") {
			t.Errorf("%+v", r)
		}
		first := make(chan struct{})
		out := &triggerWriter{text: "waiting", fire: func() { close(first) }}
		var stderr bytes.Buffer
		code := Run(t.Context(), Invocation{Args: []string{"follow", task}, Stdout: out, Stderr: &stderr, Env: env, Interrupts: Interrupts{First: first}})
		if code != exitFailure || !strings.Contains(stderr.String(), "stopped following before the task's end; it goes on") {
			t.Errorf("exit %d, printed %s, %s", code, out.String(), stderr.String())
		}
		if r := runCLI(t, env, Interrupts{}, "calls", "cancel", task); r.code != 0 || !strings.Contains(r.stdout, "was asked to end") {
			t.Errorf("it was canceled before, or cannot be: %+v", r)
		}
		if r := runCLI(t, env, Interrupts{}, "follow", task); r.code != exitCanceled || !strings.HasSuffix(r.stdout, "cancel requested\ncanceled\n") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("mistakes", func(t *testing.T) {
		for _, c := range []struct {
			args []string
			code int
			want string
		}{
			{[]string{"follow", "task_nobody"}, exitFailure, "follow task_nobody: the network knows no such task that this API key may see: see blocksd calls"},
			{[]string{"follow", "x", "--timeout", "0s"}, exitUsage, "follow x: --timeout must be more than 0"},
			{[]string{"follow"}, exitUsage, "follow needs an argument"},
			{[]string{"calls", "cancel", "task_nobody"}, exitFailure, "calls cancel task_nobody: the network knows no such task that this API key may control"},
			{[]string{"calls", "--state", "complete"}, exitUsage, `unknown state "complete", did you mean "completed"?`},
			{[]string{"calls", "--limit", "0"}, exitUsage, "--limit must be at least 1"},
			{[]string{"calls", "cancle", "x"}, exitUsage, `unknown command "cancle" of calls`},
			{[]string{"calls", "cancle", "x", "--force"}, exitUsage, `unknown command "cancle" of calls, did you mean "cancel"?`},
			{[]string{"stauts", "--json"}, exitUsage, `unknown command "stauts", did you mean "status"?`},
			{[]string{"--json"}, exitUsage, "unknown flag --json of blocksd, did you mean --json? It belongs behind a command"},
			{[]string{"call", "parrot", "--send", "x"}, exitUsage, "must be NAME=PATH"},
			{[]string{"call", "parrot", "--send", "x=" + os.DevNull, "--text", "a"}, exitUsage, `the agent's card has no streams, so nothing can be sent into "x"`},
			{[]string{"call", "parrot", "--pipe", "3", "--text", "a"}, exitUsage, "the agent takes no pipe tasks: leave out --pipe"},
			{[]string{"call", "parrot", "--text", "-", "--file", "f=-"}, exitUsage, "standard input is wanted twice, by part"},
			{[]string{"call", "parrot", "--text", "@no/such"}, exitUsage, "there is no file no/such"},
		} {
			if r := runCLI(t, env, Interrupts{}, c.args...); r.code != c.code || !strings.Contains(r.stderr, c.want) || r.stdout != "" {
				t.Errorf("%q: %+v", c.args, r)
			}
		}
	})
}

// startWaiting sends a task that lasts, and returns once it runs.
func startWaiting(t *testing.T, env []string) string {
	t.Helper()
	running, detached := make(chan struct{}), make(chan struct{})
	out := &triggerWriter{text: "waiting", fire: func() { close(running) }}
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		defer close(detached)
		Run(ctx, Invocation{Args: []string{"call", "parrot", "--text", "wait", "--json"}, Stdout: out, Stderr: &bytes.Buffer{}, Env: env})
	}()
	<-running
	leave()
	<-detached
	var first struct{ TaskID string }
	line, _, _ := strings.Cut(out.String(), "\n")
	if err := json.Unmarshal([]byte(line), &first); err != nil {
		t.Fatal(err)
	}
	return first.TaskID
}

func TestCalls(t *testing.T) {
	env := startParrot(t)
	if r := runCLI(t, env, Interrupts{}, "calls"); r.code != 0 || r.stdout != "no tasks\n" {
		t.Errorf("%+v", r)
	}
	if r := runCLI(t, env, Interrupts{}, "calls", "--json"); r.code != 0 || strings.TrimSpace(r.stdout) != "[]" {
		t.Errorf("%+v", r)
	}
	one, two := submitted(t, env, "one"), submitted(t, env, "fail")
	list := func(args ...string) (ids []string) {
		t.Helper()
		r := runCLI(t, env, Interrupts{}, append([]string{"calls", "--json"}, args...)...)
		var found []struct{ TaskID, Agent, State, CreatedAt string }
		if err := json.Unmarshal([]byte(r.stdout), &found); err != nil || r.code != 0 {
			t.Fatalf("%v: %+v", err, r)
		}
		for _, f := range found {
			if f.Agent != "parrot" || f.State == "" || f.CreatedAt == "" {
				t.Errorf("%+v", f)
			}
			ids = append(ids, f.TaskID)
		}
		return ids
	}
	for _, c := range []struct {
		args, want []string
	}{
		{nil, []string{two, one}},
		{[]string{"--limit", "1"}, []string{two}},
		{[]string{"--state", "completed"}, []string{one}},
		{[]string{"--agent", "parrot", "--state", "failed"}, []string{two}},
		{[]string{"--agent", "nobody"}, nil},
	} {
		if d := cmp.Diff(c.want, list(c.args...)); d != "" {
			t.Errorf("%q: %s", c.args, d)
		}
	}
	for verb, want := range map[string]string{
		"cancel": " had ended as failed before\n", "pause": " had ended as failed before\n", "retry": " is to run once more; blocksd follow " + two + " shows what comes of it\n",
	} {
		if r := runCLI(t, env, Interrupts{}, "calls", verb, two); r.code != 0 || r.stdout != "task "+two+want {
			t.Errorf("%s: %+v", verb, r)
		}
	}
	r := runCLI(t, env, Interrupts{}, "calls")
	if lines := strings.Split(r.stdout, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "TASK ") || !regexp.MustCompile(`^`+two+`\s+parrot\s+failed\s+\d+s$`).MatchString(lines[1]) {
		t.Errorf("printed %s", r.stdout)
	}
}

// TestStandardInput: what is on standard input, or in a file, is a text like any other.
func TestStandardInput(t *testing.T) {
	env := startParrot(t)
	path := filepath.Join(t.TempDir(), "words")
	if err := os.WriteFile(path, []byte("from a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args        []string
		stdin, want string
	}{
		{[]string{"--text", "-"}, "typed", "says typed"},
		{[]string{"-"}, "typed", "says typed"},
		{[]string{"--part", "words=-"}, "typed", "says typed"},
		{[]string{"--text", "@" + path}, "", "says from a file"},
		{[]string{"--text", "@@home"}, "", "says @home"},
		{[]string{"@" + path}, "", "says @" + path},
	} {
		var stdout, stderr bytes.Buffer
		code := Run(t.Context(), Invocation{Args: append([]string{"call", "parrot"}, c.args...), Stdin: strings.NewReader(c.stdin), Stdout: &stdout, Stderr: &stderr, Env: env})
		if code != 0 || !strings.Contains(stdout.String(), c.want+"\n") {
			t.Errorf("%q: exit %d, %s%s", c.args, code, stdout.String(), stderr.String())
		}
	}
}

// TestStandardInputIsInterrupted: a wait for somebody who types ends with Ctrl-C.
func TestStandardInputIsInterrupted(t *testing.T) {
	env := startParrot(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan struct{})
	close(first)
	var stdout, stderr bytes.Buffer
	code := Run(t.Context(), Invocation{Args: []string{"call", "parrot", "-"}, Stdin: read, Stdout: &stdout, Stderr: &stderr, Env: env, Interrupts: Interrupts{First: first}})
	if code != exitFailure || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit %d, %s%s", code, stdout.String(), stderr.String())
	}
	write.Close() // ends the goroutine that reads
	read.Close()
}
