package launch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/internal/testutil"
)

// machine is this machine with the test program as the shim and without control groups.
func machine(t *testing.T) *Machine {
	t.Helper()
	shim, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Probe(shim, "off")
}

func plan(t *testing.T, l Limits, m *Machine) *Plan {
	t.Helper()
	p, err := l.Plan(m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// output runs a script under a plan and returns what it wrote, both streams.
func output(t *testing.T, s *Spawner, spec Spec, script string) string {
	t.Helper()
	spec.Path, spec.Args = "/bin/sh", []string{"-c", "exec 2>&1; " + script}
	spec.Env = append(spec.Env, "PATH=/usr/bin:/bin")
	p, err := s.Spawn(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	defer func() { _ = p.Signal(syscall.SIGKILL); <-p.Done() }()
	out, err := io.ReadAll(p.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	ended(t, p)
	return strings.TrimSpace(string(out))
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
}

func needLandlock(t *testing.T) {
	t.Helper()
	if version, _ := probeLandlock(); version == 0 {
		t.Skip("machine: the kernel has no landlock")
	}
}

func TestPlans(t *testing.T) {
	groups := func(controllers ...string) *Cgroups { return &Cgroups{base: "/g", controllers: controllers} }
	all := &Machine{Shim: "/shim", Cgroups: groups("memory", "pids", "cpu"), Landlock: 7, Privileged: true}
	bare := &Machine{NoCgroups: "there are none"}
	everything := Limits{MemoryBytes: 1000, Processes: 5, CPUPercent: 150, Files: 99, ReadPaths: []string{"/r"}, WritePaths: []string{"/w"}, User: "12345"}
	always := rlimit{unix.RLIMIT_CORE, 0}
	tests := []struct {
		name     string
		limits   Limits
		machine  *Machine
		rlimits  []rlimit
		settings []setting
		landlock bool
		skipped  []string
	}{
		{name: "nothing wished", machine: bare, rlimits: []rlimit{always, {unix.RLIMIT_NOFILE, DefaultFiles}}},
		{name: "no machine", rlimits: []rlimit{always, {unix.RLIMIT_NOFILE, DefaultFiles}}},
		{
			name: "everything there", limits: everything, machine: all, landlock: true,
			rlimits:  []rlimit{always, {unix.RLIMIT_NOFILE, 99}},
			settings: []setting{{"memory.max", "1000"}, {"memory.swap.max", "0"}, {"memory.oom.group", "1"}, {"pids.max", "5"}, {"cpu.max", "150000 100000"}},
		},
		{
			name: "shim only", limits: everything, machine: &Machine{Shim: "/shim", NoCgroups: "there are none", NoLandlock: "the kernel has no landlock", Privileged: true}, skipped: []string{
				"memory is limited for each process alone, by RLIMIT_DATA, because there are none",
				"processes are limited for user 12345 as a whole, by RLIMIT_NPROC, because there are none",
				"processor time is not limited because there are none",
				"files are not guarded because the kernel has no landlock",
			},
			rlimits: []rlimit{always, {unix.RLIMIT_NOFILE, 99}, {unix.RLIMIT_DATA, 1000}, {unix.RLIMIT_NPROC, 5}},
		},
		{
			name: "no controllers", limits: Limits{MemoryBytes: 10, CPUPercent: 1}, machine: &Machine{Shim: "/shim", Cgroups: groups("pids")}, skipped: []string{
				"memory is limited for each process alone, by RLIMIT_DATA, because the control group /g has no memory controller",
				"processor time is not limited because the control group /g has no cpu controller",
			},
			rlimits: []rlimit{always, {unix.RLIMIT_NOFILE, DefaultFiles}, {unix.RLIMIT_DATA, 10}},
		},
		{
			name: "old landlock, no root", limits: Limits{ReadPaths: []string{"/r"}, User: "12345"}, machine: &Machine{Shim: "/shim", Landlock: 1}, landlock: true, skipped: []string{
				"the handler runs as the daemon's user and not as 12345 because only root may become another user",
				"files outside of write_paths can be emptied because the kernel's landlock has version 1 of at least 3",
			},
			rlimits: []rlimit{always, {unix.RLIMIT_NOFILE, DefaultFiles}},
		},
	}
	for _, tt := range tests {
		p, err := tt.limits.Plan(tt.machine)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		for _, d := range []string{
			cmp.Diff(tt.rlimits, p.rlimits), cmp.Diff(tt.settings, p.settings, cmp.AllowUnexported(setting{})),
			cmp.Diff(tt.skipped, p.Skipped), cmp.Diff(tt.landlock, p.landlock),
		} {
			if d != "" {
				t.Errorf("%s: %s", tt.name, d)
			}
		}
		tt.limits.Strict = true
		_, err = tt.limits.Plan(tt.machine)
		if refused := errors.Is(err, ErrRefused); refused != (len(tt.skipped) > 0 || p.Level == NoWalls) {
			t.Errorf("%s, strict: %v", tt.name, err)
		}
	}
	if _, err := (Limits{User: "no-such-user"}).Plan(all); err == nil || err.Error() != "user no-such-user does not exist: create it, or name another one" {
		t.Errorf("unknown user: %v", err)
	}
}

// What the shim sets always, and what it is asked to.
func TestRlimits(t *testing.T) {
	s, m := spawner(t), machine(t)
	got := output(t, s, Spec{Plan: plan(t, Limits{Files: 77}, m)}, "ulimit -n; ulimit -Hn; ulimit -c; grep NoNewPrivs /proc/self/status; ls /proc/self/fd | wc -l; echo $GOMEMLIMIT.")
	if d := cmp.Diff("77\n77\n0\nNoNewPrivs:\t1\n4\n.", got); d != "" { // descriptors: three, and that of the listing
		t.Error(d)
	}
	got = output(t, s, Spec{Plan: plan(t, Limits{MemoryBytes: 64 << 20}, m)}, "ulimit -d; ulimit -Hd; echo $GOMEMLIMIT; ulimit -d unlimited || echo refused")
	if !strings.HasPrefix(got, "65536\n65536\n60397974\n") || os.Geteuid() != 0 && !strings.HasSuffix(got, "refused") {
		t.Errorf("memory: %q", got)
	}
	if got := output(t, s, Spec{Env: []string{"GOMEMLIMIT=1GiB"}, Plan: plan(t, Limits{MemoryBytes: 64 << 20}, m)}, "echo $GOMEMLIMIT"); got != "1GiB" {
		t.Errorf("the handler's own hint became %q", got)
	}
	if got := output(t, s, Spec{Plan: plan(t, Limits{MemoryBytes: 32 << 20}, m)}, "dd if=/dev/zero of=/dev/null bs=256M count=1"); !strings.Contains(got, "memory") {
		t.Errorf("256 MiB of 32: %q", got)
	}
}

func TestShimFailuresAreOneSentence(t *testing.T) {
	s, m := spawner(t), machine(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("just text\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{"/nowhere/handler": fs.ErrNotExist, text: syscall.ENOEXEC, "/tmp": fs.ErrPermission} {
		_, err := s.Spawn(t.Context(), Spec{Path: path, Plan: plan(t, Limits{}, m)})
		if !errors.Is(err, want) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "start "+path+": ") {
			t.Errorf("%s: %v", path, err)
		}
	}
	broken := *m
	broken.Shim = "/nowhere/shim"
	if _, err := s.Spawn(t.Context(), Spec{Path: "/bin/true", Plan: plan(t, Limits{}, &broken)}); err == nil {
		t.Error("started without its shim")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Spawn(ctx, Spec{Path: "/bin/true", Plan: plan(t, Limits{}, m)}); err == nil {
		t.Error("started for nobody")
	}
}

func TestGuardedFiles(t *testing.T) {
	needLandlock(t)
	s, m := spawner(t), machine(t)
	dir := t.TempDir()
	for _, name := range []string{"read", "write", "other", "private"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "file"), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := plan(t, Limits{ReadPaths: []string{filepath.Join(dir, "read"), "/nowhere"}, WritePaths: []string{filepath.Join(dir, "write")}}, m)
	got := output(t, s, Spec{Plan: p, Private: filepath.Join(dir, "private")}, "cd "+dir+`
for d in read write other private; do
  cat $d/file >/dev/null && echo $d read
  echo x >$d/new && echo $d written
  true >$d/file && echo $d emptied
done 2>/dev/null
cat /etc/shadow >/dev/null 2>&1 || echo no secrets
read x </proc/self/stat && echo own process
cat /proc/`+strconv.Itoa(os.Getpid())+`/environ >/dev/null 2>&1 || echo no foreign environment
echo x >/dev/null && echo null`)
	want := "read read\nwrite read\nwrite written\nwrite emptied\nprivate read\nprivate written\nprivate emptied\nno secrets\nown process\nno foreign environment\nnull"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Landlock that a filter of system calls forbids is not said to be missing in the kernel.
func TestForbiddenLandlock(t *testing.T) {
	if !testutil.CallsForbidden() {
		testutil.WithoutCalls(t, unix.EPERM, []int{unix.SYS_LANDLOCK_CREATE_RULESET}, "TestForbiddenLandlock")
		return
	}
	p := plan(t, Limits{ReadPaths: []string{"/r"}}, machine(t))
	const want = "files are not guarded because a filter of system calls forbids landlock: add the calls landlock_create_ruleset, landlock_add_rule and landlock_restrict_self to SystemCallFilter= of the unit"
	if p.landlock || len(p.Skipped) != 1 || p.Skipped[0] != want {
		t.Errorf("guarded %v, skipped %q", p.landlock, p.Skipped)
	}
}

func TestOtherUser(t *testing.T) {
	needRoot(t)
	s, m := spawner(t), machine(t)
	p := plan(t, Limits{User: "54321"}, m)
	if got := output(t, s, Spec{Plan: p}, "id -u; id -g; id -G; grep CapEff /proc/self/status; kill -0 "+strconv.Itoa(os.Getpid())+" || echo no"); !strings.HasPrefix(got, "54321\n54321\n54321\nCapEff:\t0000000000000000\n") || !strings.HasSuffix(got, "no") {
		t.Errorf("output %q", got)
	}
	if p.UID() != 54321 || !p.Foreign() {
		t.Errorf("user %d", p.UID())
	}
	// It ends with the group and by our signal like any other.
	process, err := s.Spawn(t.Context(), Spec{Path: "/bin/sleep", Args: []string{"600"}, Plan: p})
	if err != nil {
		t.Fatal(err)
	}
	if process.UID() != 54321 {
		t.Errorf("process of user %d", process.UID())
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if e := ended(t, process); e.Signal != syscall.SIGTERM {
		t.Errorf("ended by %v", e)
	}
	process.Close()
}

// A fork bomb of a handler with a user of its own stops at its limit, and ends with its leader.
func TestForkBomb(t *testing.T) {
	needRoot(t)
	s, m := spawner(t), machine(t)
	p := plan(t, Limits{User: "54322", Processes: 20}, m)
	process, err := s.Spawn(t.Context(), Spec{Path: "/bin/sh", Args: []string{"-c", "i=0; while [ $i -lt 200 ]; do sleep 600 & i=$((i+1)); done"}, Env: []string{"PATH=/usr/bin:/bin"}, Plan: p})
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	message, err := io.ReadAll(process.Stderr) // dash gives up when it cannot fork
	if err != nil || !strings.Contains(strings.ToLower(string(message)), "fork") {
		t.Errorf("stderr %q, %v", message, err)
	}
	ended(t, process)
	testutil.Eventually(t, patience, "no process of the user is left", func() bool { return processesOf(t, 54322) == 0 })
}

// processesOf counts the processes of a user that run.
func processesOf(t *testing.T, uid int) int {
	t.Helper()
	n := 0
	stats, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), "\nUid:\t"+strconv.Itoa(uid)+"\t") && !strings.Contains(string(b), "State:\tZ") && !strings.Contains(string(b), "State:\tX") {
			n++
		}
	}
	return n
}

// The child of a killed daemon dies also after the shim, the change of user, and the loss of the first signal.
func TestParentDeathBehindTheShim(t *testing.T) {
	for _, mode := range []string{"shim", "user"} {
		t.Run(mode, func(t *testing.T) {
			if mode == "user" && os.Geteuid() != 0 {
				t.Skip("machine: the tests do not run as root, so no other user can be had")
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "LAUNCH_TEST_PARENT="+mode)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var child int
			if err := json.NewDecoder(out).Decode(&child); err != nil || unix.Kill(child, 0) != nil {
				t.Fatalf("child %d does not live: %v", child, err)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			waitGone(t, child)
		})
	}
}

// What leaves the process group of a handler is found by its environment.
func TestMarkedProcessesEnd(t *testing.T) {
	s := spawner(t)
	mark := "LAUNCH_TEST_MARK=" + strconv.Itoa(os.Getpid())
	p := shellSpec(t, s, Spec{Env: []string{"PATH=/usr/bin:/bin", mark}, Mark: mark}, "setsid sleep 600 >/dev/null 2>&1 & sleep 600")
	eventuallyMarked(t, mark, 3)
	_ = p.Signal(syscall.SIGKILL)
	ended(t, p)
	<-p.cleaned
	eventuallyMarked(t, mark, 0)
}
