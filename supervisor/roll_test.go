package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/unit"
)

func apply(t *testing.T, f *Fleet, handlers ...HandlerConfig) {
	t.Helper()
	if err := f.Apply(handlers); err != nil {
		t.Fatal(err)
	}
}

// do gives a task to a handler that must finish it, and returns the process.
func do(t *testing.T, f *Fleet, handler, id, text string) int {
	t.Helper()
	p := newPort()
	if err := give(t.Context(), f, handler, request(id, text), p); err != nil {
		t.Fatalf("task %s: %v", id, err)
	}
	return p.pid
}

// A changed content gets a generation of its own, which takes over when it is ready; what runs on the old one ends there.
func TestRoll(t *testing.T) {
	var mu sync.Mutex
	var used []string
	cards := 0
	c := HandlerConfig{Name: "sleeper", Path: plugins.Path(t, "sleeper"), Content: "one"}
	f := fleet(t, Config{
		Handlers: []HandlerConfig{c},
		OnUsed:   func(_, content string) { mu.Lock(); defer mu.Unlock(); used = append(used, content) },
		OnCards:  func(string, []card.Card) { mu.Lock(); defer mu.Unlock(); cards++ },
	})
	become(t, f, "sleeper", dispatch.Available)
	old, result := begin(t, f, context.Background(), "sleeper", "t1", "10m")
	c.Content = "two"
	apply(t, f, c)
	if err := f.Await(t.Context(), "sleeper"); err != nil {
		t.Fatal(err)
	}
	if pid := do(t, f, "sleeper", "t2", "1ms"); pid == old.pid {
		t.Error("a new task runs on the old process")
	}
	s := f.Status()[0]
	if s.Generation != 2 || s.State != "ready" || s.Restarts != 0 || s.Notice != "" || len(s.Processes) != 2 || s.Processes[0].State != "draining" || s.Processes[0].Running != 1 {
		t.Errorf("status %+v", s)
	}
	if err := f.CancelTask(t.Context(), "t1", dispatch.CancelUser, time.Second); err != nil {
		t.Error(err)
	}
	failure(t, <-result)
	eventually(t, "the old process has ended", func() bool { return len(f.Status()[0].Processes) == 1 })
	eventually(t, "both contents were handed on, and both cards", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return fmt.Sprint(used) == "[one two]" && cards == 2
	})
	// A changed configuration is a new generation of the same content.
	c.Instances = 2
	apply(t, f, c)
	if err := f.Await(t.Context(), "sleeper"); err != nil {
		t.Fatal(err)
	}
	if s := f.Status()[0]; s.Generation != 2 || s.State != "ready" {
		t.Errorf("status %+v", s)
	}
	// The same once more changes nothing.
	pids := func() (out []int) {
		for _, p := range f.Status()[0].Processes {
			if p.State == "ready" {
				out = append(out, p.PID)
			}
		}
		return out
	}
	before := fmt.Sprint(pids())
	apply(t, f, c)
	do(t, f, "sleeper", "t3", "1ms")
	if after := fmt.Sprint(pids()); after != before || len(pids()) != 2 {
		t.Errorf("processes %s, then %s", before, after)
	}
}

// A content that does not get ready is given up, and the one that works stays.
func TestRollIsGivenUp(t *testing.T) {
	good := HandlerConfig{Name: "h", Path: plugins.Path(t, "echo"), Content: "good"}
	bad := HandlerConfig{Name: "h", Path: plugins.Alias(t, "badhandler", "badhandler-exit-at-start"), Content: strings.Repeat("b", 64)}
	f := fleet(t, Config{Jitter: func() float64 { return 0 }, Handlers: []HandlerConfig{good}})
	become(t, f, "h", dispatch.Available)
	pid := do(t, f, "h", "t1", "x")
	apply(t, f, bad)
	err := f.Await(t.Context(), "h")
	want := "handler h goes on with its running program because the replacement (bbbbbbbbbbbb) does not start: handler h could not be started because "
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v", err)
	}
	if s := f.Status()[0]; s.State != "ready" || !strings.HasPrefix(s.Notice, want) || s.Generation != 1 || s.Reason != "" {
		t.Errorf("status %+v", s)
	}
	if got := do(t, f, "h", "t2", "x"); got != pid {
		t.Errorf("process %d, then %d", pid, got)
	}
	// Restart tries what was asked for last again.
	if err := f.Restart(t.Context(), "h"); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("restart: %v", err)
	}
	// Going back to what runs needs no new process.
	apply(t, f, good)
	if s := f.Status()[0]; s.Notice != "" || do(t, f, "h", "t3", "x") != pid {
		t.Errorf("status %+v", s)
	}
	if err := f.Restart(t.Context(), "h"); err != nil {
		t.Error(err)
	}
	if do(t, f, "h", "t4", "x") == pid {
		t.Error("the process was not replaced")
	}
}

