package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// TestLogReaderGoesAway: a daemon whose log nobody reads any more goes on, and so do dev and the sandbox.
func TestLogReaderGoesAway(t *testing.T) {
	start := func(t *testing.T, env []string, args ...string) *exec.Cmd {
		t.Helper()
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(bin.Blocksd(), args...)
		cmd.Env = append(system.CleanEnv(), env...)
		cmd.Stdout, cmd.Stderr = writer, writer
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		writer.Close()
		reader.Close() // from here on every write fails
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := waitFor(t, cmd); err != nil {
				t.Errorf("blocksd %s ended with %v", args[0], err)
			}
		})
		return cmd
	}
	t.Run("run", func(t *testing.T) {
		_, env := bin.Sandbox(t, bin.Plugins())
		state := t.TempDir()
		socket := filepath.Join(state, "s")
		start(t, env.With("LOG_LEVEL", "debug"), "run", "--plugins", bin.Plugins(), "--state-dir", state, "--socket", socket)
		n := &system.Network{Binaries: bin, Env: env.With("BLOCKSD_SOCKET", socket)}
		for range 3 {
			wantShape(t, n.Call(t, "echo", "--text", "hi"), 0, "submitted", "running", "artifact text/plain Echoed request: hi", "terminal completed")
		}
	})
	for _, args := range [][]string{{"dev", "--plugins", bin.Plugins()}, {"sandbox", "--agents", bin.Plugins()}} {
		t.Run(args[0], func(t *testing.T) {
			dir := t.TempDir()
			envFile := filepath.Join(dir, "dev.env")
			args := append(args, "--listen", "127.0.0.1:0", "--state-dir", dir)
			if args[0] == "sandbox" {
				args = append(args, "--env-file", envFile)
			}
			start(t, nil, args...)
			system.Eventually(t, system.StartDeadline, "everything works", func() bool { _, err := os.Stat(envFile); return err == nil })
		})
	}
}

