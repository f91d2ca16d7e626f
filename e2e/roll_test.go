package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// install puts a program into a plugins directory as a deployment does: complete beside its place, then renamed. What is
// appended to it makes it another content that does the same.
func install(t *testing.T, from, to, appended string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to+".tmp", append(b, appended...), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to+".tmp", to); err != nil {
		t.Fatal(err)
	}
}

// daemonOn starts a daemon on a plugins directory, with a configuration file if there is text for one.
func daemonOn(t *testing.T, env system.Env, plugins, config string) *system.Network {
	t.Helper()
	if config == "" {
		return bin.Daemon(t, env, plugins)
	}
	file := filepath.Join(t.TempDir(), "blocksd.yaml")
	writeFile(t, file, config)
	return bin.Daemon(t, env, plugins, "--config", file)
}

func handlerOf(n *system.Network, t *testing.T, name string) (system.Handler, bool) {
	t.Helper()
	for _, h := range n.Status(t).Handlers {
		if h.Name == name {
			return h, true
		}
	}
	return system.Handler{}, false
}

// load sends tasks at a rate until stop closes, and returns them with their ends.
type load struct {
	mu    sync.Mutex
	tasks []system.Submitted
	ends  []system.Event
	wg    sync.WaitGroup
}

func startLoad(ctx context.Context, t *testing.T, c *system.Consumer, agent, text string, every time.Duration, stop <-chan struct{}) *load {
	l := &load{}
	l.wg.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
			}
			l.wg.Go(func() {
				task, err := c.Submit(ctx, agent, text)
				if err != nil {
					t.Errorf("submit: %v", err)
					return
				}
				end, err := c.Await(ctx, task)
				if err != nil {
					t.Errorf("task %s has no end: %v", task.ID, err)
					return
				}
				l.mu.Lock()
				defer l.mu.Unlock()
				l.tasks, l.ends = append(l.tasks, task), append(l.ends, end)
			})
		}
	})
	return l
}

