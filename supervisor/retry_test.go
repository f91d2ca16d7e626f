package supervisor

import (
	"context"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// killer kills the first processes that are given the task: before they have it, or when they ask for its file.
type killer struct {
	*port
	before func(pid int) // after the kill, when it comes before the task; nil: it comes when the file is asked for
	times  atomic.Int32
	pids   []int
}

func newKiller(times int32, before func(pid int)) *killer {
	k := &killer{port: newPort(), before: before}
	k.times.Store(times)
	return k
}

func (k *killer) Dispatched(pid int) {
	k.port.Dispatched(pid)
	k.pids = append(k.pids, pid)
	if k.before != nil && k.times.Add(-1) >= 0 {
		_ = unix.Kill(pid, syscall.SIGKILL)
		k.before(pid)
	}
}

func (k *killer) Input(ctx context.Context, part int) (dispatch.Input, error) {
	if k.before == nil && k.times.Add(-1) >= 0 {
		_ = unix.Kill(k.pids[len(k.pids)-1], syscall.SIGKILL)
	}
	return k.port.Input(ctx, part)
}

// A task that a process had when it crashed is tried on another one only if it may be repeated, and has published nothing;
// and only once.
func TestSecondTry(t *testing.T) {
	policy := unit.Policy{MaxRestarts: 100, MaxDelay: time.Millisecond}
	f := fleet(t, Config{Hold: patience, Handlers: []HandlerConfig{
		{Name: "says", Path: plugins.Alias(t, "badhandler", "badhandler-idempotent"), Restart: policy},
		{Name: "configured", Path: plugins.Path(t, "badhandler"), Restart: policy, Idempotent: true},
		{Name: "plain", Path: plugins.Path(t, "badhandler"), Restart: policy},
	}})
	tests := []struct {
		handler string
		crashes int32
		tried   int
		want    dispatch.FailureKind
	}{
		{"says", 1, 2, 0},
		{"configured", 1, 2, 0},
		{"configured", 2, 2, dispatch.HandlerCrash},
		{"plain", 1, 1, dispatch.HandlerCrash},
	}
	for _, tt := range tests {
		k := newKiller(tt.crashes, nil)
		task := request("t", "download request")
		task.Parts[0].File = &wire.ArtifactRef{FileName: "f"}
		err := give(t.Context(), f, tt.handler, task, k)
		if tt.want == 0 && (err != nil || len(k.artifacts) != 1) || tt.want != 0 && failure(t, err).Kind != tt.want {
			t.Errorf("%s with %d crashes: %v %q", tt.handler, tt.crashes, err, k.artifacts)
		}
		if len(k.pids) != tt.tried {
			t.Errorf("%s with %d crashes: given to %v", tt.handler, tt.crashes, k.pids)
		}
	}
	become(t, f, "configured", dispatch.Available)
	p, result := begin(t, f, context.Background(), "configured", "status", "hang")
	_ = unix.Kill(p.pid, syscall.SIGKILL)
	if got := failure(t, <-result); got.Kind != dispatch.HandlerCrash {
		t.Errorf("after a status: %+v", got)
	}
}

// A slot that a waiting task does not take, because that process did not get it before, goes to the next in the queue, and
// to one that has just come.
func TestSlotThatOneDoesNotTake(t *testing.T) {
	f := fleet(t, Config{Hold: patience, Handlers: []HandlerConfig{
		{Name: "sleeper", Path: plugins.Path(t, "sleeper"), Instances: 2, ProcessConcurrency: 1},
	}})
	h := f.get("sleeper")
	eventually(t, "both processes are ready", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.rollout.Full()
	})
	_, first := begin(t, f, context.Background(), "sleeper", "first", "10m")
	var without []*process
	h.mu.Lock()
	for _, p := range h.currentLocked().processes {
		if h.queue.Running(p) == 1 {
			without = append(without, p)
		}
	}
	h.mu.Unlock()
	_, second := begin(t, f, context.Background(), "sleeper", "second", "10m")
	waits := func(n int) {
		eventually(t, "the task waits", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			waiting, _ := h.queue.Len()
			return waiting == n
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	picky := make(chan error, 1)
	go func() {
		_, err := h.acquire(ctx, patience, nil, without)
		picky <- err
	}()
	waits(1)
	other := make(chan error, 1)
	go func() { other <- give(context.Background(), f, "sleeper", request("other", "1ms"), newPort()) }()
	waits(2)
	if err := f.CancelTask(t.Context(), "first", dispatch.CancelUser, time.Second); err != nil {
		t.Error(err)
	}
	failure(t, ended(t, first))
	if err := ended(t, other); err != nil {
		t.Error(err)
	}
	last := make(chan error, 1)
	go func() { last <- give(context.Background(), f, "sleeper", request("last", "1ms"), newPort()) }()
	if err := ended(t, last); err != nil {
		t.Error(err)
	}
	cancel()
	if got := failure(t, ended(t, picky)); got.Kind != dispatch.CallEnded {
		t.Errorf("the one that waits: %+v", got)
	}
	if err := f.CancelTask(t.Context(), "second", dispatch.CancelUser, time.Second); err != nil {
		t.Error(err)
	}
	failure(t, ended(t, second))
}

// A task that is given to a process just as that one ends, and never reaches it, is given to the next, as often as that
// happens and whatever the handler says about repeating.
func TestUnsentTask(t *testing.T) {
	f := fleet(t, Config{Hold: patience, Handlers: []HandlerConfig{
		{Name: "plain", Path: plugins.Path(t, "badhandler"), Restart: unit.Policy{MaxRestarts: 100, MaxDelay: time.Millisecond}},
	}})
	become(t, f, "plain", dispatch.Available)
	k := newKiller(3, func(pid int) {
		h := f.get("plain")
		h.mu.Lock()
		var doomed *process
		for _, p := range h.currentLocked().processes {
			if p.conn != nil && p.conn.PID() == pid {
				doomed = p
			}
		}
		h.mu.Unlock()
		if doomed != nil { // until the connection knows
			eventually(t, "the connection is broken", func() bool { return doomed.conn.Check(t.Context(), patience) != nil })
		}
	})
	if err := give(t.Context(), f, "plain", request("t1", "none"), k); err != nil || len(k.artifacts) != 1 || len(k.pids) != 4 {
		t.Errorf("%v, artifacts %q, given to %v", err, k.artifacts, k.pids)
	}
	// One that is to be ended meanwhile is not tried again.
	ctx, cancel := context.WithCancel(t.Context())
	k.times.Store(1)
	k.before = func(int) { cancel() }
	become(t, f, "plain", dispatch.Available)
	if got := failure(t, give(ctx, f, "plain", request("t2", "none"), k)); got.Kind != dispatch.CallEnded && got.Kind != dispatch.HandlerCrash {
		t.Errorf("ended meanwhile: %+v", got)
	}
	if len(k.pids) != 5 {
		t.Errorf("given to %v", k.pids)
	}
}
