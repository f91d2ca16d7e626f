package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/internal/testutil"
)

const patience = 3 * time.Minute

func TestMain(m *testing.M) {
	Shim(os.Args)
	testutil.ForbidCalls()
	if os.Getenv("LAUNCH_TEST_PARENT") != "" {
		parent()
		return
	}
	if os.Getenv("LAUNCH_TEST_KEYS") != "" {
		keys()
		return
	}
	if os.Getenv("LAUNCH_TEST_SCHEDULING") != "" {
		scheduling()
		return
	}
	goleak.VerifyTestMain(m)
}

// parent is a stand-in for the daemon: it starts a sleeping child, prints its pid and waits to be killed.
func parent() {
	s := NewSpawner()
	go func() { _ = s.Run(context.Background()) }()
	spec := Spec{Path: "/bin/sleep", Args: []string{"600"}}
	if mode := os.Getenv("LAUNCH_TEST_PARENT"); mode != "plain" {
		shim, _ := os.Executable()
		l := Limits{}
		if mode == "user" {
			l.User = "54323"
		}
		spec.Plan, _ = l.Plan(Probe(shim, "off"))
	}
	p, err := s.Spawn(context.Background(), spec)
	if err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
	select {}
}

func spawner(t *testing.T) *Spawner {
	t.Helper()
	s := NewSpawner()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s
}

func shell(t *testing.T, s *Spawner, script string, env ...string) *Process {
	t.Helper()
	return shellSpec(t, s, Spec{Env: env}, script)
}

func shellSpec(t *testing.T, s *Spawner, spec Spec, script string) *Process {
	t.Helper()
	spec.Path, spec.Args = "/bin/sh", []string{"-c", script}
	p, err := s.Spawn(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Signal(syscall.SIGKILL)
		<-p.Done()
		p.Close()
	})
	return p
}

// readLine reads without taking more than the line.
func readLine(t *testing.T, r io.Reader) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if _, err := io.ReadFull(r, b); err != nil {
			t.Fatalf("after %q: %v", line, err)
		}
		if b[0] == '\n' {
			return string(line)
		}
	}
}

// eventuallyMarked polls until so many running processes carry a mark.
func eventuallyMarked(t *testing.T, mark string, want int) {
	t.Helper()
	testutil.Eventually(t, patience, fmt.Sprintf("%d processes carry the mark", want), func() bool {
		n := 0
		paths, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, path := range paths {
			if env, err := os.ReadFile(path); err == nil && marked(env, mark) {
				n++
			}
		}
		return n == want
	})
}

func ended(t *testing.T, p *Process) Exit {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("process did not end")
	}
	return p.Exit()
}

func TestExits(t *testing.T) {
	s := spawner(t)
	if d := cmp.Diff(Exit{Code: 3}, ended(t, shell(t, s, "exit 3"))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Exit{Code: -1, Signal: syscall.SIGKILL}, ended(t, shell(t, s, "kill -9 $$"))); d != "" {
		t.Error(d)
	}
}

func TestStdinIsEmptyAndEnvironmentIsExact(t *testing.T) {
	s := spawner(t)
	p := shell(t, s, "cat; env; pwd; exit 0", "PATH=/usr/bin:/bin", "A=1")
	out, err := io.ReadAll(p.Stdout)
	if err != nil {
		t.Fatal(err)
	}
	got := string(out)
	if !strings.Contains(got, "A=1\n") || strings.Contains(got, "HOME=") || !strings.HasSuffix(got, "\n/\n") {
		t.Errorf("output %q", got)
	}
}

