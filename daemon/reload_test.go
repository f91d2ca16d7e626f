package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/logging"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// reloadable is a daemon whose configuration is a file.
type reloadable struct {
	*running
	network *sandbox.Sandbox
	file    string
	log     *testutil.Buffer
}

// startReloadable starts a daemon whose file holds text.
func startReloadable(t *testing.T, plugins, text string) *reloadable {
	t.Helper()
	network := startNetwork(t)
	c := settingsFor(t, network, plugins)
	r := &reloadable{network: network, file: filepath.Join(t.TempDir(), "blocksd.yaml"), log: &testutil.Buffer{}}
	writeFile(t, r.file, text)
	sources := config.Sources{File: r.file, Flags: map[string]any{
		"state_dir": c.Settings.StateDir, "socket": c.Settings.Socket, "network.cdm_url": network.CDMURL(), "network.pubnub_origin": network.Addr(),
	}}
	if plugins != "" {
		sources.Flags["plugins.dirs"] = []string{plugins}
	}
	c.Reload = func() (config.Loaded, error) { return config.Read(sources) }
	var err error
	if c.Loaded, err = c.Reload(); err != nil {
		t.Fatal(err)
	}
	c.Settings = c.Loaded.Config
	if c.Log, c.Level, err = logging.New(logging.Config{Writer: r.log, Level: c.Settings.Log.Level, Format: "text"}); err != nil {
		t.Fatal(err)
	}
	r.running = start(t, c)
	if programs, err := os.ReadDir(plugins); err == nil && len(programs) > 0 {
		r.ready(t)
	}
	return r
}

// reload writes the file and reloads; it returns what the daemon says of each change.
func (r *reloadable) reload(t *testing.T, text string) string {
	t.Helper()
	writeFile(t, r.file, text)
	answer, err := r.Reload(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, c := range answer.GetChanges() {
		fmt.Fprintf(&b, "%s %s %s→%s\n", c.GetNeeds(), c.GetKey(), c.GetOld(), c.GetNew())
	}
	for _, p := range answer.GetProblems() {
		fmt.Fprintf(&b, "problem %s\n", p)
	}
	return b.String()
}

func (r *reloadable) wants(t *testing.T, text, want string) {
	t.Helper()
	if got := r.reload(t, text); got != want {
		t.Errorf("%s\nreloaded as\n%s\nwant\n%s", text, got, want)
	}
}

// TestReloadLiveKeys: what counts at once does, for a task that runs too.
func TestReloadLiveKeys(t *testing.T) {
	r := startReloadable(t, handlers(t, "internal/sleeper"), "drain: 1h")
	s := submit(t, r.network, "sleeper", "1h")
	awaitEvent(t, s, func(e wire.Event) bool { return e.Message == "sleeping" })

	r.wants(t, "drain: 1ms\nlimits: {tasks: 1}\nlog: {level: debug}", "live drain 1h0m0s→1ms\nlive log.level info→debug\nlive limits.tasks 0→1\n")
	full := submit(t, r.network, "sleeper", "1ms")
	if e := awaitEvent(t, full, terminal); e.State != wire.Failed {
		t.Errorf("beyond limits.tasks a task ended as %s", e.Raw)
	}
	r.wants(t, "drain: 1ms\nlimits: {tasks: 0}", "live log.level debug→info\nlive limits.tasks 1→0\n")
	if e := awaitEvent(t, submit(t, r.network, "sleeper", "1ms"), terminal); e.State != wire.Completed {
		t.Errorf("without limits.tasks a task ended as %s", e.Raw)
	}
	// An hour of drain would be too long for this test.
	r.stop()
	if err := r.wait(t); err != nil {
		t.Error(err)
	}
	if e := awaitEvent(t, s, terminal); e.State != wire.Canceled {
		t.Errorf("the long task ended as %s", e.Raw)
	}
	// At debug the log had the task that was refused, at info not the one that was completed.
	if log := r.log.String(); strings.Count(log, `msg="task refused"`) != 1 || strings.Contains(log, `state=completed`) {
		t.Errorf("log: %s", log)
	}
}

// TestReloadMoreLiveKeys: what else counts at once, each by what it does.
func TestReloadMoreLiveKeys(t *testing.T) {
	echo, sleeper := handlers(t, "echo"), handlers(t, "internal/sleeper")
	dirs := func(all ...string) string { return "dirs: [" + strings.Join(all, ", ") + "]" }
	r := startReloadable(t, "", "plugins: {"+dirs(echo)+"}")
	r.ready(t)
	online := func(want string) func() bool {
		return func() bool {
			var names []string
			for _, a := range r.Status().GetAgents() {
				if a.GetState() == "online" {
					names = append(names, a.GetName())
				}
			}
			return strings.Join(names, " ") == want
		}
	}
	reasons := func(text string) func() bool {
		return func() bool { return strings.Contains(strings.Join(r.Status().GetReasons(), "\n"), text) }
	}
	kind := func() string {
		e := awaitEvent(t, submit(t, r.network, "echo", "a text of some length"), func(e wire.Event) bool { return e.Type == wire.EventArtifact })
		return e.Artifact.Kind
	}

	r.wants(t, "plugins: {"+dirs(echo, sleeper)+"}", "live plugins.dirs ["+echo+"]→["+echo+", "+sleeper+"]\n")
	r.until(t, "there is the sleeper", online("echo sleeper"))
	r.wants(t, "plugins: {autoload: false, "+dirs(echo, sleeper)+"}\nhandlers: [{name: echo}]", "live plugins.autoload true→false\nhandler handlers[echo] none→added\n")
	r.until(t, "only what is listed is served", online("echo"))
	r.wants(t, "plugins: {"+dirs(echo)+", require_checksums: true}", "live plugins.dirs ["+echo+", "+sleeper+"]→["+echo+"]\nlive plugins.autoload false→true\nlive plugins.require_checksums false→true\nhandler handlers[echo] there→removed\n")
	r.until(t, "the checksum is asked for", reasons("plugins.require_checksums is set"))

	if got := kind(); got != wire.RefInline {
		t.Errorf("a small artifact is %s", got)
	}
	r.wants(t, "plugins: {"+dirs(echo)+"}\nlimits: {inline_bytes: 1}", "live plugins.require_checksums true→false\nlive limits.inline_bytes 16384→1\n")
	if got := kind(); got != wire.RefFile {
		t.Errorf("an artifact of more than limits.inline_bytes is %s", got)
	}

	project := t.TempDir()
	card, err := os.ReadFile(filepath.Join(sleeper, "sleeper.agent-card.json"))
	if err != nil {
		t.Fatal(err)
	}
	var form map[string]any
	if err := json.Unmarshal(card, &form); err != nil {
		t.Fatal(err)
	}
	form["runtime"].(map[string]any)["handler"] = "./program"
	if card, err = json.Marshal(form); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(project, "agent-card.json"), string(card))
	if err := os.Link(filepath.Join(sleeper, "sleeper"), filepath.Join(project, "program")); err != nil {
		t.Fatal(err)
	}
	base := "plugins: {" + dirs(echo) + "}\nlimits: {inline_bytes: 1}\n"
	r.wants(t, base+"projects: ["+project+"]", "live projects []→["+project+"]\n")
	r.until(t, "the project is served", online("echo sleeper"))
	r.wants(t, base, "live projects ["+project+"]→[]\n")
	r.until(t, "it is not served any more", online("echo"))

	group, err := user.LookupGroupId("0")
	if err != nil {
		t.Fatal(err)
	}
	r.wants(t, base+"control: {operator_group: "+group.Name+"}", "live control.operator_group \"\"→"+group.Name+"\n")
	if got := *r.configuration.operators.Load(); got.Name != group.Name || got.GID != 0 {
		t.Errorf("operators are %+v", got)
	}
}

