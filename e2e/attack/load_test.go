package attack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// Bounds of what the attacks may cost the daemon, with room for a busy machine. The memory is what the process holds, with the
// garbage of the attacks before.
const (
	memoryGrowth = 1200 << 20
	logGrowth    = 48 << 20
	statusBytes  = 256 << 10
)

// What a handler can make the daemon hold is counted: whatever it asks for, the daemon stays small and goes on.
func TestLoad(t *testing.T) {
	handlers := plugins(t)
	_, env := bin.Sandbox(t, handlers)
	n := bin.Daemon(t, env, handlers)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 8<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	socket := n.Env.Get("BLOCKSD_SOCKET")
	alive(t, n)
	memory, descriptors := rss(t, n.PID()), open(t, n.PID())
	for _, tt := range []struct {
		name, text string
		args       []string
		failed     bool // the task itself
	}{
		{name: "downloads that nobody reads", text: "downloads 500", args: []string{"--file", "file=" + file}},
		{name: "artifacts without an end", text: "artifacts 200 1"},
		{name: "connections to the host socket", text: "connections host 2000"},
		{name: "connections to the control socket", text: "connections " + socket + " 2000"},
		{name: "a flood of log", text: "log 200"},
		{name: "an error as long as a book", text: "error 14000000", failed: true},
		{name: "a message of gRPC that is no text", text: "grpc-message 60000", failed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(n.Output())
			task := n.Call(t, "hostile", append([]string{"--text", tt.text}, tt.args...)...)
			if tt.failed != (task.Code == 4) {
				t.Errorf("exit %d, %.300s%.300s", task.Code, task.Stdout, task.Stderr)
			}
			alive(t, n)
			if grown := len(n.Output()) - before; grown > logGrowth {
				t.Errorf("the log has grown by %d bytes", grown)
			}
			if r := n.Run(t, n.Env, "status", "--json"); len(r.Stdout) > statusBytes || r.Code > 1 {
				t.Errorf("status has %d bytes, exit %d", len(r.Stdout), r.Code)
			}
			if now := rss(t, n.PID()); now > memory+memoryGrowth {
				t.Errorf("the daemon has %d MiB, before %d", now>>20, memory>>20)
			}
			system.Eventually(t, system.CallDeadline, "descriptors are back to what they were", func() bool { return open(t, n.PID()) <= descriptors+8 })
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "blocksd-artifact-*")); len(left) > 0 {
				t.Errorf("artifacts are left: %v", left)
			}
		})
	}
	n.Stop(t)
}

// More cards than a handler may have keep it from being served, and nobody else.
func TestCards(t *testing.T) {
	dir := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	b, err := os.ReadFile(hostile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "hostile-cards-5000-100"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	n := bin.Dev(t, dir)
	system.Eventually(t, system.StartDeadline, "the status says why", func() bool {
		return strings.Contains(n.Run(t, n.Env, "status").Stdout, "describes 5001 agents, and may have 64")
	})
	if task := n.Call(t, "echo", "--text", "hi"); task.Code != 0 {
		t.Errorf("echo beside it: %s", task.Stderr)
	}
	n.Stop(t)
}

// rss is the resident memory of a process.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// open counts the descriptors of a process.
func open(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so the daemon's descriptors cannot be seen")
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
