package supervisor

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// held is how long a task may wait; no time passes.
const held = 3 * time.Second

// holds stand in for the timers of tasks that wait for a process. They fire when the test says so.
type holds struct {
	mu      sync.Mutex
	begun   []chan time.Time
	wrong   []time.Duration // other than held
	stopped int
}

func (h *holds) timer(d time.Duration) (late <-chan time.Time, stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d != held {
		h.wrong = append(h.wrong, d)
	}
	c := make(chan time.Time, 1)
	h.begun = append(h.begun, c)
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.stopped++
	}
}

func (h *holds) await(t *testing.T, what string, begun, stopped int) {
	t.Helper()
	eventually(t, what, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.begun) == begun && h.stopped == stopped
	})
}

func (p *port) kill(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := unix.Kill(p.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// TestHoldBeginsAnew: a task waits up to Hold each time that no process takes tasks. The time that it waited for a process
// to come, and then for a slot on it, does not count when the process is lost.
func TestHoldBeginsAnew(t *testing.T) {
	f := fleet(t, Config{
		Hold: held, Jitter: func() float64 { return 1 },
		Handlers: []HandlerConfig{{ // a lost process does not come back by itself
			Name: "bad", Path: plugins.Path(t, "badhandler"), ProcessConcurrency: 1, Restart: unit.Policy{MinDelay: time.Hour, MaxDelay: time.Hour},
		}},
	})
	become(t, f, "bad", dispatch.Available)
	first, lost := begin(t, f, context.Background(), "bad", "first", "hang")
	timers := &holds{}
	f.hold = timers.timer
	first.kill(t)
	if err := ended(t, lost); err == nil {
		t.Fatal("a task whose process was killed ends well")
	}
	ports := map[string]*port{"one": newPort(), "other": newPort()}
	results := map[string]chan error{"one": make(chan error, 1), "other": make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for id, p := range ports {
		go func() { results[id] <- give(ctx, f, "bad", request(id, "hang"), p) }()
	}
	timers.await(t, "both tasks wait for a process", 2, 0)
	restart(t, f, "bad")
	runs, waits := "one", "other"
	select {
	case <-ports["one"].running:
	case <-ports["other"].running:
		runs, waits = "other", "one"
	case <-time.After(patience):
		t.Fatal("neither task runs")
	}
	timers.await(t, "the other one waits for its slot, which has no limit", 2, 2)
	ports[runs].kill(t)
	timers.await(t, "it waits for a process again", 3, 2)
	for _, old := range timers.begun[:2] {
		old <- time.Now()
	}
	restart(t, f, "bad")
	select {
	case <-ports[waits].running:
	case err := <-results[waits]:
		t.Fatalf("the task that waited ended with %v, although a process was on its way", err)
	case <-time.After(patience):
		t.Fatal("the task that waited does not run")
	}
	ports[waits].kill(t)
	last := make(chan error, 1)
	go func() { last <- give(ctx, f, "bad", request("last", "hang"), newPort()) }()
	timers.await(t, "the last one waits", 4, 3)
	timers.begun[3] <- time.Now()
	if got := failure(t, ended(t, last)); got.Kind != dispatch.NoProcess {
		t.Errorf("after the hold: %+v", got)
	}
	if len(timers.wrong) > 0 {
		t.Errorf("tasks wait for %v, not %v", timers.wrong, held)
	}
	cancel()
	for _, r := range results {
		_ = ended(t, r)
	}
}

// TestHoldIsThatOfAStart: a task waits for a process as long as the start of one may take, unless the fleet has a limit of
// its own.
func TestHoldIsThatOfAStart(t *testing.T) {
	const name = "badhandler-never-answers"
	f := fleet(t, Config{Handlers: []HandlerConfig{
		{Name: name, Path: plugins.Alias(t, "badhandler", name), Timeouts: Timeouts{Handshake: 3 * time.Minute, Describe: 2 * time.Second}},
	}})
	held := make(chan time.Duration, 1)
	f.config.Hold = 0
	f.hold = func(d time.Duration) (<-chan time.Time, func()) {
		held <- d
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- give(ctx, f, name, request("t", ""), newPort()) }()
	select {
	case d := <-held:
		if d != 3*time.Minute+2*time.Second {
			t.Errorf("it waits for %v", d)
		}
	case err := <-result:
		t.Fatalf("it ended with %v", err)
	}
	cancel()
	_ = ended(t, result)
}
