package blocks

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// crowdDeadline bounds what many tasks do; nothing is measured with it.
const crowdDeadline = 4 * time.Minute

// TestManyAtOnce: an agent with room for 256 tasks, served by the SDK's own provider, is given 200 at once: all of them
// run at the same time, and each ends once. A thousand tasks later the sandbox holds no more than before.
func TestManyAtOnce(t *testing.T) {
	const burst, waves, workers = 200, 5, 50
	cards := writeCards(t)
	p, env := bin.Sandbox(t, cards, "--keep-finished", strconv.Itoa(burst))
	provide(t, newest, env, filepath.Join(cards, "wide.json"))
	ctx, cancel := context.WithTimeout(t.Context(), crowdDeadline)
	defer cancel()
	consumer, err := system.NewConsumer(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	release := filepath.Join(t.TempDir(), "release")
	text := func(s steps) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	// each does something to all tasks, several at a time.
	each := func(do func(i int) error) {
		t.Helper()
		var all sync.WaitGroup
		next := make(chan int)
		for range workers {
			all.Go(func() {
				for i := range next {
					if err := do(i); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range burst {
			next <- i
		}
		close(next)
		all.Wait()
		if t.Failed() {
			t.FailNow()
		}
	}

	tasks := make([]system.Submitted, burst)
	began := time.Now()
	each(func(i int) (err error) {
		tasks[i], err = consumer.Submit(ctx, "wide", text(steps{{"await_file": release}, done}))
		return err
	})
	each(func(i int) error {
		for {
			events, err := consumer.History(ctx, tasks[i])
			if err != nil || count(events, "terminal") > 0 {
				return fmt.Errorf("task %s does not run: %v, %+v", tasks[i].ID, err, events)
			}
			if count(events, "progress") > 0 {
				return nil
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("task %s has not begun within %s", tasks[i].ID, crowdDeadline)
			}
		}
	})
	t.Logf("%d tasks submitted at once all ran after %s", burst, time.Since(began).Round(10*time.Millisecond))
	if h := held(t, env); h.Running != burst {
		t.Errorf("the network says that %d tasks run, want %d", h.Running, burst)
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	completed := func(s system.Submitted) error {
		end, err := consumer.Await(ctx, s)
		if err == nil && end.State != "completed" {
			err = fmt.Errorf("task %s ended %+v", s.ID, end)
		}
		return err
	}
	each(func(i int) error { return completed(tasks[i]) })
	each(func(i int) error {
		events, err := consumer.History(ctx, tasks[i])
		if n := count(events, "terminal"); err == nil && n != 1 {
			err = fmt.Errorf("task %s has %d terminals: %+v", tasks[i].ID, n, events)
		}
		return err
	})

	idle := func() (h holding) {
		t.Helper()
		system.Eventually(t, crowdDeadline, "nothing runs or waits in the network", func() bool {
			h = held(t, env)
			return h.Running == 0 && h.Queued == 0 && h.Instances == 1
		})
		return h
	}
	before, memory := idle(), resident(t, p.PID())
	for range waves {
		each(func(int) error {
			s, err := consumer.Submit(ctx, "wide", text(steps{done}))
			if err != nil {
				return err
			}
			return completed(s)
		})
	}
	after, now := idle(), resident(t, p.PID())
	t.Logf("%d tasks later: %d tasks, %+v, %d MiB; before %d tasks, %+v, %d MiB", waves*burst, after.Tasks, after.Spaces[0], now>>20, before.Tasks, before.Spaces[0], memory>>20)
	if after.Tasks > before.Tasks+burst/10 {
		t.Errorf("the network remembers %d tasks, before %d", after.Tasks, before.Tasks)
	}
	for i, s := range after.Spaces {
		if b := before.Spaces[i]; s.Channels > 2*b.Channels+100 || s.Messages > 2*b.Messages+1000 || s.Members > 2*b.Members+10 || s.Bytes > 2*b.Bytes+1<<20 {
			t.Errorf("keyset %s holds %+v, before %+v", s.SubscribeKey, s, b)
		}
	}
	if now > 2*memory+64<<20 {
		t.Errorf("the sandbox uses %d bytes of memory, before %d", now, memory)
	}
}

// holding is what a sandbox has.
type holding struct {
	Instances, Tasks, Running, Queued int
	Spaces                            []struct {
		SubscribeKey                string
		Channels, Messages, Members int
		Bytes                       int64
	}
}

func held(t *testing.T, env system.Env) (h holding) {
	t.Helper()
	if err := json.Unmarshal(admin(t, env, http.MethodGet, "", nil), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// count returns how many events are of a type.
func count(events []system.Event, kind string) (n int) {
	for _, e := range events {
		if e.Type == kind {
			n++
		}
	}
	return n
}

// resident is how much memory a process uses.
func resident(t *testing.T, pid int) int64 {
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
