package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/network/wire"
)

// TestDrainAndUndrain: the agents leave and come back, the daemon and its handlers stay; over the control socket.
func TestDrainAndUndrain(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "internal/sleeper"))
	c.Settings.Drain = time.Hour
	d := start(t, c)
	d.ready(t)
	before := d.Status().Agents[0].InstanceId
	s := submit(t, network, "sleeper", "1h")
	awaitEvent(t, s, func(e wire.Event) bool { return e.Message == "sleeping" })

	ctl, err := control.Dial(t.Context(), c.Settings.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	impatient, stop := context.WithCancel(t.Context())
	drained := make(chan error, 1)
	go func() { drained <- ctl.Drain(impatient) }()
	d.until(t, "the agent drains", func() bool { return d.Status().Agents[0].State == "draining" })
	stop()
	if err := <-drained; err == nil || !strings.Contains(err.Error(), "drain the daemon at") {
		t.Errorf("a drain that waits for a task for an hour: %v", err)
	}
	go func() { drained <- ctl.Drain(t.Context()) }()
	if err := ctl.CancelTask(t.Context(), s.TaskID()); err != nil {
		t.Error(err)
	}
	if e := awaitEvent(t, s, terminal); e.State != wire.Canceled {
		t.Errorf("the task ended as %s", e.Raw)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	st := d.Status()
	if st.Ready || st.Agents[0].State != "offline" || !strings.Contains(strings.Join(st.Reasons, "\n"), "undrain") || st.Handlers[0].State != "ready" {
		t.Errorf("drained, the status is %v", st)
	}
	if err := ctl.Undrain(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.ready(t)
	s = submit(t, network, "sleeper", "1ms")
	if e := awaitEvent(t, s, terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
	d.until(t, "the counts add up", func() bool {
		n := d.Status().Tasks
		return n.Accepted == 2 && n.Canceled == 1 && n.Completed == 1 && n.Running == 0
	})
	if after := d.Status().Agents[0].InstanceId; after != before {
		t.Errorf("the instance was %s and is %s", before, after)
	}
	// A drained daemon can be stopped.
	if err := ctl.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	d.stop()
	if err := d.wait(t); err != nil {
		t.Error(err)
	}
}

// TestDeploymentIsKept: a daemon starts although the place of the deployment document is down, as it was the last time.
func TestDeploymentIsKept(t *testing.T) {
	network := startNetwork(t)
	front := newFront(t, network)
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Settings.Network.CDMURL = front.url
	d := start(t, c)
	d.ready(t)
	d.stop()
	if err := d.wait(t); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(c.Settings.StateDir, deploymentFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	front.fail(true)
	d = start(t, c)
	d.ready(t)
	if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
	d.stop()
	if err := d.wait(t); err != nil {
		t.Fatal(err)
	}

	// One that is out of date serves until the true one comes.
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	stale := strings.ReplaceAll(string(old), "sub-c-", "sub-c-0")
	if stale == string(old) {
		t.Fatalf("no key in %s", old)
	}
	writeFile(t, path, stale)
	d = start(t, c)
	d.until(t, "the kept document is used", func() bool { return d.network.get().client != nil })
	front.fail(false)
	d.ready(t)
	if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
	d.stop()
	if err := d.wait(t); err != nil {
		t.Fatal(err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(old) {
		t.Errorf("kept is %s, %v", now, err)
	}

	// A file that is no document, or one of another place, stands in for nothing.
	for _, text := range []string{"{", `{"url":"http://elsewhere"}`, "null"} {
		writeFile(t, path, text)
		if _, ok := d.network.kept.load(front.url); ok {
			t.Errorf("%s was taken", text)
		}
	}
}

// TestOneAgentIsFinal: an agent that is forced offline fails for good; the others go on, and the daemon with them.
func TestOneAgentIsFinal(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo", "adder"))
	d := start(t, c)
	d.ready(t)
	if err := network.ForceOffline("adder", true); err != nil {
		t.Fatal(err)
	}
	if err := d.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	d.Undrain() // connects again
	d.until(t, "adder has failed and echo is online", func() bool {
		states := map[string]string{}
		for _, a := range d.Status().Agents {
			states[a.Name] = a.State
		}
		return states["adder"] == "failed" && states["echo"] == "online"
	})
	if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
	if err := network.ForceOffline("echo", true); err != nil {
		t.Fatal(err)
	}
	if err := d.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	d.Undrain()
	if err := d.wait(t); !errors.Is(err, ErrAuthFinal) {
		t.Errorf("every agent is refused for good, and the daemon ends with %v", err)
	}
}

// The tasks of an agent that has failed for good count although it is removed then.
func TestCountsOutliveAFailedAgent(t *testing.T) {
	network := startNetwork(t)
	plugins := handlers(t, "echo", "adder")
	d := start(t, settingsFor(t, network, plugins))
	d.ready(t)
	awaitEvent(t, submit(t, network, "echo", "hi"), terminal)
	if err := network.ForceOffline("echo", true); err != nil {
		t.Fatal(err)
	}
	if err := d.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	d.Undrain()
	d.until(t, "echo has failed", func() bool { return d.Status().Agents[1].State == "failed" })
	for _, name := range []string{"echo", "echo.agent-card.json"} {
		if err := os.Remove(filepath.Join(plugins, name)); err != nil {
			t.Fatal(err)
		}
	}
	d.until(t, "echo is not served any more", func() bool { return len(d.Status().Agents) == 1 })
	if s := d.Status(); len(s.Agents) != 1 || s.Tasks.Accepted != 1 || s.Tasks.Completed != 1 {
		t.Errorf("status %v", s)
	}
}

// TestDrainReachesAnAgentThatLeaves: an agent that leaves because its card has changed lets its tasks take their time, but
// not longer than a drain gives them.
func TestDrainReachesAnAgentThatLeaves(t *testing.T) {
	network := startNetwork(t)
	plugins := handlers(t, "internal/sleeper")
	c := settingsFor(t, network, plugins)
	c.Settle, c.Settings.Drain = time.Millisecond, time.Millisecond
	d := start(t, c)
	d.ready(t)
	s := submit(t, network, "sleeper", "1h")
	awaitEvent(t, s, func(e wire.Event) bool { return e.Message == "sleeping" })
	card := filepath.Join(plugins, "sleeper.agent-card.json")
	writeFile(t, card, strings.Replace(readFile(t, card), `"concurrency": 64`, `"concurrency": 63`, 1))
	d.until(t, "the agent leaves", func() bool { return d.Status().Agents[0].State == "draining" })
	limit, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	if err := d.Drain(limit); err != nil {
		t.Error(err)
	}
	if e := awaitEvent(t, s, terminal); e.State != wire.Canceled {
		t.Errorf("the task ended as %s", e.Raw)
	}
	d.Undrain()
	d.until(t, "the agent is back with its new card", func() bool {
		a := d.Status().Agents
		return len(a) == 1 && a[0].State == "online" && a[0].Concurrency == 63
	})
}
