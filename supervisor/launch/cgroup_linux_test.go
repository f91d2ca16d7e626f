package launch

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/internal/testutil"
)

// groups opens a control group for the test, on the first mount of version 2 where one can be made.
func groups(t *testing.T) *Cgroups {
	t.Helper()
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		base := filepath.Join(mount, "blocksd-test-"+strconv.Itoa(os.Getpid())+"-"+t.Name())
		c, err := OpenCgroups(base)
		if err != nil {
			os.Remove(base)
			continue
		}
		t.Cleanup(func() {
			c.Close()
			if err := os.Remove(base); err != nil {
				t.Errorf("the control group is not empty: %v", err)
			}
		})
		return c
	}
	t.Skip("machine: control groups of version 2 cannot be made")
	return nil
}

// A process is born in its group, and its end empties the group: also of what left the process group and its session.
func TestGroupOfProcess(t *testing.T) {
	c := groups(t)
	s, m := spawner(t), machine(t)
	m.Cgroups = c
	shims := []string{m.Shim, ""}
	if testutil.CallsForbidden() {
		shims = shims[:1] // without a shim a process can only be started inside of its group
		if _, _, errno := unix.Syscall(unix.SYS_CLONE3, 0, 0, 0); errno == unix.EINVAL {
			t.Error("there is a clone3")
		}
	}
	for _, shim := range shims {
		m.Shim = shim
		p := shellSpec(t, s, Spec{Env: []string{"PATH=/usr/bin:/bin"}, Plan: plan(t, Limits{}, m)}, "setsid sleep 600 >/dev/null 2>&1 & echo $!; cat /proc/self/cgroup; exec sleep 600")
		line := readLine(t, p.Stdout)
		escaped, _ := strconv.Atoi(line)
		for !strings.HasPrefix(line, "0::") {
			line = readLine(t, p.Stdout)
		}
		if !strings.HasSuffix(line, "/handlers/"+filepath.Base(p.group.path)) {
			t.Errorf("group %q", line)
		}
		if !p.Owns(escaped) || p.Owns(os.Getpid()) {
			t.Errorf("owns the escaped one: %v, us: %v", p.Owns(escaped), p.Owns(os.Getpid()))
		}
		_ = p.Signal(syscall.SIGKILL)
		ended(t, p)
		waitGone(t, escaped)
		<-p.cleaned
		if _, err := os.Stat(p.group.path); err == nil {
			t.Error("the group is still there")
		}
	}
}

// What an earlier daemon left is ended, and a group has one daemon at a time.
func TestGroupsAreSweptAndLocked(t *testing.T) {
	c := groups(t)
	s, m := spawner(t), machine(t)
	m.Cgroups = c
	if _, err := OpenCgroups(c.base); err == nil || err.Error() != "the control group "+c.base+" cannot be used: another daemon uses it" {
		t.Errorf("opened twice: %v", err)
	}
	p := shellSpec(t, s, Spec{Plan: plan(t, Limits{}, m)}, "exec sleep 600")
	if err := c.sweep(); err != nil {
		t.Fatal(err)
	}
	if e := ended(t, p); e.Signal != syscall.SIGKILL {
		t.Errorf("ended by %v", e)
	}
}

func TestMemoryLimit(t *testing.T) {
	c := groups(t)
	if !c.Has("memory") {
		t.Skip("machine: control groups have no memory controller")
	}
	s, m := spawner(t), machine(t)
	m.Cgroups = c
	p := shellSpec(t, s, Spec{Env: []string{"PATH=/usr/bin:/bin"}, Plan: plan(t, Limits{MemoryBytes: 32 << 20}, m)}, "exec dd if=/dev/zero of=/dev/null bs=256M count=1")
	if e := ended(t, p); !e.OutOfMemory {
		t.Errorf("ended by %v", e)
	}
}

