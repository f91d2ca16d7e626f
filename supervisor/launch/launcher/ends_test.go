//go:build linux

package launcher

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

// With the daemon everything goes, also the directories of its handlers.
func TestTheEndOfTheDaemon(t *testing.T) {
	dir := serve(t)
	g := daemon(t, dir)
	spec := g.spec(t, first, "trap '' TERM; echo on; sleep 600; sleep 600")
	if _, err := g.dirs.NewFor(spec.Plan); err != nil {
		t.Fatal(err)
	}
	p := g.start(t, spec)
	if line, err := bufio.NewReader(p.Stdout).ReadString('\n'); err != nil || line != "on\n" {
		t.Fatal(line, err)
	}
	g.machine.Launcher.Close()
	if exit := ended(t, p); exit.Signal != syscall.SIGKILL {
		t.Errorf("it ended with %v", exit)
	}
	gone(t, p.PID())
	next := daemon(t, dir) // is served once the first one's processes are gone
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		entries, err := os.ReadDir(filepath.Join(dir, "dirs"))
		if err == nil && len(entries) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left are %v, %v", entries, err)
		}
	}
	if ended(t, next.start(t, next.spec(t, first, "exit 4"))).Code != 4 {
		t.Error("the next daemon is not served")
	}
}

func TestTheEndOfTheLauncher(t *testing.T) {
	dir := base(t)
	run := func() *exec.Cmd {
		t.Helper()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env, cmd.Stderr = append(os.Environ(), "LAUNCHER_TEST_DIR="+dir), os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			c, err := net.Dial(wire.Network, filepath.Join(dir, "s"))
			if err == nil {
				c.Close()
				return cmd
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	launcher := run()
	g := daemon(t, dir)
	p := g.start(t, g.spec(t, first, "trap '' TERM HUP; echo on; exec sleep 600"))
	if line, err := bufio.NewReader(p.Stdout).ReadString('\n'); err != nil || line != "on\n" {
		t.Fatal(line, err)
	}
	if err := launcher.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = launcher.Wait()
	if exit := ended(t, p); exit.Signal != syscall.SIGKILL {
		t.Errorf("it ended with %v", exit)
	}
	gone(t, p.PID())
	if _, err := g.Spawn(t.Context(), g.spec(t, first, "exit 0")); err == nil || !strings.Contains(err.Error(), "launcher") {
		t.Errorf("without a launcher: %v", err)
	}
	run()
	if ended(t, g.start(t, g.spec(t, first, "exit 6"))).Code != 6 {
		t.Error("the next launcher is not used")
	}
}