// A new content leads out of quarantine at once, and so does a restart.
func TestWaysOutOfQuarantine(t *testing.T) {
	bad := HandlerConfig{Name: "h", Path: plugins.Alias(t, "badhandler", "badhandler-exit-at-start"), Content: "bad", Restart: unit.Policy{MaxRestarts: 1}}
	f := fleet(t, Config{Jitter: func() float64 { return 0 }, Handlers: []HandlerConfig{bad}})
	become(t, f, "h", dispatch.Unavailable)
	if err := f.Restart(t.Context(), "h"); err == nil || !strings.HasPrefix(err.Error(), "handler h could not be started because ") {
		t.Errorf("restart: %v", err)
	}
	become(t, f, "h", dispatch.Unavailable)
	apply(t, f, HandlerConfig{Name: "h", Path: plugins.Path(t, "echo"), Content: "good"})
	become(t, f, "h", dispatch.Available)
	do(t, f, "h", "t1", "x")
	if s := f.Status()[0]; s.Generation != 2 || s.State != "ready" {
		t.Errorf("status %+v", s)
	}
	if err := f.Restart(t.Context(), "nobody"); !errors.Is(err, ErrNoHandler) {
		t.Errorf("restart of nobody: %v", err)
	}
}

// Handlers are added and removed while the others work; a removed one finishes its tasks, and may come back meanwhile.
func TestHandlersComeAndGo(t *testing.T) {
	sleeper := HandlerConfig{Name: "sleeper", Path: plugins.Path(t, "sleeper")}
	echo := HandlerConfig{Name: "echo", Path: plugins.Path(t, "echo")}
	f := fleet(t, Config{Handlers: []HandlerConfig{echo}})
	become(t, f, "echo", dispatch.Available)
	for round := range 2 {
		apply(t, f, echo, sleeper)
		become(t, f, "sleeper", dispatch.Available)
		id := fmt.Sprint("t", round)
		old, result := begin(t, f, context.Background(), "sleeper", id, "10m")
		apply(t, f, echo)
		if got := failure(t, give(t.Context(), f, "sleeper", request("x", "1ms"), newPort())); got.Kind != dispatch.NoProcess {
			t.Errorf("task of a removed handler: %+v", got)
		}
		if s := f.Status(); len(s) != 2 || s[1].State != "draining" || s[1].Processes[0].Running != 1 {
			t.Errorf("status %+v", s)
		}
		if round == 1 { // comes back alongside its old process
			apply(t, f, echo, sleeper)
			become(t, f, "sleeper", dispatch.Available)
			if do(t, f, "sleeper", "back", "1ms") == old.pid {
				t.Error("the old process takes tasks again")
			}
			apply(t, f, echo)
		}
		if err := f.CancelTask(t.Context(), id, dispatch.CancelUser, time.Second); err != nil {
			t.Error(err)
		}
		failure(t, <-result)
		eventually(t, "the removed handler is forgotten", func() bool { return len(f.Status()) == 1 })
	}
	do(t, f, "echo", "t9", "x")
}

// Tasks beyond the limits wait for their turn, in order; one that gives up makes room for the next.
func TestConcurrencyLimits(t *testing.T) {
	f := fleet(t, Config{Hold: 50 * time.Millisecond, Handlers: []HandlerConfig{
		{Name: "narrow", Path: plugins.Path(t, "sleeper"), ProcessConcurrency: 1, Instances: 2},
		{Name: "wide", Path: plugins.Path(t, "sleeper"), Concurrency: 1, Instances: 2},
	}})
	for handler, slots := range map[string]int{"narrow": 2, "wide": 1} {
		h := f.get(handler)
		eventually(t, "both processes are ready", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.rollout.Full()
		})
		id := func(i int) string { return fmt.Sprint(handler, i) }
		var results []<-chan error
		for i := range slots {
			_, result := begin(t, f, context.Background(), handler, id(i), "10m")
			results = append(results, result)
		}
		order := make(chan int, 10)
		waiting := 0
		for i := slots; i < slots+4; i++ {
			go func() {
				err := give(context.Background(), f, handler, request(id(i), "1ms"), newPort())
				if err == nil {
					order <- i
				} else {
					order <- -1
				}
			}()
			waiting++
			eventually(t, "the task waits", func() bool {
				h.mu.Lock()
				defer h.mu.Unlock()
				n, _ := h.queue.Len()
				return n == waiting
			})
		}
		if err := f.CancelTask(t.Context(), id(slots+1), dispatch.CancelUser, time.Second); err != nil {
			t.Error(err)
		}
		if got := <-order; got != -1 {
			t.Errorf("%s: task %d ended first", handler, got)
		}
		if err := f.CancelTask(t.Context(), id(0), dispatch.CancelUser, time.Second); err != nil {
			t.Error(err)
		}
		failure(t, <-results[0])
		for _, want := range []int{slots, slots + 2, slots + 3} {
			if got := <-order; got != want {
				t.Errorf("%s: task %d ended, not %d", handler, got, want)
			}
		}
		eventually(t, "what has ended is not counted any more", func() bool { // released just after Do returns
			h.mu.Lock()
			defer h.mu.Unlock()
			waiting, running := h.queue.Len()
			return running == slots-1 && waiting == 0
		})
	}
}

