package supervisor

import (
	"context"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/supervisor/unit"
)

// TestHoldBeginsAnew: a task waits up to Hold each time that no process takes tasks. The time that it waited for a process
// to come, and then for a slot on it, does not count when the process is lost.
func TestHoldBeginsAnew(t *testing.T) {
	const hold = 3 * time.Second
	f := fleet(t, Config{Hold: hold, Handlers: []HandlerConfig{{
		Name: "bad", Path: plugins.Path(t, "badhandler"), ProcessConcurrency: 1, Restart: unit.Policy{MaxRestarts: 100, MaxDelay: time.Millisecond},
	}}})
	first, lost := begin(t, f, context.Background(), "bad", "first", "hang")
	if err := unix.Kill(first.pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := ended(t, lost); err == nil {
		t.Fatal("a task whose process was killed ends well")
	}
	ports := map[string]*port{"one": newPort(), "other": newPort()}
	results := map[string]chan error{"one": make(chan error, 1), "other": make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for id, p := range ports { // no process takes them for a moment
		go func() { results[id] <- f.Do(ctx, "bad", request(id, "hang"), p) }()
	}
	runs, waits := "one", "other"
	select {
	case <-ports["one"].running:
	case <-ports["other"].running:
		runs, waits = "other", "one"
	case <-time.After(patience):
		t.Fatal("neither task runs")
	}
	time.Sleep(hold + hold/10) // the other one waits for its slot, which has no limit
	p := ports[runs]
	p.mu.Lock()
	pid := p.pid
	p.mu.Unlock()
	if err := unix.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ports[waits].running:
	case err := <-results[waits]:
		t.Fatalf("the task that waited ended with %v, although a process was on its way", err)
	case <-time.After(patience):
		t.Fatal("the task that waited does not run")
	}
	cancel()
	for _, r := range results {
		_ = ended(t, r)
	}
}
