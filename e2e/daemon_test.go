package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

func TestTermDrains(t *testing.T) {
	_, env := bin.Sandbox(t, bin.TestPlugins())
	n := bin.Daemon(t, env, bin.TestPlugins(), "--drain", "10s") // the short task needs two, on a quiet machine

	short := n.StartCall(t, "sleeper", "--text", "2s")
	long := n.StartCall(t, "sleeper", "--text", "10m")
	short.AwaitStatus(t)
	long.AwaitStatus(t)
	n.Signal(syscall.SIGTERM)

	wantShape(t, short.Result(t), 0, "submitted", "running", "status sleeping", "artifact text/plain slept 2s", "terminal completed")
	task := long.Result(t)
	if last := task.Events[len(task.Events)-1]; task.Code == 0 || last.Type != "terminal" {
		t.Errorf("the task that outlived the drain: exit %d, last event %+v", task.Code, last)
	}
	if code := n.Wait(t); code != 0 {
		t.Errorf("daemon ended with %d", code)
	}
	// What is sent meanwhile waits for the next daemon.
	waiting := n.StartCall(t, "sleeper", "--text", "1ms")
	next := bin.Daemon(t, env, bin.TestPlugins())
	wantShape(t, waiting.Result(t), 0, "submitted", "running", "status sleeping", "artifact text/plain slept 1ms", "terminal completed")
	next.Stop(t)
}

func TestNetworkUnreachable(t *testing.T) {
	t.Parallel()
	_, env := bin.Sandbox(t, bin.TestPlugins(), "--safety-net", "10m") // what it fails is not what this is about
	gate := system.NewGate(t, env.Get("BLOCKSD_PUBNUB_ORIGIN"))
	n := bin.Daemon(t, env.
		With("BLOCKSD_PUBNUB_ORIGIN", gate.Addr()).
		With("BLOCKS_BACKEND_URL", "http://"+gate.Addr()), bin.TestPlugins())
	direct := &system.Network{Binaries: bin, Env: env} // consumers have a path of their own

	running := direct.StartCall(t, "sleeper", "--text", "3s")
	n.ProcessOf(t, running.TaskID)
	gate.Cut()
	cut := time.Now()
	// Sent while the daemon hears nothing.
	sent := direct.StartCall(t, "sleeper", "--text", "1ms")
	system.Eventually(t, system.CallDeadline, "the daemon notices", func() bool { return !n.Status(t).Ready })
	// The outage itself is what is tested; it has to last.
	time.Sleep(time.Until(cut.Add(10 * time.Second)))
	gate.Open(t)

	for _, call := range []*system.RunningCall{running, sent} {
		task := call.Result(t)
		if last := task.Events[len(task.Events)-1]; task.Code != 0 || last.State != "completed" {
			t.Errorf("exit %d, last event %+v, stderr %s", task.Code, last, task.Stderr)
		}
	}
	n.WaitReady(t)
	n.Stop(t)
}

func TestKilledDaemonLeavesNothing(t *testing.T) {
	n := bin.Dev(t, bin.TestPlugins())
	call := n.StartCall(t, "sleeper", "--text", "10m")
	n.WaitRunning(t, call.TaskID)
	var pids []int
	for _, h := range n.Status(t).Handlers {
		for _, p := range h.Processes {
			pids = append(pids, p.PID)
		}
	}
	if len(pids) < 2 {
		t.Fatalf("handler processes %v, want one of each fixture", pids)
	}
	n.Kill()
	system.Eventually(t, system.StopDeadline, fmt.Sprintf("no handler of %v is left", pids), func() bool {
		for _, pid := range pids {
			if system.Alive(pid) {
				return false
			}
		}
		return true
	})
	call.Kill() // it waits for a network that is gone
}

