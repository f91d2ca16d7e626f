package attack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// Bounds of what attacks may cost the daemon, with room for a busy machine. Its memory during one is what the process holds, with
// the garbage of the attacks before; afterwards it is what is left when the garbage has gone.
const (
	memoryGrowth = 1200 << 20
	memoryLeft   = 24 << 20
	workLeft     = 32 // goroutines
	logGrowth    = 48 << 20
	statusBytes  = 256 << 10
	// slowest is an answer of the handler beside the attacks that counts as none. No test measures time: the latencies are logged.
	slowest = 20 * time.Second
)

// pinger sends the handler beside the attacks one small task after the other.
type pinger struct {
	stop func() []time.Duration
}

// ping starts a pinger. Whatever goes wrong with one of its tasks is an error of the test.
func ping(t *testing.T, env system.Env) *pinger {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c, err := system.NewConsumer(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			d, err := once(ctx, c)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				t.Errorf("echo beside the attack: %v", err)
			default:
				took = append(took, d)
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // a steady load, not a flood
			}
		}
	})
	p := &pinger{stop: sync.OnceValue(func() []time.Duration {
		cancel()
		work.Wait()
		c.Close()
		return took
	})}
	t.Cleanup(func() { p.stop() })
	return p
}

// once sends one task to echo and waits for its outcome.
func once(ctx context.Context, c *system.Consumer) (time.Duration, error) {
	limit, cancel := context.WithTimeoutCause(ctx, slowest, fmt.Errorf("no answer within %v", slowest))
	defer cancel()
	begun := time.Now()
	s, err := c.Submit(limit, "echo", "ping")
	if err != nil {
		return 0, errors.Join(err, context.Cause(limit))
	}
	end, err := c.Await(limit, s)
	if err == nil && end.State != "completed" {
		err = fmt.Errorf("task %s ended as %s: %s", s.ID, end.State, end.Error)
	}
	if err != nil {
		return 0, errors.Join(err, context.Cause(limit))
	}
	return time.Since(begun), nil
}

// report ends the pinger, and fails the test if echo did not answer all along.
func (p *pinger) report(t *testing.T) {
	t.Helper()
	took := p.stop()
	if len(took) < 10 {
		t.Fatalf("echo beside the attacks answered only %d times", len(took))
	}
	slices.Sort(took)
	at := func(share float64) time.Duration {
		return took[int(share*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("echo beside the attacks: %d tasks, p50 %v, p99 %v, slowest %v (this machine is shared: for the budget of 50 ms run it alone)", len(took), at(0.5), at(0.99), at(1))
}

// base is what the daemon has before the attacks.
type base struct {
	memory, heap, goroutines int64
	descriptors              int
	temp                     string // its directory for temporary files, where nobody else makes any
}

func baseOf(t *testing.T, n *system.Network, temp string) base {
	t.Helper()
	alive(t, n)
	b := base{memory: rss(t, n.PID()), descriptors: open(t, n.PID()), temp: temp}
	b.heap, b.goroutines = inUse(t, n)
	return b
}

// inUse is what a daemon has in its memory that is still in use, in bytes, and how many goroutines.
func inUse(t *testing.T, n *system.Network) (heap, goroutines int64) {
	t.Helper()
	r := n.Run(t, n.Env, "debug", "dump", "--json", "--dir", filepath.Join(t.TempDir(), "dump"))
	var form struct{ Counts map[string]int64 }
	if err := json.Unmarshal([]byte(r.Stdout), &form); err != nil || form.Counts["heap_bytes"] == 0 {
		t.Fatalf("debug dump: %v, %s%s", err, r.Stdout, r.Stderr)
	}
	return form.Counts["heap_bytes"], form.Counts["goroutines"]
}

// during fails the test if an attack has cost the daemon more than it may: log is what it had written before.
func (b base) during(t *testing.T, n *system.Network, log int) {
	t.Helper()
	alive(t, n)
	if grown := len(n.Output()) - log; grown > logGrowth {
		t.Errorf("the log has grown by %d bytes", grown)
	}
	if r := n.Run(t, n.Env, "status", "--json"); len(r.Stdout) > statusBytes || r.Code > 1 {
		t.Errorf("status has %d bytes, exit %d", len(r.Stdout), r.Code)
	}
	if now := rss(t, n.PID()); now > b.memory+memoryGrowth {
		t.Errorf("the daemon has %d MiB, before %d", now>>20, b.memory>>20)
	}
	system.Eventually(t, system.CallDeadline, "descriptors are back to what they were", func() bool { return open(t, n.PID()) <= b.descriptors+8 })
	if left, _ := filepath.Glob(filepath.Join(b.temp, "blocksd-artifact-*")); len(left) > 0 {
		t.Errorf("artifacts are left: %v", left)
	}
}

// after fails the test unless what the daemon has in use is back to what it was.
func (b base) after(t *testing.T, n *system.Network) {
	t.Helper()
	var heap, goroutines int64
	defer func() {
		t.Logf("in use: %d KiB and %d goroutines, before %d KiB and %d", heap>>10, goroutines, b.heap>>10, b.goroutines)
	}()
	system.Eventually(t, system.CallDeadline, "memory and goroutines are back to what they were", func() bool {
		heap, goroutines = inUse(t, n)
		return heap <= b.heap+memoryLeft && goroutines <= b.goroutines+workLeft
	})
}

// rss is the resident memory of a process.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// open counts the descriptors of a process.
func open(t *testing.T, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if errors.Is(err, os.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so the daemon's descriptors cannot be seen")
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
