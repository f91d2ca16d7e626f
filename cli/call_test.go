package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// callLimit bounds hangs: a machine may stand still for a while.
const callLimit = 3 * time.Minute

const parrotCard = `{
  "identity": {"agentName": "parrot", "displayName": "Parrot", "description": "", "version": "1", "provider": {"organization": "o"}},
  "capabilities": {"taskKinds": ["request"]},
  "io": {"inputs": [{"id": "words", "description": "Words.", "contentType": "text/plain", "required": true}]},
  "tags": [{"id": "t", "name": "T"}],
  "runtime": {"handler": "main.go", "concurrency": 8}
}`

// parrot does what the text says. What is stubborn goes on until it is let go.
func parrot(letGo <-chan struct{}) agent.Function {
	return func(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
		text := ""
		for _, p := range task.Parts {
			if p.PartID == "words" && p.Text != nil {
				text = *p.Text
			}
		}
		switch text {
		case "fail":
			return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "no such word"}
		case "hold":
			if err := port.Artifact(ctx, wire.Artifact{OutputID: "reply", FileName: "held.txt", MIMEType: "text/plain", Data: []byte("so far")}); err != nil {
				return err
			}
			port.Status("waiting")
			<-ctx.Done()
			time.Sleep(500 * time.Millisecond) // as one that has something to put away
		case "stubborn":
			port.Status("waiting")
			<-letGo
		case "wait":
			port.Status("waiting")
			<-ctx.Done()
			return context.Cause(ctx)
		}
		port.Status("working")
		return port.Artifact(ctx, wire.Artifact{OutputID: "reply", FileName: "reply.txt", MIMEType: "text/plain", Data: []byte("says " + text + "\nand \x1b[31mmore")})
	}
}

