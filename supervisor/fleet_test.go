package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/unit"
)

func TestTasksAndStatus(t *testing.T) {
	var mu sync.Mutex
	described := map[string][]string{}
	f := fleet(t, Config{OnCards: func(h string, cards []card.Card) {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range cards {
			described[h] = append(described[h], c.AgentName)
		}
	}}, "echo", "sleeper")
	become(t, f, "echo", dispatch.Available)
	become(t, f, "sleeper", dispatch.Available)
	mu.Lock()
	if d := cmp.Diff(map[string][]string{"echo": {"echo"}, "sleeper": {"sleeper"}}, described); d != "" {
		t.Errorf("cards: %s", d)
	}
	mu.Unlock()

	p := newPort()
	if err := give(t.Context(), f, "echo", request("t1", "hi"), p); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"Echoed request: hi"}, p.artifacts); d != "" {
		t.Error(d)
	}
	_, result := begin(t, f, context.Background(), "sleeper", "t2", "10m")
	if twice := failure(t, give(t.Context(), f, "sleeper", request("t2", "1ms"), newPort())); twice.Kind != dispatch.NoProcess {
		t.Errorf("the same task again: %+v", twice)
	}
	s := f.Status()[1]
	if s.Name != "sleeper" || s.State != "ready" || s.Reason != "" || len(s.SHA256) != 64 || s.Generation != 1 || s.Restarts != 0 || len(s.Processes) != 1 {
		t.Fatalf("status %+v", s)
	}
	if ps := s.Processes[0]; ps.PID == 0 || ps.State != "ready" || ps.Running != 1 || ps.StartedAt.IsZero() || ps.RSSBytes < 1<<20 {
		t.Errorf("process %+v", ps)
	}
	if err := f.CancelTask(t.Context(), "t2", dispatch.CancelTerminated, time.Second); err != nil {
		t.Fatal(err)
	}
	if got := failure(t, <-result); got.Public != "the task was asked to end (terminated)" {
		t.Errorf("canceled task: %+v", got)
	}
	if err := f.CancelTask(t.Context(), "t2", dispatch.CancelUser, time.Second); !errors.Is(err, ErrNoTask) {
		t.Errorf("cancel of an ended task: %v", err)
	}
	if err := f.CancelTask(t.Context(), "t4", dispatch.CancelUser, time.Minute); !errors.Is(err, ErrNoTask) {
		t.Errorf("cancel that overtakes its task: %v", err)
	}
	if got := failure(t, give(t.Context(), f, "sleeper", request("t4", "10m"), newPort())); got.Kind != dispatch.CallEnded {
		t.Errorf("task that was canceled before: %+v", got)
	}
	if got := failure(t, give(t.Context(), f, "nobody", request("t3", ""), newPort())); got.Kind != dispatch.NoProcess {
		t.Errorf("no such handler: %+v", got)
	}
	if a, _ := f.Availability("nobody"); a != dispatch.Unavailable {
		t.Errorf("availability of nobody: %v", a)
	}
}

// A crash ends the tasks of its process at once, the handler comes back by itself, and a task that comes in between waits.
func TestCrashAndRecovery(t *testing.T) {
	calls := 0
	never := Timeouts{ExitDrain: time.Hour, ExitNotice: time.Hour, LetGo: time.Hour} // a killed process brings nothing more
	f := fleet(t, Config{Timeouts: never, Jitter: func() float64 { return 1 }, OnCards: func(string, []card.Card) { calls++ }}, "badhandler")
	become(t, f, "badhandler", dispatch.Available)
	first, result := begin(t, f, context.Background(), "badhandler", "t1", "hang")
	_ = unix.Kill(first.pid, syscall.SIGKILL)
	waitGone(t, first.pid)
	if got := failure(t, ended(t, result)); got.Kind != dispatch.HandlerCrash || !strings.Contains(got.Private, "signal 9") {
		t.Errorf("crash: %+v", got)
	}
	p := newPort()
	if err := give(t.Context(), f, "badhandler", request("t2", "none"), p); err != nil {
		t.Fatal(err)
	}
	if s := f.Status()[0]; s.Restarts != 1 || s.State != "ready" || s.Reason != "" || p.pid == first.pid {
		t.Errorf("status %+v", s)
	}
	if calls != 1 {
		t.Errorf("cards announced %d times", calls)
	}
}