// A task that waits for a process is woken for one even when the state of the handler stays the same meanwhile.
func TestWaitingTaskSeesEveryProcess(t *testing.T) {
	f := fleet(t, Config{Hold: 2 * patience, Handlers: []HandlerConfig{{Name: "echo", Path: plugins.Path(t, "echo")}}})
	become(t, f, "echo", dispatch.Available)
	h := f.get("echo")
	h.mu.Lock()
	for _, p := range h.currentLocked().processes {
		p.drainLocked() // like one that has ended, which the unit does not know yet
	}
	h.mu.Unlock()
	result := make(chan error, 1)
	go func() { result <- give(context.Background(), f, "echo", request("t1", "x"), newPort()) }()
	eventually(t, "the task waits", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		n, _ := h.queue.Len()
		return n == 1
	})
	h.mu.Lock()
	for _, p := range h.currentLocked().processes {
		p.draining = false
	}
	h.currentLocked().stepLocked(unit.Event{Kind: unit.ProcessReady}) // another one is ready
	h.mu.Unlock()
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the task was not woken")
	}
}

// Under changing load no task is forgotten in the queue, whatever gives up, crashes and comes back.
func TestQueueUnderLoad(t *testing.T) {
	f := fleet(t, Config{Hold: patience, Handlers: []HandlerConfig{{
		Name: "badhandler", Path: plugins.Path(t, "badhandler"), ProcessConcurrency: 2, Instances: 2, RecycleTasks: 25,
		Restart: unit.Policy{MaxRestarts: 1000, MaxDelay: time.Millisecond},
	}}})
	become(t, f, "badhandler", dispatch.Available)
	var wg sync.WaitGroup
	var completed, crashed, ended atomic.Int32
	for i := range 300 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			text := "none"
			switch {
			case i%20 == 7:
				text = "exit 1"
			case i%10 == 3:
				ctx, cancel = context.WithTimeout(ctx, time.Duration(i)*time.Millisecond/4)
				defer cancel()
			}
			err := give(ctx, f, "badhandler", request(fmt.Sprint("t", i), text), newPort())
			var failed *dispatch.TaskFailure
			switch {
			case err == nil:
				completed.Add(1)
			case errors.As(err, &failed) && failed.Kind == dispatch.HandlerCrash:
				crashed.Add(1)
			case errors.As(err, &failed) && failed.Kind == dispatch.CallEnded:
				ended.Add(1)
			default:
				t.Errorf("task %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	t.Logf("%d completed, %d crashed, %d ended", completed.Load(), crashed.Load(), ended.Load())
	h := f.get("badhandler")
	eventually(t, "nothing is counted any more", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		waiting, running := h.queue.Len()
		return running == 0 && h.users == 0 && waiting == 0
	})
}

// Processes are replaced after some tasks, without a gap.
func TestRecycling(t *testing.T) {
	f := fleet(t, Config{Hold: time.Nanosecond, Handlers: []HandlerConfig{{Name: "echo", Path: plugins.Path(t, "echo"), RecycleTasks: 5}}})
	become(t, f, "echo", dispatch.Available)
	pids := map[int]int{}
	deadline := time.Now().Add(patience)
	last := 0
	for i := 0; len(pids) < 4; i++ {
		if time.Now().After(deadline) {
			t.Fatalf("only the processes %v within %v: %+v", pids, patience, f.Status())
		}
		last = do(t, f, "echo", fmt.Sprint("t", i), "x")
		pids[last]++
	}
	for pid, n := range pids {
		if n < 5 && pid != last {
			t.Errorf("process %d had %d tasks", pid, n)
		}
	}
	if s := f.Status()[0]; s.Restarts != 0 || s.Generation != 1 {
		t.Errorf("status %+v", s)
	}
}

// A handler without tasks is stopped and still counts as available; the next task starts it.
func TestIdleHandler(t *testing.T) {
	f := fleet(t, Config{Handlers: []HandlerConfig{{Name: "sleeper", Path: plugins.Path(t, "sleeper"), Restart: unit.Policy{IdleTimeout: 50 * time.Millisecond}}}})
	become(t, f, "sleeper", dispatch.Available)
	for i := range 3 {
		eventually(t, "it is idle", func() bool {
			s := f.Status()[0]
			return s.State == "idle" && len(s.Processes) == 0 && s.Reason == ""
		})
		become(t, f, "sleeper", dispatch.Available)
		do(t, f, "sleeper", fmt.Sprint("t", i), "100ms") // longer than the timeout
	}
	if s := f.Status()[0]; s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
	// It can be rolled and restarted at rest.
	eventually(t, "it is idle", func() bool { return f.Status()[0].State == "idle" })
	if err := f.Restart(t.Context(), "sleeper"); err != nil {
		t.Error(err)
	}
}
