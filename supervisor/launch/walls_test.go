package launch

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestLevels(t *testing.T) {
	yes, no := func() string { return "" }, func() string { return "there are no namespaces" }
	const noNamespace, memory = "there are no namespaces", "the handler may signal other processes of the daemon's user, and read their memory as far as they allow it, because the kernel has no landlock"
	all := &Machine{Shim: "/shim", Landlock: 7, namespaces: yes}
	unit := &Machine{Shim: "/shim", Landlock: 2, namespaces: no}
	bare := &Machine{Shim: "/shim", NoLandlock: noLandlock, namespaces: no}
	tests := []struct {
		name     string
		machine  *Machine
		wish     Level
		own      bool
		root     bool
		level    Level
		mask, ll bool
		open     []string
	}{
		{name: "everything", machine: all, level: Namespace, mask: true, ll: true},
		{name: "a user of its own", machine: all, own: true, level: OwnUser, mask: true, ll: true},
		{name: "a user of its own, alone", machine: bare, own: true, level: OwnUser},
		{name: "landlock is enough", machine: all, wish: Landlock, level: Landlock, ll: true},
		{name: "no namespaces", machine: unit, level: Landlock, ll: true, open: []string{"the handler may signal other processes of the daemon's user because the kernel's landlock has version 2 of at least 6"}},
		{name: "no landlock", machine: &Machine{Shim: "/shim", NoLandlock: noLandlock, namespaces: yes}, level: Namespace, mask: true, open: []string{memory}},
		{name: "neither", machine: bare, level: NoWalls, open: []string{"the handler may do whatever the daemon's user may because " + noNamespace + " and the kernel has no landlock"}},
		{name: "root", machine: all, root: true, level: Namespace, mask: true, ll: true, open: []string{"the handler runs as root, which no wall holds for long: give it a user of its own"}},
		{name: "not wanted", machine: all, wish: NoWalls, level: NoWalls, open: []string{"the handler may do whatever its user may because the configuration asks for no isolation"}},
		{name: "not wanted, but a user of its own", machine: all, wish: NoWalls, own: true, level: OwnUser},
		{name: "no shim", machine: &Machine{}, level: NoWalls, open: []string{"the handler may do whatever the daemon's user may because there is no launch program"}},
	}
	for _, tt := range tests {
		w := tt.machine.wallsOf(tt.wish, tt.own, tt.root)
		want := walls{level: tt.level, open: tt.open, mask: tt.mask, landlock: tt.ll}
		if d := cmp.Diff(want, w, cmp.AllowUnexported(walls{})); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
	for _, wish := range []Level{Namespace, Landlock, OwnUser} {
		p, err := Limits{Level: wish}.Plan(bare)
		if err != nil || !strings.Contains(strings.Join(p.Skipped, ""), "its isolation would be none instead of "+string(wish)) {
			t.Errorf("%s where there is nothing: %+v, %v", wish, p, err)
		}
		if _, err := (Limits{Level: wish, Strict: true}).Plan(bare); !errors.Is(err, ErrRefused) {
			t.Errorf("%s, strict, where there is nothing: %v", wish, err)
		}
	}
	if p, err := (Limits{Level: NoWalls, Strict: true}).Plan(bare); err != nil || p.Level != NoWalls {
		t.Errorf("no walls are wished, strictly: %v", err)
	}
}

func TestOpened(t *testing.T) {
	base := realPath(t.TempDir())
	at := func(names ...string) (out []string) {
		for _, n := range names {
			out = append(out, filepath.Join(base, n))
		}
		return out
	}
	for _, dir := range at("a/state/run", "a/b", "c") {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range at("a/key", "a/other", "a/state/x") {
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("state", filepath.Join(base, "a/link")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ closed, want []string }{
		{nil, []string{base}},
		{at("a/state", "a/key"), at("a/b", "a/other", "c")},
		{at("a/state", "nowhere/at/all"), at("a/b", "a/key", "a/other", "c")},
		{at("a"), at("c")},
		{at("."), nil},
		{[]string{"/"}, nil},
	} {
		got := opened(base, tt.closed)
		slices.Sort(got)
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("without %v: %s", tt.closed, d)
		}
	}
	if d := cmp.Diff(at("a/state", "c", "gone/file"), canonical(append(at("c", "a/link/run", "a/state", "gone/file"), ""))); d != "" {
		t.Errorf("canonical: %s", d)
	}
}

// scene is a directory with what must stay closed to a handler, and what it needs.
type scene struct {
	base, state, key, private, other string
	machine                          *Machine
}

func newScene(t *testing.T) scene {
	t.Helper()
	s := scene{base: realPath(t.TempDir())}
	s.state, s.key = filepath.Join(s.base, "state"), filepath.Join(s.base, "secrets", "key")
	s.private, s.other = filepath.Join(s.state, "run", "p-1"), filepath.Join(s.state, "run", "p-2")
	for _, dir := range []string{s.private, s.other, filepath.Dir(s.key), filepath.Join(s.state, "handlers"), filepath.Join(s.base, "work")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{s.key, filepath.Join(s.state, "journal.key"), filepath.Join(s.other, "host"), filepath.Join(s.private, "mine")} {
		if err := os.WriteFile(file, []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.machine = machine(t)
	s.machine.CloseFiles([]string{s.state, s.key}, nil)
	return s
}

// eachWall runs a test behind each kind of wall that this machine has.
func eachWall(t *testing.T, test func(t *testing.T, l Limits)) {
	for _, level := range []Level{Namespace, Landlock} {
		t.Run(string(level), func(t *testing.T) {
			m := machine(t)
			if w := m.wallsOf(level, false, false); w.level != level {
				t.Skipf("machine: there is no such wall here: %v", w.open)
			}
			test(t, Limits{Level: level})
		})
	}
}

// What is closed cannot be read, written, listed or found by a way around; what a handler needs can.
func TestWalls(t *testing.T) {
	eachWall(t, func(t *testing.T, l Limits) {
		c, s := newScene(t), spawner(t)
		if err := os.Symlink(c.state, filepath.Join(c.base, "work", "link")); err != nil {
			t.Fatal(err)
		}
		spec := Spec{Plan: plan(t, l, c.machine), Private: c.private, Dir: filepath.Join(c.base, "work")}
		can := func(want bool, script string) {
			t.Helper()
			got := output(t, s, spec, "if ("+script+") >/dev/null 2>&1; then echo yes; else echo no; fi")
			if got != map[bool]string{true: "yes", false: "no"}[want] {
				t.Errorf("%s: %s", script, got)
			}
		}
		for _, closed := range []string{
			"grep secret " + c.key, "grep secret " + c.state + "/journal.key", "grep secret " + c.other + "/host", "grep secret link/journal.key",
			"ls " + c.state + "/run/p-2", "echo x >" + c.state + "/new", "echo x >" + c.state + "/journal.key", "rm " + c.state + "/journal.key",
			"mv " + c.state + " " + c.base + "/elsewhere", "ln " + c.key + " hard", "echo x >" + c.other + "/new",
			"umount " + c.state, "umount -l " + c.state, "mount -t tmpfs none " + c.base + "/work", "grep secret /proc/1/root" + c.key,
			"cat /proc/" + strconv.Itoa(os.Getpid()) + "/environ", "readlink /proc/" + strconv.Itoa(os.Getpid()) + "/fd/0", "grep secret /proc/" + strconv.Itoa(os.Getpid()) + "/root" + c.key,
			"mkdir /sys/fs/cgroup/walls-test", "mkdir /sys/fs/cgroup/unified/walls-test", "mknod " + c.base + "/work/disk b 254 0", "ulimit -Hc unlimited", "unshare -m true",
			"unshare -Urm grep secret " + c.key, "unshare -Urm sh -c 'umount " + c.state + " && grep secret " + c.state + "/journal.key'",
		} {
			can(false, closed)
		}
		for _, open := range []string{
			"grep secret " + c.private + "/mine", "echo x >" + c.private + "/new && rm " + c.private + "/new", "echo x >file && mv file file2 && rm file2",
			"mkdir -p d/e && touch d/f && mv d/f d/e/f && rm -r d", "cat /proc/self/environ /proc/meminfo /proc/cpuinfo /proc/uptime", "ls /proc /usr /etc", "cat /etc/hosts", "echo >/dev/null",
		} {
			can(true, open)
		}
		for _, file := range []string{c.key, filepath.Join(c.state, "journal.key")} {
			if b, err := os.ReadFile(file); err != nil || string(b) != "secret" {
				t.Errorf("%s is now %q, %v", file, b, err)
			}
		}
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), c.base) {
			t.Errorf("a mount has reached the host: %v", err)
		}
	})
}

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

// A program that runs from a copy in the closed directory, and a script that runs in place below it, run.
func TestWallsKeepThePrograms(t *testing.T) {
	eachWall(t, func(t *testing.T, l Limits) {
		c, s := newScene(t), spawner(t)
		copied, place := filepath.Join(c.state, "handlers", "sum"), filepath.Join(c.state, "plugins")
		if err := os.Mkdir(place, 0o755); err != nil {
			t.Fatal(err)
		}
		script := filepath.Join(place, "script")
		for file, text := range map[string]string{copied: "#!/bin/sh\necho copied", script: "#!/bin/sh\n. ${0%/*}/sibling; ls " + c.state + "/handlers 2>&1 | grep -c sum", filepath.Join(place, "sibling"): "echo sibling"} {
			if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		run := func(spec Spec) string {
			spec.Plan, spec.Private, spec.Env = plan(t, l, c.machine), c.private, []string{"PATH=/usr/bin:/bin"}
			p, err := s.Spawn(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			out, _ := io.ReadAll(p.Stdout)
			ended(t, p)
			return string(out)
		}
		if got := run(Spec{Path: copied, Argv0: "/usr/lib/blocksd/plugins/x"}); got != "copied\n" {
			t.Errorf("from a copy: %q", got)
		}
		if got := run(Spec{Path: script}); got != "sibling\n0\n" {
			t.Errorf("in place: %q", got)
		}
	})
}

// What runs a handler's language can be read although it lies in the closed directory, and not be changed: others run by it
// too. What does not exist does not keep the handler from starting.
func TestWallsLetNeededFilesBeRead(t *testing.T) {
	eachWall(t, func(t *testing.T, l Limits) {
		c, s := newScene(t), spawner(t)
		sdk := filepath.Join(c.state, "sdk", "lua")
		if err := os.MkdirAll(sdk, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sdk, "run"), []byte("run it"), 0o644); err != nil {
			t.Fatal(err)
		}
		spec := Spec{Plan: plan(t, l, c.machine), Private: c.private, Needed: []string{sdk, filepath.Join(c.state, "gone")}}
		for script, want := range map[string]string{
			"cat " + sdk + "/run":                                       "run it",
			"echo x 2>&- >" + sdk + "/run || echo no":                   "no",
			"touch " + sdk + "/new 2>&- || echo no":                     "no",
			"rm " + sdk + "/run 2>&- || echo no":                        "no",
			"cat " + c.state + "/journal.key 2>&- || echo no":           "no",
			"echo mine >" + c.private + "/x && cat " + c.private + "/x": "mine",
		} {
			if got := output(t, s, spec, script); got != want {
				t.Errorf("%s: %q, want %q", script, got, want)
			}
		}
	})
}

// Languages that look around on the machine work behind the walls.
func TestWallsAndLanguages(t *testing.T) {
	programs := map[string][]string{
		"python3": {"-c", `import os, tempfile, socket, threading, subprocess
open('/proc/meminfo').read(); open('/proc/self/status').read(); os.cpu_count(); os.sched_getaffinity(0)
f = tempfile.NamedTemporaryFile(); f.write(b'x'); f.flush()
socket.getaddrinfo('localhost', 80); threading.Thread(target=print).start()
subprocess.run(['true'], check=True); os.chown(f.name, os.getuid(), os.getgid())
print('fine')`},
		"node": {"-e", `const os = require('os'), fs = require('fs'), dns = require('dns'), path = require('path')
if (os.cpus().length === 0) throw 'no cpus'; os.uptime(); os.totalmem(); fs.readFileSync('/proc/meminfo')
const d = fs.mkdtempSync(path.join(os.tmpdir(), 'walls-')); fs.rmdirSync(d)
dns.lookup('localhost', e => { if (e) throw e; require('child_process').execFileSync('true'); console.log('fine') })`},
	}
	eachWall(t, func(t *testing.T, l Limits) {
		c, s := newScene(t), spawner(t)
		for name, args := range programs {
			path, err := exec.LookPath(name)
			if err != nil {
				t.Logf("%s is not installed", name)
				continue
			}
			p, err := s.Spawn(t.Context(), Spec{
				Path: path, Args: args, Private: c.private, Plan: plan(t, l, c.machine),
				Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + filepath.Join(c.base, "work")},
			})
			if err != nil {
				t.Fatal(err)
			}
			errs := make(chan string, 1)
			go func() { b, _ := io.ReadAll(p.Stderr); errs <- string(b) }()
			out, _ := io.ReadAll(p.Stdout)
			if exit := ended(t, p); !strings.HasSuffix(string(out), "fine\n") || exit.Code != 0 {
				t.Errorf("%s ended with %v: %s%s", name, exit, out, <-errs)
			}
			p.Close()
		}
	})
}

// A handler cannot signal another one, nor pass for a part of it.
func TestSessions(t *testing.T) {
	s, m := spawner(t), machine(t)
	victim := shell(t, s, "echo ready; exec sleep 600")
	readLine(t, victim.Stdout)
	pid := strconv.Itoa(victim.PID())
	// A session of its own: it is the leader, which can join no other group, and has no terminal.
	self := shell(t, s, "echo $$; exec sleep 600")
	readLine(t, self.Stdout)
	if sid, err := unix.Getsid(self.PID()); err != nil || sid != self.PID() {
		t.Errorf("process %d is in session %d, %v", self.PID(), sid, err)
	}
	if err := syscall.Setpgid(self.PID(), victim.PID()); err == nil {
		t.Error("it has joined the group of another handler")
	}
	if got := output(t, s, Spec{}, "echo x >/dev/tty || echo refused"); !strings.HasSuffix(got, "refused") {
		t.Errorf("the terminal: %q", got)
	}
	if m.Landlock >= landlockScopes {
		for _, l := range []Level{Landlock, Namespace} {
			if out := output(t, s, Spec{Plan: plan(t, Limits{Level: l}, m)}, "kill -9 "+pid+" || echo refused"); !strings.HasSuffix(out, "refused") {
				t.Errorf("killing a sibling behind %s: %q", l, out)
			}
		}
	}
	// Nor does it reach an abstract socket of others.
	name := fmt.Sprintf("walls-test-%d", os.Getpid())
	l, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if python, err := exec.LookPath("python3"); err == nil && m.Landlock >= landlockScopes {
		env := []string{"HOME=" + os.Getenv("HOME")}
		connect := python + ` -c 'import socket; socket.socket(socket.AF_UNIX).connect("\0` + name + `")' 2>/dev/null && echo connected || echo refused`
		for level, want := range map[Level]string{NoWalls: "connected", Landlock: "refused", Namespace: "refused"} {
			if out := output(t, s, Spec{Env: env, Plan: plan(t, Limits{Level: level}, m)}, connect); !strings.HasSuffix(out, want) {
				t.Errorf("an abstract socket behind %s: %q", level, out)
			}
		}
	}
	select {
	case <-victim.Done():
		t.Error("the victim is dead")
	default:
	}
	// A child in a session of its own belongs to the handler as long as it can be told.
	p := shell(t, s, "setsid sleep 600 & echo $!; wait")
	child, err := strconv.Atoi(strings.TrimSpace(readLine(t, p.Stdout)))
	if err != nil {
		t.Fatal(err)
	}
	if !p.Owns(child) || !p.Owns(p.PID()) || victim.Owns(child) || victim.Owns(p.PID()) || p.Owns(os.Getpid()) || p.Owns(1) {
		t.Errorf("who owns what: %v %v %v %v", p.Owns(child), victim.Owns(child), victim.Owns(p.PID()), p.Owns(os.Getpid()))
	}
	_ = syscall.Kill(child, syscall.SIGKILL)
}

// Where the temporary directory leads to what is closed, a handler gets one of its own.
func TestOwnTemp(t *testing.T) {
	m := &Machine{Shim: "/shim", Landlock: 7, Closed: []string{realPath(os.TempDir()) + "/x/state"}, namespaces: func() string { return "there are none" }}
	for _, tt := range []struct {
		machine *Machine
		limits  Limits
		want    bool
	}{
		{m, Limits{}, true},
		{m, Limits{Level: NoWalls}, false},
		{m, Limits{WritePaths: []string{os.TempDir()}}, true},
		{&Machine{Shim: "/shim", Landlock: 7, Closed: m.Closed, namespaces: func() string { return "" }}, Limits{}, false},
		{&Machine{Shim: "/shim", Landlock: 7, Closed: []string{"/var/lib/x"}, namespaces: m.namespaces}, Limits{}, false},
	} {
		p := plan(t, tt.limits, tt.machine)
		if got := p.OwnTemp(); got != tt.want {
			t.Errorf("%+v: %v", tt.limits, got)
		}
		if walled := p.walls.mask || p.walls.landlock; p.OwnHome(tt.machine.Closed[0]) != walled || p.OwnHome("/root") || p.OwnHome("") {
			t.Errorf("%+v: a home of its own where there is another, or none where it is closed", tt.limits)
		}
	}
}

func TestUsers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	open := func() *Users {
		t.Helper()
		u, err := OpenUsers(file, 61100, 61102)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := open()
	got := map[string]uint32{}
	for _, name := range []string{"a", "b", "a", "c"} {
		of, err := u.of(name)
		if err != nil || of.UID != of.GID || got[name] != 0 && got[name] != of.UID {
			t.Errorf("%s: %+v, %v", name, of, err)
		}
		got[name] = of.UID
	}
	if d := cmp.Diff(map[string]uint32{"a": 61100, "b": 61101, "c": 61102}, got); d != "" {
		t.Error(d)
	}
	if _, err := u.of("d"); err == nil || err.Error() != "all users from 61100 to 61102 are taken" {
		t.Errorf("one too many: %v", err)
	}
	if of, err := open().of("b"); err != nil || of.UID != 61101 {
		t.Errorf("after a restart: %+v, %v", of, err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenUsers(file, 61100, 61102); err == nil {
		t.Error("a damaged file was taken for an empty one")
	}
}

// A handler with a user of its own runs from a place that only root can come to, and owns nothing else.
func TestOwnUser(t *testing.T) {
	needRoot(t)
	c, s := newScene(t), spawner(t)
	users, err := OpenUsers(filepath.Join(c.base, "users"), 61100, 61110)
	if err != nil {
		t.Fatal(err)
	}
	c.machine.Users = users
	program := filepath.Join(c.state, "handlers", "sum")
	sh, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.WriteFile(program, sh, 0o555), os.Chmod(c.state, 0o700), os.Chmod(c.key, 0o644)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, level := range []Level{Auto, OwnUser} {
		p, err := (Limits{Level: level, Strict: level == OwnUser}).PlanFor(c.machine, Subject{Handler: "h", Path: program})
		if err != nil || p.Level != OwnUser || p.UID() != 61100 || !p.OwnTemp() || len(p.Open) > 0 {
			t.Fatalf("%s: %+v, %v", level, p, err)
		}
		proc, err := s.Spawn(t.Context(), Spec{
			Path: program, Plan: p, Env: []string{"PATH=/usr/bin:/bin"},
			Args: []string{"-c", "id -u; id -G; grep CapBnd /proc/self/status; cat " + c.key + " " + c.state + "/journal.key 2>/dev/null; echo x >>/etc/hosts || echo refused; touch /tmp/x-$$ && rm /tmp/x-$$ && echo tmp"},
		})
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, proc.Stderr)
		out, _ := io.ReadAll(proc.Stdout)
		ended(t, proc)
		proc.Close()
		want := "61100\n61100\nCapBnd:\t0000000000000000\nrefused\ntmp\n"
		if string(out) != want {
			t.Errorf("%s: %q", level, out)
		}
	}
	// A script among its arguments, and what is beside it, in a directory that its user may not pass.
	secluded := filepath.Join(c.base, "secluded", "project")
	for _, err := range []error{
		os.MkdirAll(secluded, 0o755), os.WriteFile(filepath.Join(secluded, "main.sh"), []byte("id -u; . "+secluded+"/lib.sh; ls "+filepath.Dir(secluded)), 0o644),
		os.WriteFile(filepath.Join(secluded, "lib.sh"), []byte("echo lib\n"), 0o644), os.WriteFile(filepath.Join(c.base, "secluded", "private"), nil, 0o644),
		os.Chmod(filepath.Dir(secluded), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if c.machine.lacksNamespaces() == "" {
		args := []string{filepath.Join(secluded, "main.sh")}
		p, err := (Limits{}).PlanFor(c.machine, Subject{Handler: "h", Path: "/bin/sh", Args: args})
		if err != nil || p.Level != OwnUser {
			t.Fatalf("a secluded script: %+v, %v", p, err)
		}
		proc, err := s.Spawn(t.Context(), Spec{Path: "/bin/sh", Args: args, Plan: p, Env: []string{"PATH=/usr/bin:/bin"}})
		if err != nil {
			t.Fatal(err)
		}
		go io.Copy(io.Discard, proc.Stderr)
		out, _ := io.ReadAll(proc.Stdout)
		ended(t, proc)
		proc.Close()
		if string(out) != "61100\nlib\nproject\n" {
			t.Errorf("a secluded script: %q", out)
		}
	}
	// What it cannot come to keeps it from having a user, and the level says so.
	script := filepath.Join(c.base, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := (Limits{}).PlanFor(c.machine, Subject{Handler: "s", Path: script})
	if err != nil || p.Level == OwnUser || p.Foreign() || !strings.Contains(strings.Join(p.Open, ""), "the handler has no user of its own because it may not use "+c.base) {
		t.Errorf("out of reach: %+v, %v", p, err)
	}
	if _, err := (Limits{Level: OwnUser, Strict: true}).PlanFor(c.machine, Subject{Handler: "s", Path: script}); !errors.Is(err, ErrRefused) {
		t.Errorf("out of reach, strictly: %v", err)
	}
}
