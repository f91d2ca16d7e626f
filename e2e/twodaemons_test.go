package e2e

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// TestTwoDaemons: two daemons serve one agent. The network shares the load between them by their presence; when one is
// killed only what it was running fails, and that by the network's word. Whatever waited is done by the other.
func TestTwoDaemons(t *testing.T) {
	const concurrency, half = 2, 20
	dir := system.PluginDir(t, map[string]string{"sleeper": filepath.Join(bin.TestPlugins(), "sleeper")}, func(_ string, card map[string]any) {
		card["runtime"].(map[string]any)["concurrency"] = concurrency
		card["runtime"].(map[string]any)["expectedInstances"] = 2
	})
	// The network gives up what the victim had when its clock is set, and nothing before, however slow the machine is.
	const safetyNet = 10 * time.Minute
	_, env := bin.Sandbox(t, dir, "--safety-net", safetyNet.String())
	victim, survivor := bin.Daemon(t, env, dir), bin.Daemon(t, env, dir)

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	consumer, err := system.NewConsumer(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	var tasks []system.Submitted
	submit := func(n int) {
		t.Helper()
		for range n {
			task, err := consumer.Submit(ctx, "sleeper", "200ms")
			if err != nil {
				t.Fatal(err)
			}
			tasks = append(tasks, task)
		}
	}
	submit(half)
	system.Eventually(t, system.CallDeadline, "both daemons have done tasks and the first has one to lose", func() bool {
		if first, second := victim.Status(t).Tasks, survivor.Status(t).Tasks; first.Completed > 0 && second.Completed > 0 && first.Running > 0 {
			return true
		}
		submit(concurrency) // on a slow machine the others may be over by now
		return false
	})
	victim.Kill()
	submit(half) // some go to the victim, which the network does not miss yet

	type result struct {
		end system.Event
		err error
	}
	results := make([]result, len(tasks))
	var left atomic.Int32
	left.Store(int32(len(tasks)))
	var following sync.WaitGroup
	defer func() { cancel(); following.Wait() }()
	for i, task := range tasks {
		following.Go(func() {
			results[i].end, results[i].err = consumer.Await(ctx, task)
			left.Add(-1)
		})
	}
	// A slot is free before the terminal of its task is out, so there may be two tasks to a slot.
	system.Eventually(t, system.CallDeadline, "all is over but for what the victim had", func() bool { return left.Load() <= 2*concurrency && survivor.Status(t).Tasks.Running == 0 })
	clock := "http://" + env.Get("BLOCKSD_PUBNUB_ORIGIN") + "/_sandbox/clock"
	looks := 0
	system.Eventually(t, system.CallDeadline, "the network gives up what the victim had", func() bool {
		if looks%100 == 0 { // the first time it may miss the victim only then, from when on the time counts
			skew := safetyNet * time.Duration(1+looks/100)
			if err := system.Exchange(ctx, http.DefaultClient, http.MethodPut, clock, env.Get("BLOCKSD_SANDBOX_TOKEN"), map[string]string{"skew": skew.String()}, &struct{}{}); err != nil {
				t.Fatal(err)
			}
		}
		looks++
		return left.Load() == 0
	})
	following.Wait()

	failed, completed := 0, 0
	for i, task := range tasks {
		end, err := results[i].end, results[i].err
		switch {
		case err != nil:
			t.Fatal(err)
		case end.State == "completed":
			completed++
		case end.State == "failed" && (strings.Contains(end.Error, "was lost") || strings.Contains(end.Error, "did not start the task in time")): // the network's words
			failed++
		default:
			t.Errorf("task %s: %s %s", task.ID, end.State, end.Error)
		}
		checkStory(ctx, t, consumer, task)
	}
	if failed > 2*concurrency {
		t.Errorf("%d tasks failed with a daemon that runs %d", failed, concurrency)
	}
	done := survivor.Status(t).Tasks
	t.Logf("%d tasks: %d completed, %d of them by the survivor, %d lost with the victim", len(tasks), completed, done.Completed, failed)
	if done.Failed != 0 || done.Completed < half/2 || done.Completed >= completed {
		t.Errorf("the survivor completed %d and failed %d of %d tasks", done.Completed, done.Failed, len(tasks))
	}
	survivor.Stop(t)
}
