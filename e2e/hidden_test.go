package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// TestHiddenFromItsUser: a process of the daemon's own user, as a handler is one, reads neither its environment, where the
// key may be, nor its memory; and the daemon serves all the same.
func TestHiddenFromItsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	const uid = 54397
	as := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	_, env := bin.Sandbox(t, bin.Plugins())
	plugins := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil)
	dir, state := t.TempDir(), t.TempDir()
	program := filepath.Join(dir, "blocksd")
	b, err := os.ReadFile(bin.Blocksd())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile(program, b, 0o755), os.Chmod(program, 0o755), os.Chown(state, uid, uid),
		os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(plugins, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	n, cmd, output := runBy(t, env, state, plugins, func(args ...string) *exec.Cmd {
		cmd := exec.Command(program, args...)
		cmd.SysProcAttr = as
		return cmd
	})
	wantShape(t, n.Call(t, "echo", "--text", "hi"), 0, "submitted", "running", "artifact text/plain Echoed request: hi", "terminal completed")
	for _, file := range []string{"environ", "maps", "mem"} {
		spy := exec.Command("cat", filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), file))
		spy.SysProcAttr = as
		if out, err := spy.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("a process of the same user reads %s of the daemon: %.80q, %v", file, out, err)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := waitFor(t, cmd); err != nil {
		t.Errorf("the daemon ended with %v\n%s", err, output)
	}
}
