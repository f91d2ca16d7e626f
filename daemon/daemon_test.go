package daemon

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/internal/sources"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// waitLimit bounds hangs; no test measures time with it.
const waitLimit = 3 * time.Minute

// startNetwork runs a sandbox until the end of the test.
func startNetwork(t *testing.T) *sandbox.Sandbox {
	t.Helper()
	return sandboxtest.Start(t, sandbox.Config{}).Sandbox
}

// handlers builds handlers of this repository into a plugins directory, with their cards.
func handlers(t *testing.T, folders ...string) string {
	t.Helper()
	if err := sources.Track(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, folder := range folders {
		from := filepath.Join("..", "handlers", folder)
		to := filepath.Join(dir, filepath.Base(folder))
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", to, "./"+from)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
		b, err := os.ReadFile(filepath.Join(from, "agent-card.json"))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, to+".agent-card.json", string(b))
		for path, mode := range map[string]os.FileMode{to: 0o755, to + ".agent-card.json": 0o644} { // whatever the umask
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// running is a daemon in a test.
type running struct {
	*Daemon
	stop context.CancelFunc
	done chan error
	end  error
}

// settingsFor a daemon on a network; plugins may be a directory that does not exist.
func settingsFor(t *testing.T, network *sandbox.Sandbox, plugins string) Config {
	t.Helper()
	dir := t.TempDir()
	s := config.Default()
	s.StateDir, s.Socket, s.Plugins.Dirs = dir, filepath.Join(dir, "s"), []string{plugins}
	// A machine may stand still for a while; no test but those that set them is about these.
	s.Timeouts.HandlerHandshake, s.Timeouts.HandlerDescribe, s.Timeouts.HandlerHealth, s.Timeouts.HandlerStop = waitLimit, waitLimit, waitLimit, waitLimit
	key := "bk_none"
	if network != nil {
		s.Network = config.Network{CDMURL: network.CDMURL(), PubNubOrigin: network.Addr()}
		key = network.APIKey()
	}
	c := Config{Settings: s, Version: "test", Log: quiet, Key: func(string) (string, error) { return key, nil }}
	if network != nil {
		c.OnAgent = network.Register
	}
	return c
}

func start(t *testing.T, c Config) *running {
	t.Helper()
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Daemon: d, stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		r.wait(t)
	})
	return r
}

// wait waits for the end of the daemon and returns what Run returned.
func (r *running) wait(t *testing.T) error {
	t.Helper()
	if r.done == nil {
		return r.end
	}
	select {
	case r.end = <-r.done:
		r.done = nil
	case <-time.After(waitLimit):
		t.Fatal("the daemon did not end")
	}
	return r.end
}

func (r *running) ready(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := r.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// until waits for a change of the daemon that makes cond true.
func (r *running) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	changes := r.events.Follow()
	defer changes.Close()
	limit, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	for !cond() {
		if nextChange(limit, changes) != nil {
			t.Fatalf("not in time: %s; status %v", what, r.Status())
		}
	}
}

func submit(t *testing.T, network *sandbox.Sandbox, agent, text string) *client.Session {
	t.Helper()
	return submitWith(t, network, network.APIKey(), agent, text)
}

// submitWith submits with another API key than that of the network.
func submitWith(t *testing.T, network *sandbox.Sandbox, key, agent, text string) *client.Session {
	t.Helper()
	c, err := client.New(t.Context(), client.Options{CDMURL: network.CDMURL(), PubNubOrigin: network.Addr(), APIKey: key, Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s, err := c.Send(t.Context(), client.Message{Agent: agent, Parts: []client.Part{client.Text("request", text)}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitEvent follows the task to the first event that is what is asked for.
func awaitEvent(t *testing.T, s *client.Session, want func(wire.Event) bool) wire.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	for e, err := range s.Events(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if want(e.Event) {
			return e.Event
		}
		if e.Type == wire.EventTerminal {
			t.Fatalf("the task ended before: %s", e.Raw)
		}
	}
	t.Fatal("the events ended")
	return wire.Event{}
}

func terminal(e wire.Event) bool { return e.Type == wire.EventTerminal }

func TestServes(t *testing.T) {
	network := startNetwork(t)
	s := newSystemd(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Getenv = s.env(map[string]string{"WATCHDOG_USEC": "200000"})
	d := start(t, c)
	if got := s.next(t); got != "READY=1\nSTATUS=starting" {
		t.Fatalf("systemd was told %q first", got)
	}
	d.ready(t)
	told := map[string]bool{}
	for !told["WATCHDOG=1"] || !told["STATUS=ready, 1 agents online"] {
		told[s.next(t)] = true
	}

	st := d.Status()
	if len(st.Agents) != 1 || st.Agents[0].State != "online" || st.Agents[0].BillingMode != "free" || st.Agents[0].InstanceId == "" || st.Version != "test" {
		t.Errorf("status %v", st)
	}
	if h := d.Handlers(); len(h) != 1 || h[0].State != "ready" || len(h[0].Processes) != 1 || h[0].Processes[0].Pid == 0 || h[0].Sha256 == "" {
		t.Errorf("handlers %v", h)
	}
	if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
	if n := d.Status().Tasks; n.Accepted != 1 || n.Completed != 1 {
		t.Errorf("counters %v", n)
	}
	if examples := d.Examples(); len(examples) != 1 || examples[0].Agent != "echo" {
		t.Errorf("examples %+v", examples)
	}
	if err := d.CancelTask(t.Context(), "none"); !errors.Is(err, control.ErrNoTask) {
		t.Errorf("cancel of no task: %v", err)
	}

	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "holds it") {
		t.Errorf("a second daemon on the state directory: %v", err)
	}
	other := c
	other.Settings.StateDir = t.TempDir()
	if _, err := New(other); err == nil || !strings.Contains(err.Error(), "another daemon answers on it") {
		t.Errorf("a second daemon on the socket: %v", err)
	}

	d.stop()
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
	for got := ""; got != "STOPPING=1\nSTATUS=stopping"; {
		got = s.next(t)
	}
	if d.Status().Ready {
		t.Error("a daemon that has stopped is ready")
	}
	if _, err := os.Lstat(c.Settings.Socket); !os.IsNotExist(err) {
		t.Errorf("the control socket is left: %v", err)
	}
}

func TestDrainAndCancelNow(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "internal/sleeper"))
	c.Settings.Drain = time.Hour // only CancelNow can end the task
	d := start(t, c)
	d.ready(t)
	s := submit(t, network, "sleeper", "1h")
	awaitEvent(t, s, func(e wire.Event) bool { return e.Message == "sleeping" })
	if tasks := d.Tasks(); len(tasks) != 1 || tasks[0].TaskId != s.TaskID() || tasks[0].Pid == nil || tasks[0].State != "running" || tasks[0].Deadline == nil {
		t.Errorf("tasks %v", tasks)
	}
	d.stop()
	d.until(t, "the agent drains", func() bool { return d.Status().Agents[0].State == "draining" })
	d.CancelNow()
	if e := awaitEvent(t, s, terminal); e.State != wire.Canceled {
		t.Errorf("the task ended as %s", e.Raw)
	}
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
}

func TestArtifactLimit(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Settings.Limits.ArtifactBytes = 100
	d := start(t, c)
	d.ready(t)
	for text, want := range map[string]wire.TaskState{"hi": wire.Completed, strings.Repeat("long ", 20): wire.Failed} {
		if e := awaitEvent(t, submit(t, network, "echo", text), terminal); e.State != want {
			t.Errorf("a task with %d bytes ended as %s", len(text), e.Raw)
		}
	}
}

// Under systemd a daemon whose control socket is lost with its directory drains and is started again: only systemd can make
// that directory.
func TestLostSocketEndsTheDaemon(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	dir := filepath.Join(t.TempDir(), "run")
	c.Settings.Socket = filepath.Join(dir, "s")
	c.Getenv = newSystemd(t).env(nil)
	r := start(t, c)
	r.ready(t)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "") // so that the directory cannot be made
	if err := r.wait(t); err == nil || !strings.Contains(err.Error(), c.Settings.Socket+" was removed and cannot be made again") {
		t.Errorf("ended with %v", err)
	}
}

func TestWrongKeyEndsTheDaemon(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Key = func(string) (string, error) { return "bk_wrong", nil }
	d := start(t, c)
	if err := d.wait(t); !errors.Is(err, ErrAuthFinal) || strings.Contains(err.Error(), "bk_wrong") {
		t.Errorf("got %v", err)
	}
}

// One agent that cannot be served does not keep the others from it.
func TestProblemsStayWhereTheyAre(t *testing.T) {
	network := startNetwork(t)
	plugins := handlers(t, "echo")
	writeFile(t, filepath.Join(plugins, "broken"), "#!/bin/sh\nexit 1\n")
	writeFile(t, filepath.Join(plugins, "broken.agent-card.json"), `{"identity":{}}`)
	writeFile(t, filepath.Join(plugins, "writable"), "#!/bin/sh\n")
	for name, mode := range map[string]os.FileMode{"broken": 0o755, "writable": 0o777} {
		if err := os.Chmod(filepath.Join(plugins, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	c := settingsFor(t, network, plugins)
	c.Settings.Plugins.Dirs = append(c.Settings.Plugins.Dirs, "/no/such/directory")
	d := start(t, c)
	d.ready(t)
	all := strings.Join(d.Status().Reasons, "\n")
	for _, want := range []string{"handler broken serves no agent: agent card", "writable", "/no/such/directory"} {
		if !strings.Contains(all, want) {
			t.Errorf("reasons\n%s\ndo not name %q", all, want)
		}
	}
}

func TestNetworkOutOfReach(t *testing.T) {
	c := settingsFor(t, nil, handlers(t, "echo"))
	c.Settings.Network.CDMURL = "http://127.0.0.1:1/cdm"
	d := start(t, c)
	d.until(t, "the status says why", func() bool {
		s := d.Status()
		return len(s.Agents) == 1 && s.Agents[0].State == "connecting" && strings.Contains(s.Agents[0].Reason, "cannot be reached")
	})
	d.stop()
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
}

func TestNoAgents(t *testing.T) {
	network := startNetwork(t)
	d := start(t, settingsFor(t, network, t.TempDir()))
	d.until(t, "the status says that there is nothing to serve", func() bool {
		return slices.ContainsFunc(d.Status().Reasons, func(r string) bool { return strings.HasPrefix(r, "no agent is served") })
	})
	if d.Status().Ready {
		t.Error("ready without agents")
	}
}

func TestAgentWithoutKeyFails(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Key = func(string) (string, error) { return "", config.ErrNoKey }
	d := start(t, c)
	d.until(t, "the agent says what it lacks", func() bool {
		s := d.Status()
		return len(s.Agents) == 1 && s.Agents[0].State == "failed" && strings.Contains(s.Agents[0].Reason, "BLOCKS_API_KEY")
	})
}