func TestProcessLimit(t *testing.T) {
	c := groups(t)
	if !c.Has("pids") {
		t.Skip("machine: control groups have no pids controller")
	}
	s, m := spawner(t), machine(t)
	m.Cgroups = c
	p := shellSpec(t, s, Spec{Env: []string{"PATH=/usr/bin:/bin"}, Plan: plan(t, Limits{Processes: 20}, m)}, "i=0; while [ $i -lt 200 ]; do sleep 600 & i=$((i+1)); done")
	message, err := io.ReadAll(p.Stderr)
	if err != nil || !strings.Contains(strings.ToLower(string(message)), "fork") {
		t.Errorf("stderr %q, %v", message, err)
	}
	ended(t, p)
}

// Everything holds as well where the kernel's clone3 is not to be had, as under RestrictNamespaces= of systemd.
func TestWithoutClone3(t *testing.T) {
	testutil.WithoutCalls(t, unix.ENOSYS, []int{unix.SYS_CLONE3}, "TestGroupOfProcess", "TestGroupsAreSweptAndLocked", "TestMemoryLimit", "TestProcessLimit",
		"TestRlimits", "TestShimFailuresAreOneSentence", "TestGuardedFiles", "TestOtherUser", "TestForkBomb", "TestParentDeathBehindTheShim")
	for _, errno := range []syscall.Errno{unix.ENOSYS, unix.EPERM, unix.E2BIG} {
		if err := fmt.Errorf("start it: %w", errno); !lacksClone3(err) {
			t.Errorf("%v says nothing about clone3", err)
		}
	}
	if lacksClone3(nil) || lacksClone3(fmt.Errorf("start it: %w", unix.ENOENT)) {
		t.Error("a program that does not exist is taken for a missing clone3")
	}
}

// A shim that cannot enter its group says so, and nothing of the start is left.
func TestGroupThatCannotBeEntered(t *testing.T) {
	s, m := spawner(t), machine(t)
	m.Cgroups = &Cgroups{base: t.TempDir()} // not a control group: no process can be moved into it
	if err := os.MkdirAll(filepath.Join(m.Cgroups.base, handlersGroup), 0o755); err != nil {
		t.Fatal(err)
	}
	s.noBirth = true
	_, err := s.Spawn(t.Context(), Spec{Path: "/bin/true", Plan: plan(t, Limits{}, m)})
	if err == nil || !strings.HasPrefix(err.Error(), "start /bin/true: enter the control group "+m.Cgroups.base) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
}

func TestOOMKills(t *testing.T) {
	for events, want := range map[string]int64{
		"low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 1\n": 2, "low 0\noom_kill 0\n": 0, "": 0, "oom_kill x\n": 0,
	} {
		if got := oomKills(events); got != want {
			t.Errorf("%q: %d", events, got)
		}
	}
}

func TestLocate(t *testing.T) {
	const mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
	const hybrid = "31 23 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n40 23 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	for _, tt := range []struct{ groups, mounts, want, err string }{
		{"0::/system.slice/blocksd.service\n", mounts, "/sys/fs/cgroup/system.slice/blocksd.service", ""},
		{"4:memory:/x\n0::/\n", hybrid, "/sys/fs/cgroup/unified", ""},
		{"0::/a/b\n", "1 1 0:1 /a /mnt rw - cgroup2 none rw\n", "/mnt/b", ""},
		{"0::/c\n", "1 1 0:1 /a /mnt rw - cgroup2 none rw\n", "", "no control groups of version 2 are mounted"},
		{"4:memory:/x\n", mounts, "", "the kernel has no control groups of version 2"},
		{"0::/\n", "nonsense\n", "", "no control groups of version 2 are mounted"},
	} {
		got, err := locate(tt.groups, tt.mounts)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%q in %q: %q, %v", tt.groups, tt.mounts, got, err)
		}
	}
}

func TestNoGroups(t *testing.T) {
	for where, want := range map[string]string{
		"off":              "control groups are switched off",
		t.TempDir() + "/g": "cannot be used: it is not of control groups version 2",
		"/nowhere/g":       "cannot be used: no such file or directory",
	} {
		if _, err := OpenCgroups(where); err == nil || !strings.HasSuffix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", where, err)
		}
	}
}
