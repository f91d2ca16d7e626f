package attack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// What a handler can make the daemon hold is counted: whatever it asks for, the daemon stays small and goes on, and so does the
// handler beside it.
func TestLoad(t *testing.T) {
	handlers := plugins(t)
	_, env := bin.Sandbox(t, handlers)
	temp := t.TempDir()
	n := bin.Daemon(t, env.With("TMPDIR", temp), handlers)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	socket := n.Env.Get("BLOCKSD_SOCKET")
	before := baseOf(t, n, temp)
	echo := ping(t, env)
	for _, tt := range []struct {
		name, text string
		args       []string
		failed     bool // the task itself
	}{
		{name: "downloads that nobody reads", text: "downloads 5000", args: []string{"--file", "file=" + file}},
		{name: "downloads that outlive their task", text: "leak 20", args: []string{"--file", "file=" + file}},
		{name: "artifacts without an end", text: "artifacts 200 1"},
		{name: "artifacts of a byte without an end", text: "artifacts 200 0"},
		{name: "connections to the host socket", text: "connections host 2000"},
		{name: "connections to the control socket", text: "connections " + socket + " 4096"},
		{name: "calls of the control socket with a closed window", text: "windows " + socket + " 2000"},
		{name: "calls that are refused", text: "refused 4000"},
		{name: "files in its private directory", text: "files 5000"},
		{name: "a flood of log", text: "log 100"},
		{name: "a flood of short lines", text: "lines 1000000"},
		{name: "a flood of status", text: "status 100000"},
		{name: "an error as long as a book", text: "error 14000000", failed: true},
		{name: "a message of gRPC that is not text", text: "grpc-message 60000", failed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := len(n.Output())
			task := n.Call(t, "hostile", append([]string{"--text", tt.text}, tt.args...)...)
			if tt.failed != (task.Code == 4) {
				t.Errorf("exit %d, %.300s%.300s", task.Code, task.Stdout, task.Stderr)
			}
			t.Logf("answer: %.200s", answerOf(task))
			before.during(t, n, log)
			before.after(t, n)
		})
	}
	echo.report(t)
	n.Stop(t)
}

// More cards than a handler may have keep it from being served, and nobody else.
func TestCards(t *testing.T) {
	t.Parallel()
	dir := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	copyHostile(t, filepath.Join(dir, "hostile-cards-15000-1"))
	n := bin.Dev(t, dir)
	system.Eventually(t, system.StartDeadline, "the status says why", func() bool {
		return strings.Contains(n.Run(t, n.Env, "status").Stdout, "describes 15001 agents, and may have 64")
	})
	if task := n.Call(t, "echo", "--text", "hi"); task.Code != 0 {
		t.Errorf("echo beside it: %s", task.Stderr)
	}
	n.Stop(t)
}
