package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/network/card"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// A handler without a card file serves what it describes. What the roster decides in which case, its scripts show; here is
// that it is carried out.
func TestDescribedAgents(t *testing.T) {
	network := startNetwork(t)
	plugins := t.TempDir()
	for _, name := range []string{"third", "second", "stranger"} { // they say nothing by themselves
		writeFile(t, filepath.Join(plugins, name), "#!/bin/sh\nexec sleep 1000\n")
		if err := os.Chmod(filepath.Join(plugins, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	filed := strings.Replace(readFile(t, "../handlers/echo/agent-card.json"), `"echo"`, `"filed"`, 1)
	writeFile(t, filepath.Join(plugins, "stranger.agent-card.json"), filed)
	c := settingsFor(t, network, plugins)
	c.Settle = time.Millisecond
	d := start(t, c)
	hasReason := func(want string) func() bool {
		return func() bool { return slices.Contains(d.Status().Reasons, want) }
	}
	d.until(t, "it waits for their cards", hasReason("handler third has not said yet which agents it serves"))
	if d.Status().Ready {
		t.Error("ready, although a handler has not said which agents it serves")
	}
	serves := func(want map[string]string) func() bool {
		return func() bool {
			who := map[string]string{}
			for _, s := range d.served.all() {
				who[s.name()] = s.assignment.Handler
			}
			return cmp.Equal(want, who)
		}
	}
	described := card.Card{AgentName: "described", Concurrency: 1}
	d.inbox.describe("second", []card.Card{described})
	d.until(t, "the agent is served", serves(map[string]string{"described": "second", "filed": "stranger"}))
	d.inbox.describe("second", []card.Card{described})              // a new generation of the same handler
	d.inbox.describe("stranger", []card.Card{{AgentName: "other"}}) // has a card file, so what it says does not count
	d.inbox.describe("third", []card.Card{described})               // the other one serves it already
	for _, want := range []string{
		"handler third does not serve agent described, because handler second does already: give it a card with another agentName",
		"the card of agent filed contradicts its handler stranger, which says that it is agent other; the card counts: check that it lies beside the right program",
	} {
		d.until(t, want, hasReason(want))
	}
	if !serves(map[string]string{"described": "second", "filed": "stranger"})() {
		t.Error("another handler got the agent")
	}
	for _, name := range []string{"second", "stranger"} {
		if err := os.Remove(filepath.Join(plugins, name)); err != nil {
			t.Fatal(err)
		}
	}
	d.until(t, "nobody takes its place by itself", hasReason(
		"agent described is not served: handler third says that it is this agent, but handler second had it: if it may take its place, blocksd handler assign third described"))
	for name, want := range map[string]string{
		"gone": control.ErrNoHandler.Error(), "third": `handler third does not say that it is agent "elsewhere"`,
	} {
		if err := d.AssignAgent(t.Context(), name, "elsewhere"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("assign an agent to %s: %v, want %q", name, err, want)
		}
	}
	if err := d.AssignAgent(t.Context(), "third", "described"); err != nil {
		t.Fatal(err)
	}
	d.until(t, "the other one takes over", serves(map[string]string{"described": "third"}))
	if b := readFile(t, filepath.Join(c.Settings.StateDir, namesFile)); !strings.Contains(b, `"described": "third"`) {
		t.Errorf("the state directory says %s", b)
	}
}

// Who had an agent is known after a restart, and a handler that fails or does not say what it is keeps no new agent waiting for
// long.
func TestNamesSurviveARestart(t *testing.T) {
	network := startNetwork(t)
	plugins := t.TempDir()
	if err := os.Chmod(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{"fails": "exit 1", "hangs": "exec sleep 1000", "victim": "exec sleep 1000"} {
		writeFile(t, filepath.Join(plugins, name), "#!/bin/sh\n"+script+"\n")
		if err := os.Chmod(filepath.Join(plugins, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := settingsFor(t, network, plugins)
	c.Settings.Timeouts.HandlerHandshake, c.Settings.Timeouts.HandlerDescribe = time.Second, time.Second
	holds := func(d *running, want string) func() bool {
		return func() bool {
			all := d.served.all()
			return len(all) == 1 && all[0].assignment.Handler == want
		}
	}
	mail := []card.Card{{AgentName: "mail", Concurrency: 1}}
	d := start(t, c)
	d.inbox.describe("victim", mail)
	d.until(t, "the agent is served", holds(d, "victim"))
	d.stop()
	d.wait(t)

	d = start(t, c)
	d.inbox.describe("hangs", mail)
	d.until(t, "the daemon knows whose name it is", func() bool {
		return slices.ContainsFunc(d.Status().Conditions, func(c *controlv1.Condition) bool {
			return c.GetCode() == string(roster.AgentWaits) || c.GetCode() == string(roster.AgentHeld)
		})
	})
	d.inbox.describe("victim", mail)
	d.until(t, "the agent is served by the one that had it", holds(d, "victim"))
	d.stop()
	d.wait(t)

	writeFile(t, filepath.Join(c.Settings.StateDir, namesFile), "{")
	if _, err := New(c); err == nil || !strings.Contains(err.Error(), "restore the file") {
		t.Errorf("a damaged file: %v", err)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A file name that is not UTF-8 takes nothing from the status, and nothing from the watchdog.
func TestOddFileName(t *testing.T) {
	network := startNetwork(t)
	plugins := handlers(t, "echo")
	odd := filepath.Join(plugins, "caf\xe9")
	writeFile(t, odd, "#!/bin/sh\nexec sleep 1000\n")
	if err := os.Chmod(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	s := newSystemd(t)
	c := settingsFor(t, network, plugins)
	c.Getenv = s.env(map[string]string{"WATCHDOG_USEC": "200000"})
	d := start(t, c)
	d.until(t, "echo is served", func() bool {
		return slices.ContainsFunc(d.Status().Agents, func(a *controlv1.Agent) bool { return a.State == "online" })
	})
	ctl, err := control.Dial(t.Context(), c.Settings.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	status, err := ctl.Status(t.Context())
	if err != nil || !slices.ContainsFunc(status.Handlers, func(h *controlv1.Handler) bool { return h.Name == "caf\uFFFD" }) {
		t.Errorf("status %v, %v", status, err)
	}
	if _, err := ctl.Handlers(t.Context()); err != nil {
		t.Error(err)
	}
	for s.next(t) != "WATCHDOG=1" {
	}
}

// TestRollbackOfAScript: what runs in place has no earlier program, and the refusal says so.
func TestRollbackOfAScript(t *testing.T) {
	network := startNetwork(t)
	dir := handlers(t, "echo")
	binary := filepath.Join(t.TempDir(), "echo")
	if err := os.Rename(filepath.Join(dir, "echo"), binary); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "echo"), fmt.Appendf(nil, "#!/bin/sh\nexec '%s'\n", binary), 0o755); err != nil {
		t.Fatal(err)
	}
	d := start(t, settingsFor(t, network, dir))
	d.ready(t)
	if _, err := d.RollbackHandler(t.Context(), "echo"); err == nil || err.Error() != "handler echo cannot be rolled back: its file runs in place, and the daemon keeps no copy: put the wanted one there" {
		t.Errorf("%v", err)
	}
	d.ready(t)
}
