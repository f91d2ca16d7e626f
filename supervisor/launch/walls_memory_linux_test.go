package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A limit can kill like a signal, and may be set to any process of the same user.
func TestLimitsOfOthers(t *testing.T) {
	s, m := spawner(t), machine(t)
	victim := shell(t, s, "echo ready; exec sleep 600")
	readLine(t, victim.Stdout)
	set := fmt.Sprintf("prlimit --pid %d --nofile=90:90 2>/dev/null && echo set || echo refused", victim.PID())
	own := "; ulimit -n 80 && prlimit --nofile=70:70 true && prlimit --pid $$ --nofile >/dev/null && echo mine"
	for _, level := range []Level{Landlock, Namespace} {
		if w := m.wallsOf(level, false, false); w.level != level {
			t.Logf("there is no %s here: %v", level, w.open)
			continue
		}
		if out := output(t, s, Spec{Plan: plan(t, Limits{Level: level}, m)}, set+own); out != "refused\nmine" {
			t.Errorf("limits of a sibling behind %s: %q", level, out)
		}
	}
	if out := output(t, s, Spec{}, set); out != "set" {
		t.Errorf("without walls: %q", out)
	}
}

// Where a handler has its own view of the files, it also has memory, queues and semaphores of its own, which end with it.
func TestWallsAroundMemory(t *testing.T) {
	m := machine(t)
	if why := m.lacksNamespaces(); why != "" {
		t.Skipf("machine: there is no such wall here: %v", []string{why})
	}
	ours, err := os.Readlink("/proc/self/ns/ipc")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(sharedMemory, fmt.Sprintf("walls-test-%d", os.Getpid()))
	t.Cleanup(func() { os.Remove(file) })
	s, c := spawner(t), newScene(t)
	out := output(t, s, Spec{Plan: plan(t, Limits{Level: Namespace}, c.machine), Private: c.private}, "readlink /proc/self/ns/ipc; echo x >"+file+" && ls "+sharedMemory)
	if its, files, _ := strings.Cut(out, "\n"); its == ours || !strings.HasPrefix(its, "ipc:") || files != filepath.Base(file) {
		t.Errorf("it has %q, we have %s", out, ours)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("what it has written is there for everybody")
	}
	// Unless something that it needs is there.
	t.Setenv("TMPDIR", sharedMemory)
	if out := output(t, s, Spec{Plan: plan(t, Limits{Level: Namespace}, c.machine), Private: c.private}, "echo x >"+file); out != "" {
		t.Error(out)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("a temporary directory in memory is not the machine's: %v", err)
	}
}

// An API key that comes through a descriptor of the daemon, as <(…) of a shell gives it, keeps no handler from starting.
func TestWallsAndDescriptors(t *testing.T) {
	eachWall(t, func(t *testing.T, l Limits) {
		c, s := newScene(t), spawner(t)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		key, err := os.Open(c.key)
		if err != nil {
			t.Fatal(err)
		}
		defer key.Close()
		fd := func(f *os.File) string { return "/dev/fd/" + strconv.Itoa(int(f.Fd())) }
		c.machine.CloseFiles([]string{c.state, fd(r), fd(key)}, nil)
		spec := Spec{Plan: plan(t, l, c.machine), Private: c.private}
		if got := output(t, s, spec, "cat "+c.key+" 2>&- || echo no"); got != "no" {
			t.Errorf("the file behind a descriptor: %q", got)
		}
	})
}

// A handler cannot start so many processes that its daemon can start none: it would end without a thread that it needs.
func TestDaemonKeepsSomeProcesses(t *testing.T) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &own); err != nil {
		t.Fatal(err)
	}
	m := machine(t)
	most := func(l Limits) uint64 {
		t.Helper()
		out := output(t, spawner(t), Spec{Plan: plan(t, l, m)}, "grep 'Max processes' /proc/self/limits")
		fields := strings.Fields(strings.TrimPrefix(out, "Max processes"))
		n, err := strconv.ParseUint(fields[1], 10, 64) // the hard one, which it cannot raise
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		return n
	}
	if n := most(Limits{}); n > allButSome(own.Cur) || n < 100 {
		t.Errorf("a handler may have %d processes of %d", n, own.Cur)
	}
	if n := most(Limits{User: "54323", Processes: 50}); os.Geteuid() == 0 && n != 50 {
		t.Errorf("one with a limit may have %d", n)
	}
}
