package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/launch"
)

// Whatever a handler does, another one's tasks are served without a failure, and afterwards the daemon holds no more
// goroutines, descriptors and memory than before.

// bystander gives tasks to echo, one after the other, until it is stopped.
type bystander struct {
	served, failed atomic.Int64
	stop           context.CancelFunc
	done           chan struct{}
}

func watchEcho(t *testing.T, f *Fleet) *bystander {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &bystander{stop: cancel, done: make(chan struct{})}
	t.Cleanup(func() { cancel(); <-b.done }) // of a test that fails too
	go func() {
		defer close(b.done)
		// With pauses, so that it does not take the time of the processors from what is tested.
		pause := time.NewTicker(2 * time.Millisecond)
		defer pause.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-pause.C
			// Not with ctx: the last task ends by itself.
			if err := give(context.Background(), f, "echo", request(fmt.Sprintf("bystander-%d", i), "hi"), newPort()); err != nil {
				b.failed.Add(1)
				t.Errorf("echo failed meanwhile: %v", err)
				return
			}
			b.served.Add(1)
		}
	}()
	return b
}

func (b *bystander) end(t *testing.T) {
	t.Helper()
	before := b.served.Load()
	eventually(t, "echo goes on", func() bool { return b.served.Load() >= before+2 || b.failed.Load() > 0 })
	b.stop()
	<-b.done
}

// restart replaces the process of a handler.
func restart(t *testing.T, f *Fleet, handler string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.Restart(ctx, handler); err != nil {
		t.Fatal(err)
	}
}

// holdings are what the daemon holds.
type holdings struct {
	goroutines, files int
	heap              uint64
}