func TestBadHandlersHarmNobody(t *testing.T) {
	names := []string{"badhandler-not-a-plugin", "badhandler-never-answers", "badhandler-wrong-version", "badhandler-exit-at-start"}
	f := fleet(t, Config{
		Timeouts: Timeouts{Handshake: time.Second}, Hold: 50 * time.Millisecond,
		Handlers: []HandlerConfig{{Name: "echo", Path: plugins.Path(t, "echo"), Timeouts: patient}},
	}, names...)
	become(t, f, "echo", dispatch.Available)
	eventually(t, "each bad handler has its reason", func() bool {
		for i, s := range f.Status()[1:] {
			if s.State == "ready" {
				t.Fatalf("%s is ready", s.Name)
			}
			if !strings.Contains(s.Reason, names[i]+" could not be started because ") {
				return false
			}
		}
		return true
	})
	for _, s := range f.Status()[1:] {
		if strings.Contains(s.Reason, "\n") {
			t.Errorf("not one sentence: %q", s.Reason)
		}
	}
	if got := failure(t, give(t.Context(), f, names[0], request("t1", ""), newPort())); got.Kind != dispatch.NoProcess || !strings.Contains(got.Private, "not-a-plugin") {
		t.Errorf("task of a bad handler: %+v", got)
	}
	if err := give(t.Context(), f, "echo", request("t2", "x"), newPort()); err != nil {
		t.Error(err)
	}
}

// TestNoBroker: go-plugin's broker stream, on which a handler could fill the daemon's memory, is never opened.
func TestNoBroker(t *testing.T) {
	const name = "badhandler-minimal"
	f := fleet(t, Config{}, name)
	p := newPort()
	if err := give(t.Context(), f, name, request("t", "broker"), p); err != nil || len(p.artifacts) != 1 || p.artifacts[0] != "broker opened: false" {
		t.Errorf("the handler says %q, %v", p.artifacts, err)
	}
}

func TestQuarantine(t *testing.T) {
	f := fleet(t, Config{Hold: time.Hour, Jitter: func() float64 { return 0 }}, "badhandler-exit-at-start")
	become(t, f, "badhandler-exit-at-start", dispatch.Unavailable)
	s := f.Status()[0]
	if s.State != "quarantined" || s.Restarts != 5 || !strings.HasSuffix(s.Reason, "it failed too often and is tried again every 10 minutes, when its file or its settings change, and by blocksd restart badhandler-exit-at-start") {
		t.Errorf("status %+v", s)
	}
	result := make(chan error, 1)
	go func() { result <- give(context.Background(), f, s.Name, request("t", ""), newPort()) }()
	if got := failure(t, ended(t, result)); got.Kind != dispatch.NoProcess {
		t.Errorf("task: %+v", got)
	}
}

func TestChecksum(t *testing.T) {
	f := fleet(t, Config{Handlers: []HandlerConfig{
		{Name: "pinned", Path: plugins.Path(t, "echo"), SHA256: strings.Repeat("0", 64)},
		{Name: "gone", Path: plugins.Path(t, "gone"), Restart: unit.Policy{MaxRestarts: 1}},
	}})
	become(t, f, "pinned", dispatch.Unavailable)
	s := f.Status()[0]
	if s.State != "quarantined" || s.Restarts != 0 || !strings.Contains(s.Reason, "instead of 0000") || strings.Contains(s.Reason, "too often") ||
		!strings.HasSuffix(s.Reason, "it is tried again every 10 minutes, and when its file or its settings change") {
		t.Errorf("status %+v", s)
	}
	eventually(t, "a missing file is reported", func() bool {
		return strings.Contains(f.Status()[1].Reason, "gone cannot be read: no such file or directory")
	})
}