func TestOneDaemonPerStateDirectory(t *testing.T) {
	n := bin.Dev(t, bin.Plugins())
	r := bin.Run(t, n.Env, "run", "--plugins", bin.Plugins(), "--state-dir", n.StateDir, "--socket", filepath.Join(t.TempDir(), "s"))
	wantSentence(t, r, 1, n.StateDir, fmt.Sprint(n.PID()))
	if task := n.Call(t, "echo", "--text", "still here"); task.Code != 0 {
		t.Errorf("the first daemon suffered: exit %d, %s", task.Code, task.Stderr)
	}
	n.Stop(t)
}

func TestUsersMistakes(t *testing.T) {
	n := bin.Dev(t, bin.Plugins())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	longSocket := filepath.Join(t.TempDir(), strings.Repeat("s", 120))
	card := filepath.Join(t.TempDir(), "card.json")
	writeFile(t, card, `{"identity":{"agentNam":"x"}}`)
	config := filepath.Join(t.TempDir(), "blocksd.yaml")
	writeFile(t, config, "drian: 3s\n")
	quoted, ownKey := filepath.Join(t.TempDir(), "quoted"), filepath.Join(t.TempDir(), "own.yaml")
	writeFile(t, quoted, `"bk_quoted"`)
	writeFile(t, ownKey, fmt.Sprintf("agents: [{card: %s, handler: echo, key_file: %s}]\n", filepath.Join(bin.Plugins(), "echo.agent-card.json"), quoted))

	for _, c := range []struct {
		name string
		env  system.Env
		code int
		args []string
		want []string
	}{
		{"unknown agent", n.Env, 1, []string{"call", "nobody", "--text", "x"}, []string{"nobody"}},
		{"wrong key", n.Env.With("BLOCKS_API_KEY", "bk_wrong"), 3, []string{"call", "echo", "--text", "x"}, []string{"key"}},
		{"no key", n.Env.With("BLOCKS_API_KEY", ""), 2, []string{"call", "echo", "--text", "x"}, []string{"BLOCKS_API_KEY"}},
		{"no such file", n.Env, 2, []string{"call", "echo", "--file", "first=/no/such/file"}, []string{"/no/such/file"}},
		{"no time at all", n.Env, 2, []string{"call", "echo", "--text", "x", "--timeout", "0s"}, []string{"--timeout"}},
		{"a pipe of no time", n.Env, 2, []string{"call", "echo", "--text", "x", "--pipe", "0"}, []string{"--pipe"}},
		{"unknown flag", nil, 2, []string{"call", "echo", "--txet", "x"}, []string{"txet", "text"}},
		{"unknown command", nil, 2, []string{"staus"}, []string{"staus", "status"}},
		{"nobody listens", system.Env{"BLOCKSD_SOCKET=/no/such/socket"}, 1, []string{"status"}, []string{"/no/such/socket"}},
		{"port taken", nil, 1, []string{"sandbox", "--listen", taken.Addr().String()}, []string{taken.Addr().String()}},
		{"not on this machine alone", nil, 2, []string{"sandbox", "--listen", "0.0.0.0:0"}, []string{"0.0.0.0:0", "loopback"}},
		{"socket path too long", n.Env, 78, []string{"run", "--state-dir", t.TempDir(), "--socket", longSocket}, []string{"--socket"}},
		{"unknown key in the file", nil, 78, []string{"run", "--config", config, "--state-dir", t.TempDir()}, []string{"drian", "drain"}},
		{"what is no key", n.Env.With("BLOCKS_API_KEY", "NAME=bk_x"), 78, []string{"run", "--state-dir", t.TempDir(), "--socket", filepath.Join(t.TempDir(), "s")}, []string{"BLOCKS_API_KEY", "NAME=value"}},
		{"what is no key, for one agent", n.Env, 78, []string{"run", "--config", ownKey, "--state-dir", t.TempDir(), "--socket", filepath.Join(t.TempDir(), "s")}, []string{quoted, "quotes"}},
		{"check of that file", nil, 2, []string{"check", "--config", config}, []string{"drian", "drain"}},
	} {
		t.Run(c.name, func(t *testing.T) { wantSentence(t, bin.Run(t, c.env, c.args...), c.code, c.want...) })
	}
	t.Run("a bad card", func(t *testing.T) {
		r := bin.Run(t, nil, "check", card)
		if r.Code != 2 || !strings.Contains(r.Stderr, "agentNam") || !strings.Contains(r.Stderr, "agentName") {
			t.Errorf("exit %d, stderr %s", r.Code, r.Stderr)
		}
	})
	t.Run("good cards", func(t *testing.T) {
		cards, _ := filepath.Glob(filepath.Join(bin.Dir, "*plugins", "*.agent-card.json"))
		for _, card := range append(cards, "../agent-card.json") {
			if r := bin.Run(t, nil, "check", card); r.Code != 0 {
				t.Errorf("check %s: exit %d, stderr %s", card, r.Code, r.Stderr)
			}
		}
	})
	n.Stop(t)
}