// TestRollUnderLoad replaces a program 20 times while 50 tasks a second run: none fails, and none runs on a process that
// was not ready.
func TestRollUnderLoad(t *testing.T) {
	const rolls = 20
	from := filepath.Join(bin.TestPlugins(), "badhandler")
	dir := system.PluginDir(t, map[string]string{"badhandler": from}, nil)
	_, env := bin.Sandbox(t, dir)
	n := daemonOn(t, env, dir, "")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := system.NewConsumer(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stop := make(chan struct{})
	l := startLoad(ctx, t, c, "badhandler", "pid", 20*time.Millisecond, stop)
	sums := map[string]bool{}
	for i := range rolls {
		before, _ := handlerOf(n, t, "badhandler")
		sums[before.SHA256] = true
		install(t, from, filepath.Join(dir, "badhandler"), fmt.Sprint("roll ", i))
		system.Eventually(t, system.StartDeadline, "the new program has taken over", func() bool {
			h, _ := handlerOf(n, t, "badhandler")
			return h.SHA256 != before.SHA256 && h.State == "ready" && h.Generation == before.Generation+1
		})
	}
	close(stop)
	l.wg.Wait()
	if len(sums) != rolls {
		t.Errorf("%d different programs, not %d", len(sums), rolls)
	}
	if s := n.Status(t); s.Tasks.Failed != 0 || s.Tasks.Canceled != 0 {
		t.Errorf("tasks: %+v", s.Tasks)
	}
	ready := map[string]bool{}
	for _, m := range regexp.MustCompile(`"msg":"handler is ready"[^\n]*?"pid":(\d+)`).FindAllStringSubmatch(n.Output(), -1) {
		ready[m[1]] = true
	}
	pids := map[string]int{}
	for i, end := range l.ends {
		if end.State != "completed" {
			t.Errorf("task %s ended as %s: %s", l.tasks[i].ID, end.State, end.Error)
			continue
		}
		events, err := c.History(ctx, l.tasks[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.Type == "artifact" {
				pids[artifactText(t, e)]++
			}
		}
	}
	t.Logf("%d tasks on %d processes", len(l.ends), len(pids))
	for pid := range pids {
		if !ready[pid] {
			t.Errorf("tasks ran on process %s, which never was ready (ready were %v)", pid, slices.Sorted(maps.Keys(ready)))
		}
	}
	if len(pids) < rolls/2 || len(l.ends) < rolls*10 {
		t.Errorf("%d tasks on %d processes: that was no load", len(l.ends), len(pids))
	}
	system.Eventually(t, system.StopDeadline, "the store holds three programs and the records", func() bool { // it is cleared after a roll
		entries, err := os.ReadDir(filepath.Join(n.StateDir, "handlers"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries) <= 4
	})
	n.Stop(t)
}

// TestKilledHandlerUnderLoad kills the process of a handler a hundred times: each task has exactly one end.
func TestKilledHandlerUnderLoad(t *testing.T) {
	const kills = 100
	dir := system.PluginDir(t, map[string]string{"sleeper": filepath.Join(bin.TestPlugins(), "sleeper")}, nil)
	_, env := bin.Sandbox(t, dir)
	n := daemonOn(t, env, dir, "handlers:\n  - name: sleeper\n    max_restarts: 1000\n    restart_delay: 1ms\n")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, err := system.NewConsumer(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stop := make(chan struct{})
	l := startLoad(ctx, t, c, "sleeper", "30ms", 20*time.Millisecond, stop)
	for last := 0; last < kills; {
		var pid int
		system.Eventually(t, system.StartDeadline, "a process is ready", func() bool {
			h, _ := handlerOf(n, t, "sleeper")
			if h.State != "ready" || len(h.Processes) == 0 || h.Restarts < last {
				return false
			}
			pid = h.Processes[0].PID
			return system.Alive(pid)
		})
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			continue // it has just ended
		}
		last++
		system.Eventually(t, system.StartDeadline, "the end was noticed", func() bool {
			h, _ := handlerOf(n, t, "sleeper")
			return len(h.Processes) == 0 || h.Processes[0].PID != pid
		})
	}
	close(stop)
	l.wg.Wait()
	ends := map[string]int{}
	for i, task := range l.tasks {
		ends[l.ends[i].State+" "+l.ends[i].Error]++
		checkStory(ctx, t, c, task)
	}
	t.Logf("%d kills, %d tasks: %v", kills, len(l.tasks), ends)
	if len(l.tasks) < kills {
		t.Errorf("%d tasks", len(l.tasks))
	}
	system.Eventually(t, system.StartDeadline, "each kill was followed by a restart", func() bool { // it counts when it begins
		h, _ := handlerOf(n, t, "sleeper")
		return h.Restarts >= kills
	})
	n.Stop(t)
}

// TestHandlersComeAndGo adds, replaces and removes files while tasks run.
func TestHandlersComeAndGo(t *testing.T) {
	t.Parallel()
	sleeper := filepath.Join(bin.TestPlugins(), "sleeper")
	all := system.PluginDir(t, map[string]string{"sleeper": sleeper, "echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	_, env := bin.Sandbox(t, all)
	dir := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	n := daemonOn(t, env, dir, "")
	path := filepath.Join(dir, "sleeper")
	eventually := func(what string, cond func(s system.Status) bool) {
		t.Helper()
		system.Eventually(t, system.StartDeadline, what, func() bool { return cond(n.Status(t)) })
	}
	agent := func(s system.Status, name string) system.Agent {
		i := slices.IndexFunc(s.Agents, func(a system.Agent) bool { return a.Name == name })
		if i < 0 {
			return system.Agent{}
		}
		return s.Agents[i]
	}
	handler := func(s system.Status) (h system.Handler) {
		for _, one := range s.Handlers {
			if one.Name == "sleeper" {
				h = one
			}
		}
		return h
	}
	told := func(s system.Status, texts ...string) bool {
		return slices.ContainsFunc(s.Reasons, func(r string) bool {
			return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(r, text) })
		})
	}
	completed := "terminal completed"
	short := func() {
		t.Helper()
		wantShape(t, n.Call(t, "sleeper", "--text", "1ms"), 0, "submitted", "running", "status sleeping", "artifact text/plain slept 1ms", completed)
	}

	// Added.
	copyCard(t, sleeper, path, nil)
	install(t, sleeper, path, "")
	eventually("the new agent is online", func(s system.Status) bool { return agent(s, "sleeper").State == "online" && s.Ready })
	first := handler(n.Status(t))
	if first.Generation != 1 || first.Path != path || len(first.SHA256) != 64 {
		t.Errorf("handler %+v", first)
	}
	short()

	// Replaced, beside a task that runs.
	long := n.StartCall(t, "sleeper", "--text", "4s")
	old := n.ProcessOf(t, long.TaskID)
	install(t, sleeper, path, "second")
	eventually("the second program has taken over", func(s system.Status) bool { return handler(s).Generation == 2 && handler(s).SHA256 != first.SHA256 })
	beside := n.StartCall(t, "sleeper", "--text", "1s")
	if pid := n.ProcessOf(t, beside.TaskID); pid == old {
		t.Error("a new task runs on the old process")
	}
	wantShape(t, long.Result(t), 0, "submitted", "running", "status sleeping", "artifact text/plain slept 4s", completed)
	wantShape(t, beside.Result(t), 0, "submitted", "running", "status sleeping", "artifact text/plain slept 1s", completed)
	eventually("the old process has ended", func(s system.Status) bool { return len(handler(s).Processes) == 1 })
	second := handler(n.Status(t))

	// Replaced by what does not work: the old one stays, and the status says why.
	writeFile(t, path+".tmp", "just text\n")
	if err := os.Chmod(path+".tmp", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	eventually("text is refused", func(s system.Status) bool { return told(s, path, "is not a program") })
	other := elfOfAnotherMachine(t, sleeper)
	writeFile(t, path+".tmp", other)
	if err := os.Chmod(path+".tmp", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	eventually("another machine's program is refused", func(s system.Status) bool { return told(s, path, "is a program for", "this machine is") })
	install(t, "/bin/true", path, "")
	eventually("what is no handler is given up", func(s system.Status) bool { return told(s, "goes on with its running program", "before its handshake") })
	if h := handler(n.Status(t)); h.State != "ready" || h.SHA256 != second.SHA256 || h.Processes[0].PID != second.Processes[0].PID {
		t.Errorf("handler %+v", h)
	}
	short()

	// Rolled back and forth.
	r := n.Run(t, n.Env, "handler", "rollback", "sleeper", "--json")
	var rolled struct{ Handler, SHA256 string }
	if err := json.Unmarshal([]byte(r.Stdout), &rolled); err != nil || rolled.SHA256 != first.SHA256 {
		t.Fatalf("rollback: %+v %v", r, err)
	}
	if s := n.Status(t); handler(s).SHA256 != first.SHA256 || !told(s, "handler sleeper is rolled back to "+first.SHA256) {
		t.Errorf("status %+v", s)
	}
	short()
	if r := n.Run(t, n.Env, "handler", "rollback", "sleeper"); r.Code != 0 || handler(n.Status(t)).SHA256 != second.SHA256 {
		t.Errorf("once more: %+v", r)
	}
	// A restart of the daemon does not change that: the file is still the bad one.
	n.Stop(t)
	state := n.StateDir
	n.Process = bin.Start(t, env, "run", "--plugins", dir, "--state-dir", state, "--socket", filepath.Join(state, "s"))
	n.WaitReady(t)
	if h := handler(n.Status(t)); h.SHA256 != second.SHA256 {
		t.Errorf("after a restart of the daemon: %+v", h)
	}

	// Pinned: only the right one is taken.
	install(t, sleeper, path, "third")
	eventually("the third program has taken over", func(s system.Status) bool { return handler(s).SHA256 != second.SHA256 && handler(s).State == "ready" })
	third := handler(n.Status(t))
	if r := n.Run(t, n.Env, "handler", "pin", "sleeper", "--plugins", dir, "--state-dir", state); r.Code != 0 || !strings.Contains(r.Stdout, third.SHA256) {
		t.Errorf("pin: %+v", r)
	}
	install(t, sleeper, path, "fourth")
	eventually("what is not pinned is refused", func(s system.Status) bool { return told(s, "instead of "+third.SHA256, "handler pin sleeper") })
	if h := handler(n.Status(t)); h.State != "ready" || h.SHA256 != third.SHA256 {
		t.Errorf("handler %+v", h)
	}
	if r := n.Run(t, n.Env, "handler", "pin", "sleeper", "--plugins", dir, "--state-dir", state); r.Code != 0 {
		t.Errorf("pin: %+v", r)
	}
	eventually("the fourth program is taken once it is pinned", func(s system.Status) bool { return handler(s).SHA256 != third.SHA256 && handler(s).State == "ready" })

	// Rolled back against the pin: refused, and nothing has changed, also after a restart of the daemon. What the sentence
	// says helps.
	fourth := handler(n.Status(t))
	refusal := fmt.Sprintf("handler sleeper is not rolled back from %s to %s, because it is pinned to %s: blocksd handler pin sleeper --sha256 %s, then roll it back",
		fourth.SHA256, third.SHA256, fourth.SHA256, third.SHA256)
	wantSentence(t, n.Run(t, n.Env, "handler", "rollback", "sleeper"), 1, refusal)
	n.Stop(t)
	n.Process = bin.Start(t, env, "run", "--plugins", dir, "--state-dir", state, "--socket", filepath.Join(state, "s"))
	n.WaitReady(t)
	if s := n.Status(t); handler(s).State != "ready" || handler(s).SHA256 != fourth.SHA256 || told(s, "rolled back") {
		t.Errorf("after a refused rollback and a restart: %+v", s)
	}
	if r := n.Run(t, n.Env, "handler", "pin", "sleeper", "--plugins", dir, "--state-dir", state, "--sha256", third.SHA256); r.Code != 0 {
		t.Errorf("pin: %+v", r)
	}
	if r := n.Run(t, n.Env, "handler", "rollback", "sleeper"); r.Code != 0 || !strings.Contains(r.Stdout, third.SHA256) {
		t.Errorf("rollback to the pinned program: %+v", r)
	}
	if s := n.Status(t); handler(s).State != "ready" || handler(s).SHA256 != third.SHA256 {
		t.Errorf("after the rollback: %+v", s)
	}
	short()
	// While its file cannot be used a handler stays as it is.
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	wantSentence(t, n.Run(t, n.Env, "handler", "rollback", "sleeper"), 1, "handler sleeper cannot be rolled back", "it is not executable: chmod 0755 it")
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	// A pin of the file ends the rollback.
	if r := n.Run(t, n.Env, "handler", "pin", "sleeper", "--plugins", dir, "--state-dir", state); r.Code != 0 {
		t.Errorf("pin: %+v", r)
	}
	eventually("the file is pinned again, and runs", func(s system.Status) bool {
		return handler(s).SHA256 == fourth.SHA256 && handler(s).State == "ready" && !told(s, "rolled back")
	})

	// Restarted.
	before := handler(n.Status(t))
	if r := n.Run(t, n.Env, "restart", "sleeper"); r.Code != 0 {
		t.Errorf("restart: %+v", r)
	}
	eventually("the process is another one", func(s system.Status) bool {
		h := handler(s)
		return len(h.Processes) == 1 && h.Processes[0].PID != before.Processes[0].PID && h.SHA256 == before.SHA256
	})
	wantSentence(t, n.Run(t, n.Env, "restart", "nobody"), 1, `there is no handler "nobody"`)

	// Another card: the agent takes it over when its tasks are done.
	last := n.StartCall(t, "sleeper", "--text", "2s")
	n.ProcessOf(t, last.TaskID)
	copyCard(t, sleeper, path, func(card map[string]any) { card["runtime"].(map[string]any)["concurrency"] = 7 })
	wantShape(t, last.Result(t), 0, "submitted", "running", "status sleeping", "artifact text/plain slept 2s", completed)
	eventually("the new card counts", func(s system.Status) bool {
		a := agent(s, "sleeper")
		return a.Concurrency == 7 && a.State == "online"
	})
	short()

	// Two handlers with one agent, and a card beside the wrong program.
	copyCard(t, sleeper, filepath.Join(dir, "twin"), nil)
	install(t, sleeper, filepath.Join(dir, "twin"), "twin")
	eventually("two handlers claim one agent", func(s system.Status) bool {
		return told(s, "handler twin does not serve agent sleeper, because handler sleeper does already")
	})
	copyCard(t, filepath.Join(bin.Plugins(), "echo"), filepath.Join(dir, "twin"), func(card map[string]any) {
		card["identity"].(map[string]any)["agentName"] = "somebody"
	})
	eventually("a card contradicts its program", func(s system.Status) bool {
		return told(s, "the card of agent somebody contradicts its handler twin, which says that it is agent sleeper")
	})

	// Removed: its agent leaves, and everything else goes on.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path + ".agent-card.json"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "twin")); err != nil {
		t.Fatal(err)
	}
	eventually("agent and handler are gone", func(s system.Status) bool {
		return agent(s, "sleeper").Name == "" && handler(s).Name == "" && s.Ready && len(s.Reasons) == 0
	})
	wantShape(t, n.Call(t, "echo", "--text", "x"), 0, "submitted", "running", "artifact text/plain Echoed request: x", completed)
	n.Stop(t)
}

// copyCard puts the card of a program beside another, changed by edit if that is not nil.
func copyCard(t *testing.T, from, to string, edit func(card map[string]any)) {
	t.Helper()
	doc, err := os.ReadFile(from + ".agent-card.json")
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		var card map[string]any
		if err := json.Unmarshal(doc, &card); err != nil {
			t.Fatal(err)
		}
		edit(card)
		if doc, err = json.Marshal(card); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, to+".agent-card.json.tmp", string(doc))
	if err := os.Rename(to+".agent-card.json.tmp", to+".agent-card.json"); err != nil {
		t.Fatal(err)
	}
}

// elfOfAnotherMachine is a program with the number of a machine that this one is not.
func elfOfAnotherMachine(t *testing.T, program string) string {
	t.Helper()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	b[18], b[19] = 22, 0 // s390x
	return string(b)
}