// startParrot runs a network with one agent and returns the environment of its consumers.
func startParrot(t *testing.T) []string {
	t.Helper()
	c, err := card.Parse([]byte(parrotCard))
	if err != nil {
		t.Fatal(err)
	}
	lonely, err := card.Parse([]byte(strings.Replace(parrotCard, `"parrot"`, `"lonely"`, 1))) // which nobody serves
	if err != nil {
		t.Fatal(err)
	}
	network := sandboxtest.Start(t, sandbox.Config{Blocks: switches.Blocks{CancelBudget: time.Hour}}, c, lonely)
	cdm, api := network.Backend(nil)
	events := event.NewBus(event.Config{})
	states := events.Follow(event.AgentState)
	t.Cleanup(states.Close)
	letGo := make(chan struct{})
	a, err := agent.New(agent.Config{
		Events: events,
		Card:   c, Handler: "parrot", APIKey: network.APIKey(), Backend: api, CDM: cdm, Origin: network.Addr(),
		Dispatcher: agent.NewFuncDispatcher(parrot(letGo)), CancelGrace: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	agentCtx, stopAgent := context.WithCancel(context.Background())
	agentDone := make(chan error, 1)
	go func() { agentDone <- a.Run(agentCtx) }()
	t.Cleanup(func() {
		close(letGo)
		stopAgent()
		if err := <-agentDone; err != nil {
			t.Error(err)
		}
	})
	limit, expire := context.WithTimeout(t.Context(), callLimit)
	defer expire()
	for state := ""; state != agent.StateOnline; {
		item, err := states.Next(limit)
		if err != nil {
			t.Fatalf("the agent did not come online: %+v", a.Status())
		}
		state = item.State
	}
	return network.Environ()
}

type result struct {
	code           int
	stdout, stderr string
}

// expiring lets a timeout pass when a channel is closed.
func expiring(expired <-chan struct{}) func(context.Context, time.Duration, error) (context.Context, context.CancelFunc) {
	return func(ctx context.Context, _ time.Duration, cause error) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(ctx)
		go func() {
			select {
			case <-expired:
				cancel(cause)
			case <-ctx.Done():
			}
		}()
		return ctx, func() { cancel(nil) }
	}
}

func runCLI(t *testing.T, env []string, in Interrupts, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	code := Run(ctx, Invocation{Args: args, Stdout: &stdout, Stderr: &stderr, Env: env, Interrupts: in})
	return result{code, stdout.String(), stderr.String()}
}

func TestCall(t *testing.T) {
	env := startParrot(t)

	t.Run("for people", func(t *testing.T) {
		r := runCLI(t, env, Interrupts{}, "call", "parrot", "--text", "hello")
		_, rest, _ := strings.Cut(r.stdout, "\n") // the task id differs each time
		want := "running\nstatus: working\nartifact reply reply.txt (text/plain, 24 bytes)\n  says hello\n  and \uFFFD[31mmore\ncompleted\n"
		if r.code != 0 || rest != want || !strings.HasPrefix(r.stdout, "task task_") || r.stderr != "" {
			t.Errorf("exit %d, stderr %q\n%s", r.code, r.stderr, cmp.Diff(want, rest))
		}
	})
	t.Run("on a full disk", func(t *testing.T) {
		for _, format := range []string{"", "--json"} {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			args := strings.Fields("call parrot hello " + format)
			code := Run(t.Context(), Invocation{Args: args, Stdout: full, Stderr: &stderr, Env: env})
			full.Close()
			if code != 1 || !strings.Contains(stderr.String(), "blocksd: call parrot: write standard output: no space left on device, ") || strings.Contains(stderr.String(), "interrupt again") {
				t.Errorf("%v: exit %d: %s", args, code, stderr.String())
			}
		}
	})
	t.Run("for machines", func(t *testing.T) {
		r := runCLI(t, env, Interrupts{}, "call", "parrot", "--text", "hello", "--json")
		var types []string
		var last map[string]any
		for line := range strings.Lines(r.stdout) {
			last = nil
			if err := json.Unmarshal([]byte(line), &last); err != nil {
				t.Fatalf("line %q: %v", line, err)
			}
			types = append(types, fmt.Sprint(last["type"]))
			if _, ok := last["timetoken"].(string); !ok && last["type"] != "submitted" {
				t.Errorf("line %q has no timetoken", line)
			}
		}
		if d := cmp.Diff([]string{"submitted", "request", "progress", "progress", "artifact", "terminal"}, types); d != "" || r.code != 0 {
			t.Errorf("exit %d: %s\n%s", r.code, d, r.stdout)
		}
		if last["state"] != "completed" {
			t.Errorf("printed %s", r.stdout)
		}
	})
	t.Run("a task that fails", func(t *testing.T) {
		r := runCLI(t, env, Interrupts{}, "call", "parrot", "--part", "words=fail")
		if r.code != 4 || !strings.HasSuffix(r.stdout, "\nfailed: no such word\n") || r.stderr != "" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("saved", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "out")
		r := runCLI(t, env, Interrupts{}, "call", "parrot", "--text", "keep", "--save", dir, "--json")
		b, err := os.ReadFile(filepath.Join(dir, "reply.txt"))
		if err != nil || !strings.HasPrefix(string(b), "says keep") || r.code != 0 {
			t.Errorf("saved %q, %v; %+v", b, err, r)
		}
		if lines := strings.Split(strings.TrimSpace(r.stdout), "\n"); !strings.Contains(lines[len(lines)-1], `"type":"terminal"`) {
			t.Errorf("the last line is not the terminal: %s", r.stdout)
		}
	})
	t.Run("timed out", func(t *testing.T) {
		expired := make(chan struct{})
		out := &triggerWriter{text: "waiting", fire: func() { close(expired) }}
		var stderr bytes.Buffer
		code := Run(t.Context(), Invocation{
			Args: []string{"call", "parrot", "--text", "wait", "--timeout", "3s"}, Stdout: out, Stderr: &stderr, Env: env,
			unhurried: callLimit, withTimeout: expiring(expired),
		})
		if code != 6 || !strings.Contains(stderr.String(), "did not end within 3s, so it was canceled") {
			t.Errorf("exit %d, printed %s, %s", code, out.String(), stderr.String())
		}
	})
	t.Run("timed out in the queue", func(t *testing.T) {
		expired := make(chan struct{})
		out := &triggerWriter{text: `"queued":true`, fire: func() { close(expired) }}
		var stderr bytes.Buffer
		code := Run(t.Context(), Invocation{
			Args: []string{"call", "lonely", "--text", "x", "--timeout", "5s", "--json"}, Stdout: out, Stderr: &stderr, Env: env,
			unhurried: callLimit, withTimeout: expiring(expired),
		})
		if want := regexp.MustCompile(`^blocksd: call lonely: task task_[a-z0-9]+ did not end within 5s, so it was canceled\n$`); code != 6 || !want.MatchString(stderr.String()) {
			t.Errorf("exit %d, printed %s, %s", code, out.String(), stderr.String())
		}
		if !regexp.MustCompile(`"type":"submitted","taskId":"task_[a-z0-9]+","agent":"lonely","queued":true`).MatchString(out.String()) {
			t.Errorf("printed %s", out.String())
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		first := make(chan struct{})
		out := &triggerWriter{text: "waiting", fire: func() { close(first) }}
		var stderr bytes.Buffer
		code := Run(t.Context(), Invocation{Args: []string{"call", "parrot", "--text", "wait"}, Stdout: out, Stderr: &stderr, Env: env, Interrupts: Interrupts{First: first}, unhurried: callLimit})
		if code != 5 || !strings.HasSuffix(out.String(), "cancel requested\ncanceled\n") || !strings.Contains(stderr.String(), "canceling task") {
			t.Errorf("exit %d, printed %s, %s", code, out.String(), stderr.String())
		}
	})
	t.Run("interrupted, and saved", func(t *testing.T) {
		first, dir := make(chan struct{}), t.TempDir()
		out := &triggerWriter{text: "waiting", fire: func() { close(first) }}
		var stderr bytes.Buffer
		code := Run(t.Context(), Invocation{Args: []string{"call", "parrot", "--text", "hold", "--save", dir}, Stdout: out, Stderr: &stderr, Env: env, Interrupts: Interrupts{First: first}, unhurried: callLimit})
		if b, err := os.ReadFile(filepath.Join(dir, "held.txt")); code != 5 || err != nil || string(b) != "so far" {
			t.Errorf("exit %d, saved %q, %v, printed %s, %s", code, b, err, out.String(), stderr.String())
		}
	})
	t.Run("a connection breaks off", func(t *testing.T) { // which sends SIGPIPE, as a reader does that has ended
		expired := make(chan struct{})
		out := &triggerWriter{text: "waiting", fire: func() {
			if err := syscall.Kill(os.Getpid(), syscall.SIGPIPE); err != nil {
				t.Error(err)
			}
			close(expired)
		}}
		var stderr bytes.Buffer
		code := Run(t.Context(), Invocation{
			Args: []string{"call", "parrot", "--text", "wait", "--timeout", "3s"}, Stdout: out, Stderr: &stderr, Env: env,
			unhurried: callLimit, withTimeout: expiring(expired),
		})
		if code != 6 || !strings.Contains(stderr.String(), "did not end within 3s, so it was canceled") || !strings.Contains(out.String(), out.text) {
			t.Errorf("exit %d, printed %s, %s", code, out.String(), stderr.String())
		}
	})
	t.Run("interrupted twice", func(t *testing.T) {
		first, second := make(chan struct{}), make(chan struct{})
		out := &triggerWriter{text: "waiting", fire: func() { close(first) }}
		stderr := &triggerWriter{text: "canceling", fire: func() { close(second) }}
		code := Run(t.Context(), Invocation{Args: []string{"call", "parrot", "--text", "stubborn"}, Stdout: out, Stderr: stderr, Env: env, Interrupts: Interrupts{First: first, Second: second}, unhurried: callLimit})
		if code != 1 || !strings.Contains(stderr.String(), "stopped waiting for task ") || !strings.HasSuffix(stderr.String(), "; it may still run\n") {
			t.Errorf("exit %d, printed %s, %s", code, out.String(), stderr.String())
		}
	})
	t.Run("the same task again", func(t *testing.T) {
		one := runCLI(t, env, Interrupts{}, "call", "parrot", "--text", "x", "--idempotency-key", "k")
		two := runCLI(t, env, Interrupts{}, "call", "parrot", "--text", "x", "--idempotency-key", "k")
		if one.code != 0 || two.code != 0 || !strings.Contains(two.stdout, "(submitted before)") {
			t.Errorf("%+v\n%+v", one, two)
		}
	})
}

// triggerWriter calls fire when text has been written.
type triggerWriter struct {
	bytes.Buffer
	text string
	fire func()
}

func (w *triggerWriter) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if w.fire != nil && strings.Contains(w.String(), w.text) {
		w.fire()
		w.fire = nil
	}
	return n, err
}

func TestDefaultInput(t *testing.T) {
	text := card.Input{ID: "message", ContentType: "text/plain"}
	form := card.Input{ID: "operands", ContentType: "application/json"}
	file := card.Input{ID: "photo", ContentType: "image/png"}
	usual := card.Input{ID: "request", ContentType: "application/json"}
	for _, c := range []struct {
		name   string
		inputs []card.Input
		kind   partKind
		want   string
	}{
		{"no card", nil, partText, "request"},
		{"usual name", []card.Input{text, usual}, partText, "request"},
		{"first text", []card.Input{file, form, text}, partText, "message"},
		{"a form takes text", []card.Input{file, form}, partText, "operands"},
		{"first form", []card.Input{text, form}, partJSON, "operands"},
		{"a text takes JSON", []card.Input{text}, partJSON, "message"},
		{"only files", []card.Input{file}, partText, "request"},
	} {
		if got := defaultInput(c.inputs, c.kind); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("x"), 1}, {usagef("x"), 2}, {fmt.Errorf("y: %w", usagef("x")), 2},
		{fmt.Errorf("y: %w", &backend.Error{Status: 401}), 3}, {&backend.Error{Status: 500}, 1},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
	if got := explain(errors.Join(errors.New("a"), errors.New("b"))); len(got) != 1 || got[0] != "a; b" {
		t.Errorf("%q", got)
	}
}