func TestWaitingTask(t *testing.T) {
	f := fleet(t, Config{Hold: 200 * time.Millisecond}, "badhandler-never-answers")
	const name = "badhandler-never-answers"
	if got := failure(t, give(t.Context(), f, name, request("t1", ""), newPort())); got.Kind != dispatch.NoProcess || !strings.Contains(got.Private, "within 200ms") {
		t.Errorf("after the hold: %+v", got)
	}
	f.config.Hold = patience
	result := make(chan error, 1)
	go func() { result <- give(context.Background(), f, name, request("t2", ""), newPort()) }()
	eventually(t, "the task is there to be canceled", func() bool {
		f.tasks.mu.Lock()
		defer f.tasks.mu.Unlock()
		return f.tasks.tasks["t2"] != nil
	})
	if err := f.CancelTask(t.Context(), "t2", dispatch.CancelUser, time.Second); err != nil {
		t.Error(err)
	}
	if got := failure(t, <-result); got.Kind != dispatch.CallEnded {
		t.Errorf("canceled while waiting: %+v", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got := failure(t, give(ctx, f, name, request("t3", ""), newPort())); got.Kind != dispatch.CallEnded {
		t.Errorf("ended while waiting: %+v", got)
	}
}

// A cancellation is never lost, whenever it comes.
func TestCancelAtAnyMoment(t *testing.T) {
	f := fleet(t, Config{}, "sleeper")
	become(t, f, "sleeper", dispatch.Available)
	for i := range 200 {
		id := fmt.Sprint("t", i)
		result := make(chan error, 1)
		go func() { result <- give(context.Background(), f, "sleeper", request(id, "10m"), newPort()) }()
		go func() { _ = f.CancelTask(context.Background(), id, dispatch.CancelUser, time.Minute) }()
		select {
		case <-result:
		case <-time.After(patience):
			t.Fatalf("the cancellation of %s was lost", id)
		}
	}
}

// The cancel of a task whose process is frozen fails with a sentence for people.
func TestCancelOfAFrozenProcess(t *testing.T) {
	f := fleet(t, Config{Timeouts: Timeouts{Cancel: 200 * time.Millisecond}}, "badhandler")
	become(t, f, "badhandler", dispatch.Available)
	p, result := begin(t, f, context.Background(), "badhandler", "t1", "hang")
	testutil.Freeze(t, p.pid)
	const want = "handler badhandler did not answer within 200ms"
	if err := f.CancelTask(t.Context(), "t1", dispatch.CancelUser, time.Minute); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	failure(t, ended(t, result))
}

// A process that does not let go of a task is replaced; what else it works on goes on.
func TestTaintedProcessIsReplaced(t *testing.T) {
	f := fleet(t, Config{Timeouts: Timeouts{LetGo: 50 * time.Millisecond}}, "badhandler")
	become(t, f, "badhandler", dispatch.Available)
	other, otherResult := begin(t, f, context.Background(), "badhandler", "t1", "hang")
	ctx, cancel := context.WithCancel(context.Background())
	_, result := begin(t, f, ctx, "badhandler", "t2", "ignore-cancel")
	cancel()
	if got := failure(t, <-result); got.Kind != dispatch.CallEnded {
		t.Errorf("result %+v", got)
	}
	eventually(t, "a second process is ready", func() bool {
		ps := f.Status()[0].Processes
		return len(ps) == 2 && ps[0].State == "draining" && ps[1].State == "ready"
	})
	p := newPort()
	if err := give(t.Context(), f, "badhandler", request("t3", "none"), p); err != nil || p.pid == other.pid {
		t.Errorf("new task on %d: %v", p.pid, err)
	}
	if err := f.CancelTask(t.Context(), "t1", dispatch.CancelUser, time.Second); err != nil {
		t.Error(err)
	}
	if got := failure(t, <-otherResult); got.Kind != dispatch.HandlerError {
		t.Errorf("the other task: %+v", got)
	}
	eventually(t, "the old process has ended", func() bool { return len(f.Status()[0].Processes) == 1 })
	if s := f.Status()[0]; s.Restarts != 0 {
		t.Errorf("counted as a failure: %+v", s)
	}
}

// A frozen process is found out, replaced, and in the end killed with its tasks.
func TestFrozenProcessIsReplaced(t *testing.T) {
	c := Config{
		Timeouts: Timeouts{Health: 2 * time.Second, HealthInterval: 20 * time.Millisecond},
		Jitter:   func() float64 { return 0 },
		Handlers: []HandlerConfig{{Name: "sleeper", Path: plugins.Path(t, "sleeper"), Restart: unit.Policy{UnhealthyGrace: 100 * time.Millisecond}}},
	}
	f := fleet(t, c)
	become(t, f, "sleeper", dispatch.Available)
	frozen, result := begin(t, f, context.Background(), "sleeper", "t1", "10m")
	_ = unix.Kill(frozen.pid, syscall.SIGSTOP)
	if got := failure(t, ended(t, result)); got.Kind != dispatch.HandlerCrash || !strings.Contains(got.Private, "signal 9") {
		t.Errorf("task of the frozen process: %+v", got)
	}
	p := newPort()
	if err := give(t.Context(), f, "sleeper", request("t2", "1ms"), p); err != nil || p.pid == frozen.pid {
		t.Errorf("next task on %d: %v", p.pid, err)
	}
	if s := f.Status()[0]; s.Restarts < 1 {
		t.Errorf("status %+v", s)
	}
}

func TestLeastLoaded(t *testing.T) {
	f := fleet(t, Config{Handlers: []HandlerConfig{{Name: "sleeper", Path: plugins.Path(t, "sleeper"), Instances: 3}}})
	eventually(t, "three processes are ready", func() bool {
		n := 0
		for _, p := range f.Status()[0].Processes {
			if p.State == "ready" {
				n++
			}
		}
		return n == 3
	})
	for i := range 6 {
		begin(t, f, context.Background(), "sleeper", fmt.Sprint("t", i), "10m")
	}
	for _, p := range f.Status()[0].Processes {
		if p.Running != 2 {
			t.Errorf("process %+v", p)
		}
	}
}

// Stopping does not wait for the tasks: who stops the fleet has drained it before.
func TestStopEndsTasks(t *testing.T) {
	f, err := New(Config{Log: fleetLog(), Timeouts: patient, Handlers: []HandlerConfig{{Name: "sleeper", Path: plugins.Path(t, "sleeper")}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	become(t, f, "sleeper", dispatch.Available)
	_, result := begin(t, f, context.Background(), "sleeper", "t1", "10m")
	cancel()
	failure(t, <-result)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := failure(t, give(t.Context(), f, "sleeper", request("t2", "1ms"), newPort())); got.Kind != dispatch.NoProcess {
		t.Errorf("after the end: %+v", got)
	}
	if _, err := os.Stat(f.dirs.Base()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the private directory is left: %v", err)
	}
}

func TestConfigurationMistakes(t *testing.T) {
	for want, handlers := range map[string][]HandlerConfig{
		`handler with path "/x" has no name: give it one`:             {{Path: "/x"}},
		`path "x" of handler h is not absolute: write the whole path`: {{Name: "h", Path: "x"}},
		`two handlers are called h, at /x and /y: rename one`:         {{Name: "h", Path: "/x"}, {Name: "h", Path: "/y"}},
	} {
		if _, err := New(Config{Log: fleetLog(), Handlers: handlers}); err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}

// A hundred handlers are ready within five seconds, on two cores that others use too.
func TestHundredHandlers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a hundred processes")
	}
	var c Config
	for i := range 100 {
		c.Handlers = append(c.Handlers, HandlerConfig{Name: fmt.Sprint("echo", i), Path: plugins.Path(t, "echo")})
	}
	at := time.Now()
	f := fleet(t, c)
	for _, h := range c.Handlers {
		become(t, f, h.Name, dispatch.Available)
	}
	t.Logf("100 handlers ready after %v", time.Since(at))
}

// A handler that is named again just as it ends stays: forgotten between the two it would run without an owner, and the
// daemon would wait for it forever.
func TestNamedAgainAtItsEnd(t *testing.T) {
	var configs []HandlerConfig
	for i := range 20 {
		configs = append(configs, HandlerConfig{Name: fmt.Sprint("h", i), Path: fmt.Sprint("/nowhere/", i)})
	}
	f, err := New(Config{Log: slog.New(slog.DiscardHandler), RuntimeDir: t.TempDir(), Handlers: configs})
	if err != nil {
		t.Fatal(err)
	}
	all := f.all()
	for _, h := range all {
		h.remove()
	}
	first := all[0]
	first.mu.Lock() // holds Apply up on its way through the handlers, which it takes in any order
	f.mu.Lock()
	f.order = nil // shows below that Apply has begun
	f.mu.Unlock()
	applied := make(chan error, 1)
	go func() { applied <- f.Apply(configs) }()
	eventually(t, "Apply has named the handlers", func() bool { return len(f.all()) == len(configs) })
	for _, h := range all[1:] {
		f.forget(h)
	}
	first.mu.Unlock()
	if err := ended(t, applied); err != nil {
		t.Error(err)
	}
	for _, h := range all {
		if f.get(h.name) != h {
			t.Errorf("%s is forgotten", h.name)
		}
	}
}

// A task in flight costs one goroutine, beside gRPC's own, and its stack has no more room than waiting takes: with
// thousands of tasks, stacks are what takes the memory.
func TestTasksInFlightAreSmall(t *testing.T) {
	f := fleet(t, Config{}, "sleeper")
	become(t, f, "sleeper", dispatch.Available)
	const tasks = 1000
	before, stacks := runtime.NumGoroutine(), stackBytes()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var done sync.WaitGroup
	ports := make([]*port, tasks)
	for i := range tasks {
		done.Add(1)
		ports[i] = newPort()
		f.Start(ctx, "sleeper", request(fmt.Sprint("t", i), "10m"), ports[i], func(error) { done.Done() })
	}
	for _, p := range ports { // also what has sent a message waits with a small stack
		<-p.running
	}
	if n := runtime.NumGoroutine() - before; n > 2*tasks+tasks/10 {
		t.Errorf("%d tasks have %d goroutines", tasks, n)
	}
	const limit = 9 << 10
	if n := (stackBytes() - stacks) / tasks; n > limit && !raceDetector() {
		t.Errorf("a task has %d bytes of stacks, more than %d", n, limit)
	}
	cancel()
	done.Wait()
}

// raceDetector reports whether it is on: it makes stacks larger.
func raceDetector() bool {
	b, _ := debug.ReadBuildInfo()
	return slices.Contains(b.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func stackBytes() int {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.StackInuse)
}