// TestReloadAgents: agents of the configuration come, change and go.
func TestReloadAgents(t *testing.T) {
	plugins := handlers(t, "internal/sleeper")
	r := startReloadable(t, plugins, "plugins: {autoload: true}")
	text, err := os.ReadFile(filepath.Join(plugins, "sleeper.agent-card.json"))
	if err != nil {
		t.Fatal(err)
	}
	second := filepath.Join(t.TempDir(), "second.json")
	writeFile(t, second, string(bytes.ReplaceAll(text, []byte(`"agentName": "sleeper"`), []byte(`"agentName": "second"`))))
	agents := func() (names string) {
		for _, a := range r.Status().GetAgents() {
			names += fmt.Sprintf("%s %s %d;", a.GetName(), a.GetState(), a.GetConcurrency())
		}
		return names
	}
	r.wants(t, "agents: [{card: "+second+", handler: sleeper}]", "live agents["+second+"] none→added\n")
	r.until(t, "the second agent is online", func() bool { return strings.Contains(agents(), "second online 64;") })
	r.wants(t, "agents: [{card: "+second+", handler: sleeper, concurrency: 3}]", "live agents["+second+"].concurrency 0→3\n")
	r.until(t, "it has another concurrency", func() bool { return strings.Contains(agents(), "second online 3;") })
	// Its card is watched now.
	writeFile(t, second, "{}")
	r.until(t, "its card is unreadable", func() bool { return strings.Contains(strings.Join(r.Status().GetReasons(), ";"), second) })
	r.wants(t, "", "live agents["+second+"] there→removed\n")
	r.until(t, "it is gone", func() bool { return !strings.Contains(agents(), "second") })
}

