package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// asUser runs blocksd as another user, in the given group and no other.
func asUser(t *testing.T, uid, gid int, env system.Env, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("machine: setpriv is not installed")
	}
	cmd := exec.Command("setpriv", append([]string{
		"--reuid", strconv.Itoa(uid), "--regid", strconv.Itoa(gid), "--clear-groups", "--inh-caps=-all", bin.Blocksd(),
	}, args...)...)
	cmd.Env = append(system.CleanEnv(), "BLOCKSD_SOCKET="+env.Get("BLOCKSD_SOCKET"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), strings.TrimSpace(errs.String())
}

// Members of the socket's group may look, and change nothing; everybody else may not even look.
func TestOtherUsersAtTheControlSocket(t *testing.T) {
	n := bin.Dev(t, bin.Plugins())
	passable(t, bin.Blocksd())
	passable(t, n.Env.Get("BLOCKSD_SOCKET"))
	const stranger = 54399
	for _, args := range [][]string{{"status"}, {"handlers", "--json"}, {"logs"}} {
		if code, out, stderr := asUser(t, stranger, 0, n.Env, args...); code != 0 || args[0] != "logs" && !strings.Contains(out, "echo") {
			t.Errorf("%v as a member of the group: exit %d, %s%s", args, code, out, stderr)
		}
	}
	if code, _, stderr := asUser(t, stranger, 0, n.Env, "cancel", "task_x"); code != 1 || !strings.Contains(stderr, "user 54399 may read but not change anything: be root") {
		t.Errorf("cancel as a member of the group: exit %d, %s", code, stderr)
	}
	if code, _, stderr := asUser(t, stranger, stranger, n.Env, "status"); code != 1 || !strings.Contains(stderr, "this user may not open the socket: be root or a member of its group") {
		t.Errorf("status as a stranger: exit %d, %s", code, stderr)
	}
	n.Stop(t)
}

// passable lets other users through the directories above a file that the test made.
func passable(t *testing.T, path string) {
	t.Helper()
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, info.Mode().Perm()|0o011); err != nil {
			t.Fatal(err)
		}
	}
}

// The limits of the configuration reach the handler, and the status says what the machine cannot keep.
func TestLimitsFromTheConfiguration(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	_, env := bin.Sandbox(t, bin.TestPlugins())
	file := filepath.Join(t.TempDir(), "blocksd.yaml")
	writeFile(t, file, `
isolation: {files: 300, cgroup: "off"}
handlers:
  - {name: sleeper, user: "54398", cpu_percent: 50, mtls: true}
  - {name: badhandler, files: 77, cpu_percent: 50, strict: true}
`)
	passable(t, filepath.Join(bin.TestPlugins(), "sleeper"))
	state := t.TempDir()
	socket := filepath.Join(state, "s")
	n := &system.Network{
		Binaries: bin, StateDir: state, Env: env.With("BLOCKSD_SOCKET", socket),
		Process: bin.Start(t, env, "run", "--plugins", bin.TestPlugins(), "--state-dir", state, "--socket", socket, "--config", file),
	}
	var s system.Status
	system.Eventually(t, system.StartDeadline, "the sleeper is online", func() bool {
		if r := n.Run(t, n.Env, "status"); r.Code != 0 {
			return false
		}
		s = n.Status(t)
		for _, a := range s.Agents {
			if a.Name == "sleeper" {
				return a.State == "online"
			}
		}
		return false
	})
	pid := s.Handler(t, "sleeper").Processes[0].PID
	limits, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/limits")
	if err != nil || !strings.Contains(strings.Join(strings.Fields(string(limits)), " "), "Max open files 300 300") {
		t.Errorf("limits %s, %v", limits, err)
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil || !strings.Contains(string(status), "\nUid:\t54398\t54398\t54398\t54398\n") || !strings.Contains(string(status), "\nNoNewPrivs:\t1\n") {
		t.Errorf("status %s, %v", status, err)
	}
	if task := n.Call(t, "sleeper", "--text", "1ms"); task.Code != 0 {
		t.Errorf("a task over mTLS as another user: exit %d, %s", task.Code, task.Stderr)
	}
	reasons := strings.Join(s.Reasons, "\n")
	for _, want := range []string{
		"handler sleeper: processor time is not limited because control groups are switched off",
		"handler badhandler is not started because the limits are strict and this machine cannot keep them: processor time is not limited because control groups are switched off",
	} {
		if !strings.Contains(reasons, want) {
			t.Errorf("the reasons lack %q: %s", want, reasons)
		}
	}
	n.Stop(t)
}

// After a daemon was killed its sockets are there until the next one sweeps them, and what its handlers had started.
func TestNextDaemonSweeps(t *testing.T) {
	_, env := bin.Sandbox(t, bin.TestPlugins())
	state := t.TempDir()
	n := bin.Daemon(t, env, bin.TestPlugins(), "--state-dir", state)
	task := n.Call(t, "badhandler", "--text", "grandchild setsid")
	grandchild := 0
	for _, e := range task.Events {
		if e.Type == "artifact" {
			grandchild, _ = strconv.Atoi(artifactText(t, e))
		}
	}
	n.Kill()
	dirs := func() int {
		found, _ := filepath.Glob(filepath.Join(state, "run", "p-*"))
		return len(found)
	}
	if dirs() == 0 {
		t.Error("a killed daemon has swept its sockets")
	}
	next := bin.Daemon(t, env, bin.TestPlugins(), "--state-dir", state)
	handlers := len(next.Status(t).Handlers)
	system.Eventually(t, system.CallDeadline, "only the new processes have directories", func() bool { return dirs() == handlers })
	if grandchild > 0 {
		system.Eventually(t, system.CallDeadline, "what the handler had started has ended", func() bool { return !system.Alive(grandchild) })
	}
	next.Signal(syscall.SIGTERM)
	if code := next.Wait(t); code != 0 || dirs() != 0 {
		t.Errorf("exit %d, %d directories are left", code, dirs())
	}
}

// TestArtifactLimit: limits.artifact_bytes bounds what a handler may give; the task fails and the next one is served.
func TestArtifactLimit(t *testing.T) {
	_, env := bin.Sandbox(t, bin.TestPlugins())
	n := bin.Daemon(t, env.With("BLOCKSD_LIMITS__ARTIFACT_BYTES", "1000"), bin.TestPlugins())
	task := n.Call(t, "badhandler", "--text", "artifact 1001")
	if last := task.Events[len(task.Events)-1]; task.Code != 4 || last.State != "failed" || last.Error == "" {
		t.Errorf("one byte too many: exit %d, last event %+v", task.Code, last)
	}
	if task := n.Call(t, "badhandler", "--text", "artifact 1000"); task.Code != 0 {
		t.Errorf("as many as allowed: exit %d, %s", task.Code, task.Stdout)
	}
	n.Stop(t)
}