// TestNohup: what nohup protects from SIGHUP stays protected.
func TestNohup(t *testing.T) {
	_, env := bin.Sandbox(t, bin.Plugins())
	n, cmd, output := runBy(t, env, t.TempDir(), bin.Plugins(), func(args ...string) *exec.Cmd {
		return exec.Command("/bin/sh", append([]string{"-c", `trap "" HUP; exec "$@"`, "sh", bin.Blocksd()}, args...)...)
	})
	system.Eventually(t, system.StartDeadline, "the daemon answers", func() bool { return bin.Run(t, n.Env, "status").Code == 0 })
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	wantShape(t, n.Call(t, "echo", "--text", "hi"), 0, "submitted", "running", "artifact text/plain Echoed request: hi", "terminal completed")
	// Two signals at once, as timeout(1) sends them, are one: the daemon drains and does not cancel.
	for range 2 {
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	if err := waitFor(t, cmd); err != nil || strings.Contains(output.String(), "SIGHUP") {
		t.Errorf("the daemon ended with %v\n%s", err, output)
	}
}

// TestThirdSignal: the first signal drains, the second cancels, the third ends the daemon at once, with a status of its own.
// Signals within a second are one, so they come slowly here.
func TestThirdSignal(t *testing.T) {
	_, env := bin.Sandbox(t, bin.TestPlugins())
	env = env.With("BLOCKSD_DRAIN", "10m").With("BLOCKSD_CANCEL_GRACE", "10m") // so that the task outlives the first two signals
	n, cmd, _ := runBy(t, env, t.TempDir(), bin.TestPlugins(), func(args ...string) *exec.Cmd { return exec.Command(bin.Blocksd(), args...) })
	system.Eventually(t, system.StartDeadline, "the daemon is ready", func() bool { return bin.Run(t, n.Env, "status", "--wait", "READY").Code == 0 })
	call := n.StartCall(t, "badhandler", "--text", "ignore-cancel")
	call.AwaitStatus(t)
	ended := make(chan error, 1)
	go func() { ended <- waitFor(t, cmd) }()
	taken := []func() bool{
		func() bool {
			return slices.ContainsFunc(n.Status(t).Agents, func(a system.Agent) bool { return a.Name == "badhandler" && a.State == "draining" })
		},
		func() bool {
			return slices.ContainsFunc(n.Tasks(t), func(r system.TaskRow) bool { return r.TaskID == call.TaskID && r.State == "canceling" })
		},
		func() bool { return len(ended) > 0 },
	}
	for i, took := range taken {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		system.Eventually(t, system.StopDeadline, fmt.Sprint("the daemon has taken signal ", i+1), took)
		if i < len(taken)-1 {
			time.Sleep(1200 * time.Millisecond) // from when it has, not from when it was sent: it may come late
		}
	}
	if err := <-ended; err == nil || err.Error() != "exit status 130" {
		t.Errorf("the daemon ended with %v", err)
	}
}

// TestWatchdogAbort: systemd's watchdog ends a daemon that hangs by SIGABRT. What it was doing is in a file, and one record in
// the log says so.
func TestWatchdogAbort(t *testing.T) {
	_, env := bin.Sandbox(t, bin.Plugins())
	state := t.TempDir()
	n, cmd, output := runBy(t, env, state, bin.Plugins(), func(args ...string) *exec.Cmd { return exec.Command(bin.Blocksd(), args...) })
	system.Eventually(t, system.StartDeadline, "the daemon answers", func() bool { return bin.Run(t, n.Env, "status").Code == 0 })
	if err := cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(t, cmd); err == nil || err.Error() != "exit status 2" { // as Go does
		t.Errorf("the daemon ended with %v", err)
	}
	file := filepath.Join(state, "watchdog-stacks.txt")
	if stacks, err := os.ReadFile(file); err != nil || !strings.Contains(string(stacks), "daemon.(*Daemon).Run") {
		t.Errorf("stacks %.200s, %v", stacks, err)
	}
	if log := output.String(); strings.Contains(log, "goroutine ") || strings.Count(log, "SIGABRT") != 1 || !strings.Contains(log, file) {
		t.Errorf("log %s", log)
	}
}

// openDir is a directory that handlers may write to, whichever user they have.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "blocksd-open-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestProcessOne: as process 1 of a container blocksd reaps orphans, passes signals on and ends as the daemon ends.
func TestProcessOne(t *testing.T) {
	unshare := func(args ...string) *exec.Cmd {
		return exec.Command("unshare", append([]string{"--pid", "--fork", "--kill-child", bin.Blocksd()}, args...)...)
	}
	if err := exec.Command("unshare", "--pid", "--fork", "true").Run(); err != nil {
		t.Skip("machine: no process namespace can be made")
	}
	if err := unshare("version").Run(); err != nil {
		t.Errorf("version as process 1: %v", err)
	}
	if err := unshare("nonsense").Run(); err == nil || err.Error() != "exit status 2" {
		t.Errorf("a wrong command as process 1: %v", err)
	}

	_, env := bin.Sandbox(t, bin.Plugins())
	plugins, marks := system.PluginDir(t, map[string]string{"echo": filepath.Join(bin.Plugins(), "echo")}, nil), openDir(t)
	const orphans = 5
	script := fmt.Sprintf("#!/bin/sh\nfor i in 1 2 3 4 5; do (sh -c 'sleep 0.1; : > %s/$0' $i &) ; done\nexec sleep 1000\n", marks)
	if err := os.WriteFile(filepath.Join(plugins, "forks"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	n, cmd, output := runBy(t, env, t.TempDir(), plugins, unshare)
	wantShape(t, n.Call(t, "echo", "--text", "hi"), 0, "submitted", "running", "artifact text/plain Echoed request: hi", "terminal completed")
	system.Eventually(t, system.CallDeadline, "the orphans have lived", func() bool {
		done, err := os.ReadDir(marks)
		return err == nil && len(done) >= orphans
	})
	first := children(t, cmd.Process.Pid)
	if len(first) != 1 {
		t.Fatalf("children of unshare: %v", first)
	}
	system.Eventually(t, system.CallDeadline, "process 1 has no child but the daemon", func() bool { return len(children(t, first[0])) == 1 })
	if err := syscall.Kill(first[0], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := waitFor(t, cmd); err != nil || !strings.Contains(output.String(), "daemon ends") {
		t.Errorf("the daemon as process 1 ended with %v\n%s", err, output)
	}
}

// runBy starts `blocksd run` by a command that the test makes of its arguments. Whatever the test does, it ends.
func runBy(t *testing.T, env system.Env, state, plugins string, command func(args ...string) *exec.Cmd) (*system.Network, *exec.Cmd, *bytes.Buffer) {
	t.Helper()
	socket := filepath.Join(state, "s")
	cmd := command("run", "--plugins", plugins, "--state-dir", state, "--socket", socket)
	cmd.Env = append(system.CleanEnv(), env...)
	output := new(bytes.Buffer)
	cmd.Stderr = output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the test has waited for it, unless it failed
		_ = cmd.Wait()
	})
	return &system.Network{Binaries: bin, Env: env.With("BLOCKSD_SOCKET", socket)}, cmd, output
}

// waitFor waits for a command, which it kills when it does not end.
func waitFor(t *testing.T, cmd *exec.Cmd) error {
	t.Helper()
	killed := time.AfterFunc(system.StopDeadline, func() { _ = cmd.Process.Kill() })
	defer killed.Stop()
	return cmd.Wait()
}

// children are the processes whose parent is pid, zombies included.
func children(t *testing.T, pid int) (all []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // gone
		}
		// After the name, which may hold anything, come the state and the parent.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			all = append(all, child)
		}
	}
	return all
}
