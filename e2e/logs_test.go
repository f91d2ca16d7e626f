package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

type logLine struct {
	Type, Handler, Level, Message, Reason string
	PID                                   *int
	Attributes                            map[string]string
	Panic, Lines                          []string
}

// logs runs `blocksd logs --json` with arguments.
func logs(t *testing.T, n *system.Network, args ...string) []logLine {
	t.Helper()
	r := n.Run(t, n.Env, append([]string{"logs", "--json"}, args...)...)
	if r.Code != 0 {
		t.Fatalf("logs %v: exit %d, %s", args, r.Code, r.Stderr)
	}
	var out []logLine
	for line := range strings.Lines(r.Stdout) {
		var l logLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, l)
	}
	return out
}

// awaitLog waits until the log of a handler has all texts: what a handler writes comes by another way than what it answers.
func awaitLog(t *testing.T, n *system.Network, handler string, parts ...string) {
	t.Helper()
	var last string
	defer func() {
		if t.Failed() {
			t.Logf("the log of %s was\n%s", handler, last)
		}
	}()
	system.Eventually(t, system.CallDeadline, "the log of "+handler+" has "+strings.Join(parts, " … "), func() bool {
		last = n.Run(t, n.Env, "logs", handler).Stdout
		return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(last, part) })
	})
}

func TestLogs(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	if ls := logs(t, n, "--crash", "badhandler"); len(ls) != 0 {
		t.Errorf("a crash before there was one: %+v", ls)
	}
	follow := exec.Command(bin.Blocksd(), "logs", "--json", "-f", "-n", "0", "badhandler") // all, because it may come late
	follow.Env = append(system.CleanEnv(), n.Env...)
	out, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(system.CallDeadline, func() { _ = follow.Process.Kill() }) // ends the reading
	defer stuck.Stop()
	if task := n.Call(t, "badhandler", "--text", "log hello"); task.Code != 0 {
		t.Fatalf("exit %d: %s", task.Code, task.Stderr)
	}
	lines := bufio.NewScanner(out)
	next := func() (l logLine) {
		if !lines.Scan() {
			t.Fatalf("the stream ended: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		return l
	}
	warned, printed := false, false
	for !warned || !printed { // from two streams: in any order
		l := next()
		warned = warned || l.Type == "line" && l.Level == "WARN" && l.Message == "hello" && l.Attributes["task"] != "" && l.PID != nil
		printed = printed || l.Level == "INFO" && l.Message == "printed hello"
	}
	n.Call(t, "badhandler", "--text", "crash")
	for l := next(); l.Type != "crash"; l = next() {
		if l.Type != "line" || l.Handler != "badhandler" {
			t.Errorf("not a line: %+v", l)
		}
	}
	_ = follow.Process.Signal(syscall.SIGINT)
	if err := follow.Wait(); err != nil {
		t.Errorf("logs -f after Ctrl-C: %v", err)
	}

	if ls := logs(t, n, "--crash", "badhandler"); len(ls) != 1 || ls[0].Reason != "exit_code" || len(ls[0].Panic) < 2 || ls[0].Panic[0] != "panic: the whole process goes down" || len(ls[0].Lines) < 2 {
		t.Errorf("the crash: %+v", ls)
	}
	if ls := logs(t, n, "-n", "2"); len(ls) != 2 {
		t.Errorf("two records of all handlers: %+v", ls)
	}
	wantSentence(t, n.Run(t, n.Env, "logs", "nobody"), 1, `there is no handler "nobody": see blocksd handlers`)
	wantSentence(t, n.Run(t, n.Env, "logs", "--crash"), 2, "needs the name of a handler")
	r := n.Run(t, n.Env, "status")
	r.Stdout = strings.Join(strings.Fields(r.Stdout), " ") // it is broken into lines
	if !strings.Contains(r.Stdout, "last crash, ") || !strings.Contains(r.Stdout, "ended with exit code 2; see blocksd logs --crash badhandler") {
		t.Errorf("status says nothing of the crash: %s", r.Stdout)
	}
	n.Stop(t)
}

// TestNobodyReadsTheLog: a daemon whose log is not read, and logs more than a pipe holds, does its tasks all the same. When
// it is read again the log goes on.
func TestNobodyReadsTheLog(t *testing.T) {
	_, env := bin.Sandbox(t, bin.Plugins())
	n := bin.Daemon(t, env.With("LOG_LEVEL", "debug"), bin.Plugins())
	ctx, cancel := context.WithTimeout(context.Background(), 2*system.CallDeadline)
	defer cancel()
	consumer, err := system.NewConsumer(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	release := sync.OnceFunc(n.HoldOutput())
	defer release()
	const tasks = 800 // some hundred bytes of log each
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range tasks / 8 {
				task, err := consumer.Submit(ctx, "echo", "hi")
				if err != nil {
					t.Error(err)
					return
				}
				if end, err := consumer.Await(ctx, task); err != nil || end.State != "completed" {
					t.Errorf("%+v, %v", end, err)
					return
				}
			}
		})
	}
	all.Wait()
	release()
	task, err := consumer.Submit(ctx, "echo", "hi")
	if err != nil {
		t.Fatal(err)
	}
	system.Eventually(t, system.CallDeadline, "the log goes on", func() bool { return strings.Contains(n.Output(), task.ID) })
	if got := len(n.Output()); got < 128<<10 {
		t.Errorf("the log has %d bytes only: it fits into a pipe, so that this test shows nothing", got)
	}
}
