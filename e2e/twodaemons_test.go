package e2e

import (
	"context"
	"path/filepath"
	"strings"
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
	_, env := bin.Sandbox(t, dir, "--safety-net", "5s") // also the time that a busy machine has to begin a task
	victim, survivor := bin.Daemon(t, env, dir), bin.Daemon(t, env, dir)

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
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

	failed, completed := 0, 0
	for _, task := range tasks {
		end, err := consumer.Await(ctx, task)
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
	// A slot is free before the terminal of its task is out, so there may be two tasks to a slot.
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