// TestReloadHandlerKeys: handlers whose settings have changed get new processes, others keep theirs, and a task that runs
// ends as if nothing had happened.
func TestReloadHandlerKeys(t *testing.T) {
	r := startReloadable(t, handlers(t, "internal/sleeper", "echo"), "")
	s := submit(t, r.network, "sleeper", "1h")
	awaitEvent(t, s, func(e wire.Event) bool { return e.Message == "sleeping" })
	pids := func(name string) (pids []int32) {
		for _, h := range r.Handlers() {
			for _, p := range h.GetProcesses() {
				if h.GetName() == name && h.GetState() == "ready" {
					pids = append(pids, p.GetPid())
				}
			}
		}
		return pids
	}
	echo, sleeper := pids("echo"), pids("sleeper")
	r.wants(t, "handlers: [{name: sleeper, instances: 2}]", "handler handlers[sleeper] none→added\n")
	r.until(t, "the sleeper has two more processes", func() bool { return len(pids("sleeper")) == 3 })
	r.wants(t, "handlers: [{name: sleeper, instances: 2, args: [other]}]", "handler handlers[sleeper].args []→[other]\n")
	r.until(t, "their arguments are others", func() bool {
		now := pids("sleeper")
		if len(now) != 3 {
			return false
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", now[2]))
		return bytes.Contains(line, []byte("other"))
	})
	if now := pids("echo"); len(now) != 1 || now[0] != echo[0] {
		t.Errorf("the echo had the process %v and has %v", echo, now)
	}
	// What all handlers have in common.
	r.wants(t, "handlers: [{name: sleeper, instances: 2, args: [other]}]\ntimeouts: {handler_stop: 1s}\nlimits: {artifact_bytes: 99}",
		"handler limits.artifact_bytes 1073741824→99\nhandler timeouts.handler_stop 5s→1s\n")
	r.until(t, "the echo has another process", func() bool { now := pids("echo"); return len(now) == 1 && now[0] != echo[0] })
	if now := pids("sleeper"); now[0] != sleeper[0] && now[len(now)-1] != sleeper[0] && len(now) < 3 {
		t.Errorf("the process of the task is gone: it was %v and is %v", sleeper, now)
	}
	if err := r.CancelTask(t.Context(), s.TaskID()); err != nil {
		t.Error(err)
	}
	if e := awaitEvent(t, s, terminal); e.State != wire.Canceled {
		t.Errorf("the task ended as %s", e.Raw)
	}
}

// TestReloadDaemonKeys: what needs a restart waits for it, and is said again until then.
func TestReloadDaemonKeys(t *testing.T) {
	r := startReloadable(t, t.TempDir(), "")
	for range 2 {
		r.wants(t, "isolation: {cgroup: 'off'}\nlog: {format: json}", "daemon log.format auto→json\ndaemon isolation.cgroup auto→off\n")
	}
	if c := r.settings(); c.Log.Format != "auto" || c.Isolation.Cgroup != "auto" {
		t.Errorf("they count: %+v", c)
	}
	var waits int
	for _, v := range r.ShowConfig() {
		if v.GetSource() == config.SourceBefore {
			waits++
		}
	}
	if waits != 2 {
		t.Errorf("%d values wait for a restart", waits)
	}
}

// TestReloadRejected: a configuration that cannot be used changes nothing, and several reloads at once are one after the
// other.
func TestReloadRejected(t *testing.T) {
	r := startReloadable(t, t.TempDir(), "drain: 1s")
	events := r.events.Follow(event.ConfigReloaded)
	defer events.Close()
	r.wants(t, "drain: 2s\nlimits: {tasks: x}", "problem configuration file "+r.file+`, line 2: key "limits.tasks" must be a whole number, not "x"`+"\n")
	r.wants(t, "drain: 2s\ncontrol: {operator_group: nobodies-of-this-name}", `problem key "control.operator_group": there is no group nobodies-of-this-name: create it, or name another one`+"\n")
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	if answer, err := r.Reload(t.Context()); err != nil || len(answer.GetProblems()) != 1 {
		t.Errorf("without the file: %v, %v", answer, err)
	}
	if got := r.settings().Drain; got != time.Second {
		t.Errorf("the drain is %s", got)
	}
	for range 3 {
		if item, ok := events.TryNext(); !ok || item.State != reloadRejected || item.Level != slog.LevelError || !strings.Contains(item.Reason, "nothing has changed: ") {
			t.Errorf("event %+v", item)
		}
	}
	writeFile(t, r.file, "drain: 3s")
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if _, err := r.Reload(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := r.settings().Drain; got != 3*time.Second {
		t.Errorf("the drain is %s", got)
	}
	// One that goes away early has applied the settings all the same.
	writeFile(t, r.file, "drain: 4s")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Reload(gone); !errors.Is(err, context.Canceled) || r.settings().Drain != 4*time.Second {
		t.Errorf("got %v, drain %s", err, r.settings().Drain)
	}
}

func TestNoReload(t *testing.T) {
	d := start(t, settingsFor(t, startNetwork(t), t.TempDir()))
	if _, err := d.Reload(t.Context()); !errors.Is(err, errNoReload) {
		t.Errorf("got %v", err)
	}
	if _, err := d.SetLogLevel("debug"); err == nil {
		t.Error("the level of a fixed log was changed")
	}
}
