package attack

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// What is no program is refused before it is read, whatever size it claims to have.
func TestFiles(t *testing.T) {
	t.Parallel()
	dir := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	made := map[string]func(path string) error{
		"fifo":   func(path string) error { return syscall.Mkfifo(path, 0o755) },
		"giant":  func(path string) error { return sparse(path, 1<<40) },
		"carded": func(path string) error { return sparse(path+".agent-card.json", 3<<30) },
		"device": func(path string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o755, 1<<8|5) }, // zeros without end
		"piped":  func(path string) error { return syscall.Mkfifo(path+".agent-card.json", 0o644) },
	}
	if os.Geteuid() != 0 {
		delete(made, "device")
	}
	for name, how := range made {
		if err := how(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"carded", "piped"} {
		copyHostile(t, filepath.Join(dir, name))
	}
	n := bin.Dev(t, dir)
	for _, want := range []string{"giant is not loaded because it cannot be read: it has 1099511627776 bytes", "carded.agent-card.json has 3221225472 bytes"} {
		system.Eventually(t, system.StartDeadline, "the status says "+want, func() bool {
			return strings.Contains(n.Run(t, n.Env, "status", "--json").Stdout, want)
		})
	}
	alive(t, n)
	if held := rss(t, n.PID()); held > memoryGrowth {
		t.Errorf("the daemon has %d MiB", held>>20)
	}
	n.Stop(t)
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no device can be made")
	}
}

// sparse makes an executable file of so many bytes, none of which is written.
func sparse(path string, size int64) error {
	if err := os.WriteFile(path, []byte("\x7fELF"), 0o755); err != nil {
		return err
	}
	return os.Truncate(path, size)
}

// A handler that says that it is an agent that another one was gets it only by an operator's word, after a restart too.
func TestNames(t *testing.T) {
	t.Parallel()
	dir := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	cards := t.TempDir()
	card, err := os.ReadFile(hostile() + ".agent-card.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, agent := range []string{"mail", "echo"} {
		if err := os.WriteFile(filepath.Join(cards, agent+".json"), []byte(strings.Replace(string(card), `"hostile"`, strconv.Quote(agent), 1)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	victim, thief := filepath.Join(dir, "victim-as-mail"), filepath.Join(dir, "thief-as-mail")
	copyHostile(t, victim)
	_, env := bin.Sandbox(t, cards)
	n := bin.Daemon(t, env, dir)
	serves := func() string {
		for _, a := range n.Status(t).Agents {
			if a.Name == "mail" && a.State == "online" {
				return a.Handler
			}
		}
		return ""
	}
	if got := serves(); got != "victim-as-mail" {
		t.Fatalf("mail is served by %q", got)
	}
	copyHostile(t, thief)
	system.Eventually(t, system.CallDeadline, "the thief is refused", func() bool {
		return strings.Contains(n.Run(t, n.Env, "status").Stdout, "handler thief-as-mail does not serve agent mail")
	})
	if err := os.Remove(victim); err != nil {
		t.Fatal(err)
	}
	held := func() bool {
		r := n.Run(t, n.Env, "status", "--json")
		var s struct{ Conditions []struct{ Code, Text string } }
		if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
			return false
		}
		for _, c := range s.Conditions {
			if c.Code == "agent_held" && strings.Contains(c.Text, "blocksd handler assign thief-as-mail mail") {
				return true
			}
		}
		return false
	}
	system.Eventually(t, system.CallDeadline, "the name is kept", held)
	n.Stop(t)
	socket := n.Env.Get("BLOCKSD_SOCKET")
	n.Process = bin.Start(t, env, "run", "--plugins", dir, "--state-dir", n.StateDir, "--socket", socket)
	system.Eventually(t, system.StartDeadline, "the name is kept after a restart", held)
	if r := n.Run(t, n.Env, "handler", "assign", "thief-as-mail", "mail"); r.Code != 0 {
		t.Fatalf("assign: %s", r.Stderr)
	}
	system.Eventually(t, system.CallDeadline, "the operator's word counts", func() bool { return serves() == "thief-as-mail" })
	alive(t, n)
	n.Stop(t)
}
