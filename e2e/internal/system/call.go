package system

// Tasks as users send them: `blocksd call`.

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil"
)

// Event is a line of `call --json`.
type Event struct {
	Type, TaskID, Agent, State, Message, Error, Reason, Timetoken string
	Queued                                                        bool
	Artifact                                                      struct {
		Kind, MIMEType, Data, FileName string
		Size                           int
	} `json:"artifactRef"`
	OutputID, DeclaredStream string
}

// Task is the outcome of a call.
type Task struct {
	Result
	Events []Event
}

// Call runs `blocksd call --json`.
func (n *Network) Call(t testing.TB, agent string, args ...string) Task {
	t.Helper()
	r := n.Run(t, n.Env, append([]string{"call", agent, "--json"}, args...)...)
	return Task{Result: r, Events: ParseEvents(t, r.Stdout)}
}

// ParseEvents reads JSON lines.
func ParseEvents(t testing.TB, lines string) []Event {
	t.Helper()
	var events []Event
	for line := range strings.Lines(lines) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("call --json printed a line that is not JSON: %q", line)
		}
		events = append(events, e)
	}
	return events
}

// RunningCall is a `blocksd call --json` whose task was submitted.
type RunningCall struct {
	TaskID string
	cmd    *exec.Cmd
	name   string
	stdout testutil.Buffer
	stderr testutil.Buffer
	ended  chan struct{}
}

// StartCall starts `blocksd call --json` and returns when the task was submitted.
func (n *Network) StartCall(t testing.TB, agent string, args ...string) *RunningCall {
	t.Helper()
	c := &RunningCall{cmd: exec.Command(n.Blocksd(), append([]string{"call", agent, "--json"}, args...)...), name: "call " + agent, ended: make(chan struct{})}
	c.cmd.Env = append(CleanEnv(), n.Env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.ended
	})
	c.TaskID = c.await(t, "it submits a task", func(Event) bool { return true }).TaskID
	return c
}

// events so far; a line that is not complete yet is left out.
func (c *RunningCall) events(t testing.TB) []Event {
	t.Helper()
	text := c.stdout.String()
	return ParseEvents(t, text[:strings.LastIndexByte(text, '\n')+1])
}

// await returns the first event that is wanted.
func (c *RunningCall) await(t testing.TB, what string, wanted func(Event) bool) (found Event) {
	t.Helper()
	Eventually(t, CallDeadline, c.name+": "+what, func() bool {
		ended := false
		select {
		case <-c.ended:
			ended = true
		default:
		}
		events := c.events(t)
		if i := slices.IndexFunc(events, wanted); i >= 0 {
			found = events[i]
			return true
		}
		if ended {
			t.Fatalf("%s ended before %s: %s", c.name, what, c.stderr.String())
		}
		return false
	})
	return found
}

// AwaitStatus waits for a status text of the handler: it has the task then, and has published something.
func (c *RunningCall) AwaitStatus(t testing.TB) {
	t.Helper()
	c.await(t, "the handler reports", func(e Event) bool { return e.Type == "progress" && e.Message != "" })
}

// AwaitStream waits until the stream with that name has been announced.
func (c *RunningCall) AwaitStream(t testing.TB, name string) {
	t.Helper()
	c.await(t, "stream "+name+" begins", func(e Event) bool { return e.DeclaredStream == name })
}

// AwaitItems waits until as many more items of streams have been printed.
func (c *RunningCall) AwaitItems(t testing.TB, more int) {
	t.Helper()
	items := func() (all int) {
		for _, e := range c.events(t) {
			if e.Type == "stream" {
				all++
			}
		}
		return all
	}
	want := items() + more
	Eventually(t, CallDeadline, c.name+" prints what is streamed", func() bool { return items() >= want })
}

// Interrupt does what Ctrl-C does.
func (c *RunningCall) Interrupt() { _ = c.cmd.Process.Signal(syscall.SIGINT) }

// Kill ends the call, but not its task.
func (c *RunningCall) Kill() { _ = c.cmd.Process.Kill() }

// Result waits for the end of the call.
func (c *RunningCall) Result(t testing.TB) Task {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(CallDeadline):
		t.Fatalf("%s of task %s did not end within %s: %s", c.name, c.TaskID, CallDeadline, c.stderr.String())
	}
	r := Result{Code: c.cmd.ProcessState.ExitCode(), Stdout: c.stdout.String(), Stderr: c.stderr.String()}
	return Task{Result: r, Events: c.events(t)}
}
