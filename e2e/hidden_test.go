package e2e

import (
	"bytes"
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
	dir := t.TempDir()
	program := filepath.Join(dir, "blocksd")
	copyProgram(t, bin.Blocksd(), program)
	plugins, state := filepath.Join(dir, "plugins"), filepath.Join(dir, "state")
	for _, d := range []string{plugins, state} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyProgram(t, filepath.Join(bin.Plugins(), "echo"), filepath.Join(plugins, "echo"))
	card, err := os.ReadFile(filepath.Join(bin.Plugins(), "echo.agent-card.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(plugins, "echo.agent-card.json"), card, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Chmod(plugins, 0o755), os.Chown(state, uid, uid)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(state, "s")
	cmd := exec.Command(program, "run", "--plugins", plugins, "--state-dir", state, "--socket", socket)
	cmd.SysProcAttr = as
	cmd.Env = append(system.CleanEnv(), env...)
	var output bytes.Buffer
	cmd.Stderr = &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &system.Network{Binaries: bin, Env: env.With("BLOCKSD_SOCKET", socket)}
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
		t.Errorf("the daemon ended with %v\n%s", err, &output)
	}
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o755); err != nil {
		t.Fatal(err)
	}
}
