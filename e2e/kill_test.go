package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// kills is how often the daemon is killed; BLOCKSD_SOAK asks for more.
func kills(t *testing.T) int {
	text := os.Getenv("BLOCKSD_SOAK")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("BLOCKSD_SOAK=%q is no number of kills", text)
	}
	return n
}

// TestKill kills the daemon at random moments under load, each time starts it again with the same state, and then looks
// at every task: it has exactly one terminal event, and was begun once at most.
func TestKill(t *testing.T) {
	const longest = 700 * time.Millisecond // from a start to the next kill: start-up and some work
	dir := system.PluginDir(t, map[string]string{
		"echo":    filepath.Join(bin.Plugins(), "echo"),
		"sleeper": filepath.Join(bin.TestPlugins(), "sleeper"),
	}, nil)
	// As many as a fast machine ends while others are looked at: a task that the sandbox forgot has no story.
	_, env := bin.Sandbox(t, dir, "--keep-finished", "1000000")
	state := t.TempDir()
	socket := filepath.Join(state, "s")
	n := &system.Network{Binaries: bin, StateDir: state, Env: env.With("BLOCKSD_SOCKET", socket)}
	start := func() {
		n.Process = bin.Start(t, env, "run", "--plugins", dir, "--state-dir", state, "--socket", socket)
	}
	start()
	n.WaitReady(t)

	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(kills(t))*5*time.Second+4*time.Minute)
	defer cancel()
	consumer, err := system.NewConsumer(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	var (
		load  sync.WaitGroup
		stop  = make(chan struct{})
		mu    sync.Mutex // guards what follows
		ended []system.Submitted
		ends  = map[string]int{}
	)
	agents := []struct{ name, text string }{{"echo", "hello"}, {"sleeper", "0s"}, {"sleeper", "30ms"}, {"sleeper", "300ms"}}
	for i := range 16 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a := agents[i%len(agents)]
				task, err := consumer.Submit(ctx, a.name, a.text)
				if err != nil {
					t.Errorf("submit: %v", err)
					return
				}
				end, err := consumer.Await(ctx, task)
				if err != nil {
					t.Errorf("task %s of %s has no end: %v", task.ID, a.name, err)
					return
				}
				mu.Lock()
				ended = append(ended, task)
				ends[end.State+" "+end.Error]++
				mu.Unlock()
			}
		})
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	checked := 0
	check := func(tasks []system.Submitted) {
		checked += len(tasks)
		for _, task := range tasks {
			checkStory(ctx, t, consumer, task)
		}
	}
	// Tasks are looked at some restarts after their end, in which a second one could come.
	var rounds [][]system.Submitted
	for range kills(t) {
		time.Sleep(time.Duration(random.Int64N(int64(longest)))) // the random moment
		n.Kill()
		start()
		mu.Lock()
		rounds = append(rounds, ended)
		ended = nil
		mu.Unlock()
		if len(rounds) > 5 {
			check(rounds[0])
			rounds = rounds[1:]
		}
	}
	n.WaitReady(t)
	close(stop)
	load.Wait()
	system.Eventually(t, system.CallDeadline, "nothing is in flight", func() bool {
		s := n.Status(t)
		return s.Tasks.Running == 0 && s.Tasks.Outbox == 0
	})
	for _, r := range append(rounds, ended) {
		check(r)
	}
	t.Logf("%d kills, %d tasks ended: %v", kills(t), checked, ends)
	if checked < kills(t) {
		t.Errorf("only %d tasks: that was no load", checked)
	}
	n.Stop(t)
}

// checkStory looks at all that the network has of a task.
func checkStory(ctx context.Context, t *testing.T, consumer *system.Consumer, task system.Submitted) {
	t.Helper()
	events, err := consumer.History(ctx, task)
	if err != nil {
		t.Fatal(err)
	}
	var story []string
	running, terminals := 0, 0
	for _, e := range events {
		story = append(story, fmt.Sprint(e.Type, " ", e.State, e.Message, e.Error))
		switch {
		case e.Type == "terminal":
			terminals++
		case terminals > 0:
			t.Errorf("task %s goes on after its end", task.ID)
		case e.Type == "progress" && e.State == "running":
			running++
		}
	}
	if terminals != 1 || running > 1 {
		t.Errorf("task %s: %q", task.ID, story)
	}
}