func TestStartOfNothingIsOneSentence(t *testing.T) {
	s := spawner(t)
	_, err := s.Spawn(t.Context(), Spec{Path: "/nowhere/handler"})
	if err == nil || err.Error() != "start /nowhere/handler: no such file or directory" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// A grandchild that holds the pipes neither delays Done nor survives it.
func TestGroupDiesWithItsLeader(t *testing.T) {
	s := spawner(t)
	p := shell(t, s, "/bin/sleep 600 & echo $!; exit 0", "PATH=/usr/bin:/bin")
	line, err := bufio.NewReader(p.Stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	grandchild, _ := strconv.Atoi(strings.TrimSpace(line))
	ended(t, p)
	waitGone(t, grandchild)
	if _, err := io.ReadAll(p.Stderr); err != nil {
		t.Errorf("stderr did not end: %v", err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal after the end: %v", err)
	}
	if p.Owns(os.Getpid()) || p.Owns(0) {
		t.Error("owns a stranger")
	}
}

// The children die when the process that runs the spawner is killed.
func TestParentDeath(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LAUNCH_TEST_PARENT=plain")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, _ := strconv.Atoi(strings.TrimSpace(line))
	if child <= 0 || unix.Kill(child, 0) != nil {
		t.Fatalf("child %q does not live", line)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	waitGone(t, child)
}

// waitGone polls, because a process learns of the end of its children only.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	testutil.Eventually(t, patience, fmt.Sprintf("process %d ends", pid), func() bool { return !testutil.Alive(pid) })
}

func TestSpawnAfterStop(t *testing.T) {
	s := NewSpawner()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Run(ctx)
	if _, err := s.Spawn(t.Context(), Spec{Path: "/bin/true"}); !errors.Is(err, ErrStopped) {
		t.Errorf("error %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	daemon := []string{"PATH=/bin", "HOME=/root", "BLOCKS_API_KEY=secret", "BLOCKSD_SOCKET=/x", "MODEL=m", "OTHER=o", "LANG=C", "CREDENTIALS_DIRECTORY=/c"}
	got := Environment(daemon, []string{"MODEL", "BLOCKS_API_KEY", "BLOCKSD_SOCKET"})
	if d := cmp.Diff([]string{"PATH=/bin", "HOME=/root", "MODEL=m", "LANG=C"}, got); d != "" {
		t.Error(d)
	}
}

func TestMerge(t *testing.T) {
	given := []string{"PATH=/bin", "A=1"}
	if d := cmp.Diff([]string{"PATH=/bin", "A=1", "AB=3"}, Merge(given, []string{"A=2", "AB=3", "PATH=/evil", "AB=4"})); d != "" {
		t.Error(d)
	}
	if len(given) != 2 {
		t.Error("what was given has changed")
	}
}

func TestSocketDirs(t *testing.T) {
	temp, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	base := filepath.Join(temp, "run")
	for _, dir := range []string{"p-1", "keep"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d, err := OpenSocketDirs(base, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := d.New()
	if err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]fs.FileMode{base: 0o700, dir: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
	left, _ := filepath.Glob(base + "/*")
	if len(left) != 2 { // keep and the new one
		t.Errorf("left: %v", left)
	}

	long := filepath.Join(temp, strings.Repeat("x", 100))
	d, err = OpenSocketDirs(long, temp, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.Base(), temp+"/blocksd-") {
		t.Errorf("fallback is %s", d.Base())
	}
	// the next daemon finds the same directory and sweeps it, unless it could be somebody else's
	if _, err := d.New(); err != nil {
		t.Fatal(err)
	}
	again, err := OpenSocketDirs(long, temp, nil)
	if err != nil || again.Base() != d.Base() {
		t.Fatalf("the next fallback is %v, %v", again, err)
	}
	if left, _ := filepath.Glob(d.Base() + "/*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if err := os.Chmod(d.Base(), 0o755); err != nil {
		t.Fatal(err)
	}
	other, err := OpenSocketDirs(long, temp, nil)
	if err != nil || other.Base() == d.Base() {
		t.Errorf("a directory that is open to others was taken: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err = OpenSocketDirs(long, long, nil); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "shorter runtime directory") {
		t.Errorf("error %v", err)
	}
}