func hold() holdings {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, _ := os.ReadDir("/proc/self/fd")
	return holdings{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}

// slack of heap is for what is kept on purpose: lines for those who ask, buffers in pools.
const slack = 24 << 20

func backTo(t *testing.T, base holdings) {
	t.Helper()
	var now holdings
	defer func() {
		if t.Failed() {
			t.Logf("base %+v, now %+v", base, now)
		}
	}()
	eventually(t, "goroutines, descriptors and memory are back to base", func() bool {
		now = hold()
		return now.goroutines <= base.goroutines && now.files <= base.files && now.heap <= base.heap+slack
	})
}

func testShim(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// impatient timeouts notice quickly what does not answer. They are not for echo, which may stand still on a busy machine.
var impatient = Timeouts{Health: 2 * time.Second, HealthInterval: 100 * time.Millisecond, LetGo: 100 * time.Millisecond, Stop: time.Second}

func TestFaultsInTasks(t *testing.T) {
	limits := launch.Limits{Files: 200, MemoryBytes: 512 << 20}
	config := []HandlerConfig{
		{Name: "echo", Path: plugins.Path(t, "echo"), Timeouts: patient},
		{Name: "badhandler", Path: plugins.Path(t, "badhandler"), Limits: limits},
		{Name: "badhandler-minimal", Path: plugins.Alias(t, "badhandler", "badhandler-minimal"), Limits: limits},
	}
	f := fleet(t, Config{Handlers: config, Timeouts: impatient, Shim: testShim(t), Jitter: func() float64 { return 0 }, MaxArtifactBytes: 16 << 20})
	for _, c := range config {
		become(t, f, c.Name, dispatch.Available)
	}
	const succeeds = dispatch.FailureKind(0)
	tests := []struct {
		handler, task string
		want          dispatch.FailureKind
		canceled      bool // the daemon ends the call once it runs
		alone         bool // the process does not survive
	}{
		{task: "stderr-bad-json"},
		{task: "stop", want: dispatch.HandlerCrash, alone: true},
		{task: "grandchild"},
		{task: "grandchild setsid"},
		{task: "long-line"},
		{task: "flood 50000"},
		{task: "status-flood 50000"},
		{task: "exit 0", want: dispatch.HandlerCrash, alone: true},
		{task: "exit 1", want: dispatch.HandlerCrash, alone: true},
		{task: "kill", want: dispatch.HandlerCrash, alone: true},
		{task: "crash", want: dispatch.HandlerCrash, alone: true},
		{task: "hog 4096", want: dispatch.HandlerCrash, alone: true},
		{task: "leak-files 100000"},
		{task: "ignore-cancel", want: dispatch.CallEnded, canceled: true, alone: true},
		{task: "giant 16", want: dispatch.HandlerError},
		{task: "host task=bystander-1"},
		{task: "host token=guessed"},
		{task: "no-result", want: dispatch.HandlerSilent},
		{task: "close-socket", want: dispatch.HandlerCrash, alone: true},
		{handler: "badhandler-minimal", task: "after-result"},
		{handler: "badhandler-minimal", task: "mixed", want: dispatch.HandlerError},
		{handler: "badhandler-minimal", task: "hang", want: dispatch.CallEnded, canceled: true}, // it knows no CancelTask and no controller
	}
	for i, tt := range tests {
		if tt.handler == "" {
			tt.handler = "badhandler"
		}
		t.Run(tt.handler+"/"+strings.ReplaceAll(tt.task, " ", "_"), func(t *testing.T) {
			// From a fresh process, so that nothing of the fault before is left, not even its back-off.
			restart(t, f, tt.handler)
			become(t, f, tt.handler, dispatch.Available)
			allReady(t, f, len(config))
			base := hold()
			b := watchEcho(t, f)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			p := newPort()
			result := make(chan error, 1)
			go func() { result <- give(ctx, f, tt.handler, request(fmt.Sprintf("fault-%d", i), tt.task), p) }()
			if tt.canceled {
				eventually(t, "the task runs", func() bool { return processOf(f, tt.handler).Running == 1 })
				cancel()
			}
			var err error
			select {
			case err = <-result:
			case <-time.After(patience):
				t.Fatal("the task does not end")
			}
			var failure *dispatch.TaskFailure
			switch {
			case tt.want == succeeds && err != nil:
				t.Errorf("the task failed: %v", err)
			case tt.want != succeeds && (!errors.As(err, &failure) || failure.Kind != tt.want):
				t.Errorf("the task ended with %v", err)
			}
			b.end(t)
			become(t, f, tt.handler, dispatch.Available)
			restart(t, f, tt.handler) // what it holds goes with it
			allReady(t, f, len(config))
			if strings.HasPrefix(tt.task, "host") && !strings.HasPrefix(p.artifacts[0], "PermissionDenied") && !strings.HasPrefix(p.artifacts[0], "NotFound") {
				t.Errorf("the host service answered %s", p.artifacts[0])
			}
			if strings.HasPrefix(tt.task, "grandchild") { // nor what it started
				pid, _ := strconv.Atoi(p.artifacts[0])
				waitGone(t, pid)
			}
			backTo(t, base)
		})
	}
}

// allReady waits until each handler has one process and nothing is being replaced.
func allReady(t *testing.T, f *Fleet, n int) {
	t.Helper()
	eventually(t, "each handler has one process", func() bool {
		ready := 0
		for _, s := range f.Status() {
			if s.State != "ready" || len(s.Processes) != 1 || s.Processes[0].State != "ready" {
				return false
			}
			ready++
		}
		return ready == n
	})
}

func processOf(f *Fleet, handler string) ProcessStatus {
	for _, s := range f.Status() {
		if s.Name == handler && len(s.Processes) == 1 {
			return s.Processes[0]
		}
	}
	return ProcessStatus{}
}

func TestFaultsAtTheStart(t *testing.T) {
	echo := HandlerConfig{Name: "echo", Path: plugins.Path(t, "echo"), Timeouts: patient}
	quick := impatient
	quick.Handshake, quick.Describe = 3*time.Second, 3*time.Second
	f := fleet(t, Config{Handlers: []HandlerConfig{echo}, Timeouts: quick, Shim: testShim(t)})
	become(t, f, "echo", dispatch.Available)
	for _, fault := range []string{
		"never-answers", "not-a-plugin", "chatty", "exit-at-start", "exit0-at-start", "kill-at-start", "exit0-at-handshake", "exit1-at-handshake",
		"kill-at-handshake", "exit0-at-describe", "exit1-at-describe", "kill-at-describe", "hang-at-describe", "wrong-version", "wrong-cookie", "tcp",
		"elsewhere", "no-socket", "deaf", "long-first-line", "flood-at-start", "fork-at-start", "unasked-certificate",
	} {
		t.Run(fault, func(t *testing.T) {
			name := "badhandler-" + fault
			bad := HandlerConfig{Name: name, Path: plugins.Alias(t, "badhandler", name)}
			allReady(t, f, 1)
			base := hold()
			b := watchEcho(t, f)
			if err := f.Apply([]HandlerConfig{echo, bad}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "its failure is known", func() bool {
				for _, s := range f.Status() {
					if s.Name == name && s.Crash != nil {
						if strings.Contains(s.Crash.Text, "\n") || !strings.HasPrefix(s.Crash.Text, "handler "+name+" could not be started because ") {
							t.Fatalf("not one sentence: %q", s.Crash.Text)
						}
						return true
					}
				}
				return false
			})
			if err := f.Apply([]HandlerConfig{echo}); err != nil {
				t.Fatal(err)
			}
			b.end(t)
			eventually(t, "the bad handler is forgotten", func() bool { return len(f.Status()) == 1 })
			backTo(t, base)
		})
	}
}

// A fork bomb takes as many processes as its handler may have, and echo goes on.
func TestForkBombBesideEcho(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	const limit = 60
	// A user of each run's own: the dead of an earlier one may wait long for the machine's init, and count until then.
	user := strconv.Itoa(60_000 + int(time.Now().UnixNano()%1_000_000))
	if err := os.Chmod(plugins.Dir(t), 0o755); err != nil {
		t.Fatal(err)
	}
	config := []HandlerConfig{
		{Name: "echo", Path: plugins.Path(t, "echo"), Timeouts: patient},
		{Name: "badhandler", Path: plugins.Path(t, "badhandler"), Limits: launch.Limits{User: user, Processes: limit}},
	}
	f := fleet(t, Config{Handlers: config, Timeouts: impatient, Shim: testShim(t)})
	become(t, f, "echo", dispatch.Available)
	become(t, f, "badhandler", dispatch.Available)
	allReady(t, f, 2)
	base := hold()
	b := watchEcho(t, f)
	p := newPort()
	err := give(t.Context(), f, "badhandler", request("bomb", "fork 1000"), p)
	if err == nil { // it may as well have died of it
		if n, _ := strconv.Atoi(p.artifacts[0]); n == 0 || n > limit {
			t.Errorf("%s children", p.artifacts[0])
		}
	}
	b.end(t)
	// A replacement beside it finds no room: without control groups the limit is the user's.
	if pid := processOf(f, "badhandler").PID; pid > 0 { // 0 would be this process and its group
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	waitGone(t, p.pid)
	allReady(t, f, 2)
	backTo(t, base)
	if skipped := f.Status()[1].Skipped; len(skipped) != 1 || !strings.Contains(skipped[0], "RLIMIT_NPROC") {
		t.Errorf("skipped %q", skipped)
	}
}

// The crash record has the panic and the last lines, and does not lack what was written at the very end.
func TestCrashRecord(t *testing.T) {
	f := fleet(t, Config{Timeouts: Timeouts{ExitDrain: patience}, Jitter: func() float64 { return 1 }}, "badhandler")
	become(t, f, "badhandler", dispatch.Available)
	_ = give(t.Context(), f, "badhandler", request("t", "crash"), newPort())
	var s HandlerStatus
	eventually(t, "there is a crash record", func() bool { s = f.Status()[0]; return s.Crash != nil })
	c := s.Crash
	if c.Reason != "exit_code" || c.PID == 0 || c.Text != "handler badhandler went down because it ended with exit code 2" ||
		len(c.Panic) < 2 || c.Panic[0] != "panic: the whole process goes down" || len(c.Lines) < 2 || c.Lines[0] != c.Panic[0] {
		t.Errorf("crash %+v", c)
	}
}

// What a killed daemon leaves, processes that left their group among it, is swept by the next one.
func TestSweepAfterKill(t *testing.T) {
	base, err := os.MkdirTemp("", "sweep")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	run := filepath.Join(base, "run")
	left := filepath.Join(run, "p-1")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "host"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := launch.NewSpawner()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	orphan, err := s.Spawn(ctx, launch.Spec{Path: "/bin/sleep", Args: []string{"600"}, Env: []string{handlerv1.HostSocketVariable + "=" + filepath.Join(left, "host")}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = orphan.Signal(syscall.SIGKILL); <-orphan.Done(); orphan.Close() }()
	dirs, err := launch.OpenSocketDirs(run, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dirs.Close()
	select {
	case <-orphan.Done():
	case <-time.After(patience):
		t.Error("a process of the killed daemon lives on")
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("the old sockets are still there")
	}
}
