//go:build linux

package launcher

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

const (
	first, last = 60600, 60699
	named       = 54321 // a user that root's configuration names
	patience    = 3 * time.Minute
)

func TestMain(m *testing.M) {
	launch.Shim(os.Args)
	unix.Umask(0o007)
	if dir := os.Getenv("LAUNCHER_TEST_DIR"); dir != "" { // a launcher of its own, to be killed
		s, err := newServer(dir)
		if err == nil {
			err = s.Run(context.Background())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if socket := os.Getenv("LAUNCHER_TEST_STRANGER"); socket != "" {
		stranger(socket)
		return
	}
	goleak.VerifyTestMain(m)
}

// newServer makes a launcher below a directory.
func newServer(dir string) (*Server, error) {
	dirs := filepath.Join(dir, "dirs")
	if err := os.Mkdir(dirs, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := errors.Join(os.Chown(dirs, os.Geteuid(), os.Getegid()), unix.Chmod(dirs, 0o3771), os.RemoveAll(filepath.Join(dir, "s"))); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix(wire.Network, &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: wire.Network})
	if err != nil {
		return nil, err
	}
	shim, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return New(Config{
		Listener: l, Shim: shim, Dirs: dirs, First: first, Last: last, Ungrouped: true, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Named: func(uid, gid uint32) bool { return uid == named && gid == named },
		Peer: func(pid int, uid uint32) error {
			if pid != os.Getpid() && pid != os.Getppid() || uid != 0 {
				return errors.New("it is a stranger")
			}
			return nil
		},
	})
}

// base is a directory that handlers can pass.
func base(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// serve runs a launcher in this process.
func serve(t testing.TB) (dir string) {
	t.Helper()
	dir = base(t)
	s, err := newServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	run(t, s)
	return dir
}

func run(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// ground is a daemon without rights that has a launcher.
type ground struct {
	*launch.Spawner
	machine *launch.Machine
	dirs    *launch.SocketDirs
}

func daemon(t testing.TB, dir string) *ground {
	t.Helper()
	shim, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g := &ground{Spawner: launch.NewSpawner(), machine: launch.Probe(shim, "off")}
	g.machine.Privileged = false
	if g.machine.Launcher, err = launch.ConnectLauncher(filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.machine.Close)
	if g.dirs, err = launch.OpenSocketDirs(filepath.Join(dir, "run"), "", nil); err != nil {
		t.Fatal(err)
	}
	return g
}

// spec is a script that runs as a user.
func (g *ground) spec(t *testing.T, user int, script string) launch.Spec {
	t.Helper()
	plan, err := launch.Limits{User: strconv.Itoa(user), Files: 100}.Plan(g.machine)
	if err != nil || !plan.Launched() {
		t.Fatalf("plan %+v, %v", plan, err)
	}
	return launch.Spec{Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=/usr/bin:/bin", "SECRET=\xff"}, Plan: plan}
}

func (g *ground) start(t *testing.T, spec launch.Spec) *launch.Process {
	t.Helper()
	p, err := g.Spawn(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Signal(syscall.SIGKILL)
		ended(t, p)
		p.Close()
	})
	return p
}

func ended(t *testing.T, p *launch.Process) launch.Exit {
	t.Helper()
	select {
	case <-p.Done():
		return p.Exit()
	case <-time.After(patience):
		t.Fatal("the process does not end")
	}
	return launch.Exit{}
}

func output(t *testing.T, p *launch.Process) string {
	t.Helper()
	b, err := io.ReadAll(p.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// gone waits until a process is no more, and does not merely wait to be buried.
func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); unix.Kill(pid, 0) == nil; time.Sleep(5 * time.Millisecond) {
		if b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); strings.Contains(string(b), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d goes on", pid)
		}
	}
}

func TestAHandlerHasItsUserAndNoRights(t *testing.T) {
	g := daemon(t, serve(t))
	p := g.start(t, g.spec(t, first+3, `id -u; id -g; id -G; umask; ulimit -n; ulimit -c; readlink /proc/$$/fd/0; printf '%s' "$SECRET" | od -An -tx1; pwd
		grep -E '^(NoNewPrivs|CapInh|CapPrm|CapEff|CapBnd|CapAmb|Groups):' /proc/self/status; exit 7`))
	got := strings.ReplaceAll(output(t, p), " ", "")
	const none = "0000000000000000"
	want := "60603\n60603\n60603\n0007\n100\n0\n/dev/null\nff\n/\nGroups:\nCapInh:" + none + "\nCapPrm:" + none + "\nCapEff:" + none + "\nCapBnd:" + none + "\nCapAmb:" + none + "\nNoNewPrivs:1\n"
	if got = strings.ReplaceAll(got, "\t", ""); got != want {
		t.Errorf("the handler sees\n%s\nwant\n%s", got, want)
	}
	if exit := ended(t, p); exit.Code != 7 || exit.Signal != 0 {
		t.Errorf("it ended with %v", exit)
	}
}

func TestAHandlerInheritsNoDescriptors(t *testing.T) {
	g := daemon(t, serve(t))
	p := g.start(t, g.spec(t, first, "echo on; read nothing; exec sleep 600"))
	if line, err := bufio.NewReader(p.Stdout).ReadString('\n'); err != nil || line != "on\n" {
		t.Fatal(line, err)
	}
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(p.PID()) + "/fd")
	if err != nil || len(entries) != 3 {
		t.Errorf("it has %v, %v", entries, err)
	}
}

func TestSignals(t *testing.T) {
	g := daemon(t, serve(t))
	p := g.start(t, g.spec(t, first, `trap 'echo heard; exit 3' TERM; echo ready; sleep 600 & wait`))
	out := bufio.NewReader(p.Stdout)
	if line, err := out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatal(line, err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if line, err := out.ReadString('\n'); err != nil || line != "heard\n" {
		t.Error(line, err)
	}
	if exit := ended(t, p); exit.Code != 3 {
		t.Errorf("it ended with %v", exit)
	}
	p = g.start(t, g.spec(t, first, `exec sleep 600`))
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := ended(t, p); exit.Signal != syscall.SIGKILL {
		t.Errorf("it ended with %v", exit)
	}
}

func TestOtherUsersAreRefused(t *testing.T) {
	g := daemon(t, serve(t))
	if p := g.start(t, g.spec(t, named, "exit 0")); ended(t, p).Code != 0 {
		t.Error("the user that root has named is not had")
	}
	for _, user := range []int{1, first - 1, last + 1, 1234} {
		_, err := g.Spawn(t.Context(), g.spec(t, user, "exit 0"))
		if err == nil || !strings.Contains(err.Error(), "the launcher starts handlers only as users from 60600 to 60699") {
			t.Errorf("user %d: %v", user, err)
		}
	}
	// The connection lives.
	if p := g.start(t, g.spec(t, last, "exit 5")); ended(t, p).Code != 5 {
		t.Error("nothing is started any more")
	}
}

func TestWhatIsNotThereIsOneSentence(t *testing.T) {
	g := daemon(t, serve(t))
	spec := g.spec(t, first, "exit 0")
	spec.Path = "/does/not/exist"
	if _, err := g.Spawn(t.Context(), spec); err == nil || err.Error() != "start /does/not/exist: no such file or directory" {
		t.Errorf("no program: %v", err)
	}
	spec = g.spec(t, first, "exit 0")
	spec.Dir = "/root/none"
	if _, err := g.Spawn(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "start /bin/sh: enter /root/none: ") {
		t.Errorf("no directory: %v", err)
	}
}

// What the daemon has opened is what runs: it need not be where the handler's user can come to, and nothing can take its place.
func TestTheOpenProgramIsExecuted(t *testing.T) {
	dir := serve(t)
	g := daemon(t, dir)
	store := filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	spec := g.spec(t, first, "echo binary")
	spec.Path, spec.Argv0 = filepath.Join(store, "program"), "name"
	if err := errors.Join(os.WriteFile(spec.Path, b, 0o700), os.Chmod(spec.Path, 0o555)); err != nil {
		t.Fatal(err)
	}
	if out := output(t, g.start(t, spec)); out != "binary\n" {
		t.Errorf("a program: %q", out)
	}
	spec.Path, spec.Args = filepath.Join(store, "script"), []string{"argument"}
	if err := errors.Join(os.WriteFile(spec.Path, []byte("#!/bin/sh\necho script $1\n"), 0o700), os.Chmod(spec.Path, 0o555)); err != nil {
		t.Fatal(err)
	}
	if out := output(t, g.start(t, spec)); out != "script argument\n" {
		t.Errorf("a script: %q", out)
	}
}

func TestPrivateDirectories(t *testing.T) {
	dir := serve(t)
	g := daemon(t, dir)
	spec := g.spec(t, first+1, `cd "$0" && touch made tmp/own && mkdir -p closed/in && touch closed/in/x && chmod 0 closed && stat -c '%a %u %g' . tmp made`)
	private, err := g.dirs.NewFor(spec.Plan)
	if err != nil {
		t.Fatal(err)
	}
	spec.Args = append(spec.Args, private)
	group := strconv.Itoa(os.Getegid())
	want := "2770 60601 " + group + "\n2700 60601 " + group + "\n660 60601 " + group + "\n"
	p := g.start(t, spec)
	if got := output(t, p); got != want {
		t.Errorf("the directory looks like\n%s\nwant\n%s", got, want)
	}
	other := g.spec(t, first+2, `ls "$0" || ls "$(dirname "$0")" || echo closed`)
	other.Args = append(other.Args, private)
	if got := output(t, g.start(t, other)); got != "closed\n" {
		t.Errorf("another user sees %q", got)
	}
	ended(t, p)
	g.dirs.Remove(spec.Plan, private)
	removed(t, private)
	if entries, err := os.ReadDir(filepath.Join(dir, "dirs")); err != nil || len(entries) != 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

// removed waits until a directory is no more: the launcher removes it, and the daemon waits for that a moment only.
func removed(t *testing.T, dir string) {
	t.Helper()
	testutil.Eventually(t, patience, dir+" is removed", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// Handlers start, are signaled and end at the same time; the launcher takes requests in their order only.
func TestManyAtOnce(t *testing.T) {
	g := daemon(t, serve(t))
	var all sync.WaitGroup
	var dirs sync.Map
	for i := range 24 {
		all.Go(func() {
			spec := g.spec(t, first+i, "trap 'exit 3' TERM; sleep 600 & wait")
			dir, err := g.dirs.NewFor(spec.Plan)
			if err != nil {
				t.Error(err)
				return
			}
			p, err := g.Spawn(t.Context(), spec)
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				_ = p.Signal(syscall.SIGCONT)
			}
			_ = p.Signal(syscall.SIGKILL)
			select {
			case <-p.Done():
			case <-time.After(patience):
				t.Error("a process does not end")
			}
			p.Close()
			g.dirs.Remove(spec.Plan, dir)
			dirs.Store(dir, nil)
		})
	}
	all.Wait()
	dirs.Range(func(dir, _ any) bool {
		removed(t, dir.(string))
		return true
	})
}

// What is not of this connection is not removed, and nothing ends.
func TestDirectoriesOfOthersStay(t *testing.T) {
	dir := serve(t)
	kept := filepath.Join(dir, "kept")
	if err := os.Mkdir(kept, 0o777); err != nil {
		t.Fatal(err)
	}
	g := daemon(t, dir)
	plan := g.spec(t, first, "").Plan
	g.dirs.Remove(plan, kept)
	if _, err := os.Stat(kept); err != nil {
		t.Error(err)
	}
	if ended(t, g.start(t, g.spec(t, first, "exit 5"))).Code != 5 {
		t.Error("nothing is started any more")
	}
}