func TestWrongKeyIsFinal(t *testing.T) {
	_, env := bin.Sandbox(t, bin.Plugins())
	r := bin.Run(t, env.With("BLOCKS_API_KEY", "bk_wrong"), "run", "--plugins", bin.Plugins(), "--state-dir", t.TempDir(), "--socket", filepath.Join(t.TempDir(), "s"))
	if r.Code != 3 {
		t.Errorf("exit %d, want 3; stderr %s", r.Code, r.Stderr)
	}
	if strings.Contains(r.Stderr, "bk_wrong") {
		t.Errorf("the key is in the output: %s", r.Stderr)
	}
}

// TestBadPlugins puts one file of each kind of mistake beside a good handler, which must not notice.
func TestBadPlugins(t *testing.T) {
	bad := filepath.Join(bin.TestPlugins(), "badhandler")
	dir := system.PluginDir(t, map[string]string{
		"echo":                     filepath.Join(bin.Plugins(), "echo"),
		"badhandler-never-answers": bad,
		"badhandler-exit-at-start": bad,
		"badhandler-wrong-version": bad,
		"badhandler-not-a-plugin":  bad,
	}, nil)
	text := filepath.Join(dir, "script")
	writeFile(t, text, "just text\n")
	if err := os.Chmod(text, 0o755); err != nil {
		t.Fatal(err)
	}
	writable := filepath.Join(dir, "writable")
	writeFile(t, writable, "")
	if err := os.Chmod(writable, 0o777); err != nil {
		t.Fatal(err)
	}
	_, env := bin.Sandbox(t, dir)
	state := t.TempDir()
	n := &system.Network{Binaries: bin, StateDir: state, Env: env.With("BLOCKSD_SOCKET", filepath.Join(state, "s"))}
	n.Process = bin.Start(t, env, "run", "--plugins", dir, "--state-dir", state, "--socket", filepath.Join(state, "s"))

	system.Eventually(t, system.StartDeadline, "echo is online and every other file has its reason", func() bool {
		r := n.Run(t, n.Env, "status", "--json")
		if r.Code != 0 && r.Stdout == "" {
			return false
		}
		s := n.Status(t)
		all := strings.Join(s.Reasons, "\n")
		for _, h := range s.Handlers {
			if h.Name != "echo" {
				all += "\n" + h.Name + ": " + h.Reason
				if h.State == "ready" || h.Reason == "" {
					return false
				}
			}
		}
		if !slices.ContainsFunc(s.Agents, func(a system.Agent) bool { return a.Name == "echo" && a.State == "online" }) {
			return false
		}
		for _, name := range []string{"never-answers", "exit-at-start", "wrong-version", "not-a-plugin", "script", "writable"} {
			if !strings.Contains(all, name) {
				return false
			}
		}
		return true
	})
	wantShape(t, n.Call(t, "echo", "--text", "x"), 0, "submitted", "running", "artifact text/plain Echoed request: x", "terminal completed")
	n.Stop(t)
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
