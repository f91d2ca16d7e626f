package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
)

// Here an agent crashes. Its journal is copied at that moment, the road between it and the network is cut so that it
// can say nothing more, and another agent starts with the copy.

func openJournal(t testing.TB, dir string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Config{Dir: dir, Secret: bytes.Repeat([]byte("k"), 32), Timeouts: journal.Timeouts{FlushDelay: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func withJournal(j *journal.Journal) func(*Config) {
	return func(c *Config) { c.Journal = j }
}

// both applies two changes.
func both(one, two func(*Config)) func(*Config) {
	return func(c *Config) {
		one(c)
		two(c)
	}
}

// photograph copies a journal in which nothing is being written. The copy is as good as the file after a crash.
func photograph(t testing.TB, dir string) string {
	t.Helper()
	copied := t.TempDir()
	for _, name := range []string{journal.FileName, journal.LogName} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return copied
}

// photographWhen copies a journal as soon as what the copy says of the agent is as wished.
func photographWhen(t testing.TB, dir, what string, is func(*journal.AgentJournal) bool) (copied string) {
	t.Helper()
	eventually(t, what, func() bool {
		copied = photograph(t, dir)
		j, err := journal.Open(journal.Config{Dir: photograph(t, copied), Secret: bytes.Repeat([]byte("k"), 32)})
		if err != nil {
			return false // it was being written
		}
		defer j.Close()
		b, err := j.Agent("worker")
		return err == nil && is(b)
	})
	return copied
}

// cut answers nothing any more.
func cut(_ http.ResponseWriter, r *http.Request) bool {
	panic(http.ErrAbortHandler)
}

// dying makes an agent of which nothing is expected at its end.
func dying(c *Config) {
	c.Drain, c.CancelGrace = time.Millisecond, time.Millisecond
	c.Timeouts.Terminals, c.Timeouts.Leave = time.Millisecond, time.Millisecond
}

// TestRedeliveryAfterRestart: a task that was done before the restart is not done again; its outcome is.
func TestRedeliveryAfterRestart(t *testing.T) {
	n, dir := newNetwork(t, true), t.TempDir()
	var calls atomic.Int32
	handler := NewFuncDispatcher(func(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
		calls.Add(1)
		return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "the handler's own words"}
	})
	j := openJournal(t, dir)
	a := n.serve(cardOf(t, "worker", 4, ""), handler, withJournal(j))
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	n.terminal("t1")
	a.stop()
	if err := a.ended(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	b := n.serve(cardOf(t, "worker", 4, ""), handler, withJournal(openJournal(t, dir)))
	b.await(StateOnline)
	b.control(startTask("t1", ""))
	b.control(`{"type":"Dance"}`) // behind it
	eventually(t, "it is answered", func() bool { return b.Status().Counts.Ignored == 1 && b.answered() })
	n.same("t1", "running failed:the handler's own words")
	if calls.Load() != 1 {
		t.Errorf("the handler was called %d times", calls.Load())
	}
}

// TestMessagesWhileAway: what was sent while the daemon was down is done after its start, once.
func TestMessagesWhileAway(t *testing.T) {
	n, dir := newNetwork(t, true), t.TempDir()
	st := newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, both(both(n.through(f), dying), withJournal(openJournal(t, dir))))
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	call := st.next(t)
	n.awaitRunning("t1")
	call.result <- nil
	n.terminal("t1")
	photographWhen(t, dir, "all is on the disk", func(b *journal.AgentJournal) bool {
		done, err := b.Finished()
		return err == nil && len(done) == 1 && b.Cursor(a.channelName()) != ""
	})
	f.set(cut)
	a.control(`{"type":"PauseTask","taskId":"t1"}`) // ends the poll that is being held
	a.await(StateConnecting)
	away := photograph(t, dir)
	a.control(startTask("t2", ""))

	st2 := newStage()
	b := n.serve(cardOf(t, "worker", 4, ""), st2, withJournal(openJournal(t, away)))
	b.await(StateOnline)
	call = st2.next(t)
	if call.task.ID != "t2" {
		t.Errorf("task %s came", call.task.ID)
	}
	call.result <- nil
	n.terminal("t2")
	n.same("t2", "running completed")
	n.same("t1", "running completed")
	st2.none(t)
}

// TestCrashBeforeTheFirstMessage: from when on the network knows an agent, a crash loses nothing that it is sent, although
// the journal writes only what is waited for.
func TestCrashBeforeTheFirstMessage(t *testing.T) {
	n, dir := newNetwork(t, true), t.TempDir()
	j, err := journal.Open(journal.Config{Dir: dir, Secret: bytes.Repeat([]byte("k"), 32), Timeouts: journal.Timeouts{FlushDelay: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), newStage(), both(both(n.through(f), dying), withJournal(j)))
	a.await(StateOnline)
	left := photograph(t, dir)
	f.set(cut)
	a.control(`{"type":"PauseTask","taskId":"none"}`) // ends the poll that is being held
	a.await(StateConnecting)
	a.control(startTask("t1", ""))

	st := newStage()
	b := n.serve(cardOf(t, "worker", 4, ""), st, withJournal(openJournal(t, left)))
	b.await(StateOnline)
	call := st.next(t)
	if call.task.ID != "t1" {
		t.Errorf("task %s came", call.task.ID)
	}
	call.result <- nil
	n.terminal("t1")
}

// servedUntilNow returns an agent that was online and has ended properly; its journal is in dir.
func (n *network) servedUntilNow(c card.Card, dir string) *served {
	n.t.Helper()
	j := openJournal(n.t, dir)
	a := n.serve(c, newStage(), withJournal(j))
	a.await(StateOnline)
	a.stop()
	if err := errors.Join(a.ended(), j.Close()); err != nil {
		n.t.Fatal(err)
	}
	return a
}

// TestTakenWhileAway: of what was sent long before the daemon came back, another instance may have taken something: that
// is not done twice, neither run nor refused. What nobody took is done.
func TestTakenWhileAway(t *testing.T) {
	for _, concurrency := range []int{1, 4} {
		t.Run(fmt.Sprint("concurrency ", concurrency), func(t *testing.T) {
			n, dir := newNetwork(t, true), t.TempDir()
			a := n.servedUntilNow(cardOf(t, "worker", concurrency, ""), dir)
			a.control(startTask("free", ""))
			a.control(startTask("taken", ""))
			a.control(startTask("over", ""))
			n.store("taken", wire.RunningEvent("taken"))
			n.giveUp("over")

			st := newStage()
			b := n.serve(cardOf(t, "worker", concurrency, ""), st, both(withJournal(openJournal(t, dir)), func(c *Config) {
				c.Timeouts.Late = time.Nanosecond // everything is long ago
			}))
			b.await(StateOnline)
			call := st.next(t)
			if call.task.ID != "free" {
				t.Errorf("task %s came", call.task.ID)
			}
			call.result <- nil
			n.terminal("free")
			eventually(t, "nothing is in flight", func() bool {
				b.mu.Lock()
				defer b.mu.Unlock()
				return len(b.tasks.jobs) == 0 && b.tasks.refusing == 0
			})
			n.same("free", "running completed")
			n.same("taken", "running")
			n.same("over", "failed:lost")
			st.none(t)
		})
	}
}

// TestTakenAndNotKnown: an agent that was away takes up an order that another instance has taken meanwhile, and ends, by
// a crash or properly, before the network could say so. It does not end the task of the other.
func TestTakenAndNotKnown(t *testing.T) {
	for _, crash := range []bool{true, false} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			t.Parallel()
			n, dir := newNetwork(t, true), t.TempDir()
			a := n.servedUntilNow(cardOf(t, "worker", 4, ""), dir)
			a.control(startTask("taken", ""))
			n.store("taken", wire.RunningEvent("taken"))

			st := newStage()
			f := n.fault()
			asked := make(chan struct{})
			once := sync.OnceFunc(func() { close(asked) })
			f.set(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/history/") {
					return false
				}
				once()
				return cut(w, r)
			})
			b := n.serve(cardOf(t, "worker", 4, ""), st, both(both(n.through(f), dying), both(withJournal(openJournal(t, dir)), func(c *Config) {
				c.Timeouts.Late = time.Nanosecond // everything is long ago
				c.Drain, c.Timeouts.Terminals = time.Millisecond, patience
			})))
			<-asked
			if crash {
				dir = photograph(t, dir)
				f.set(cut)
				b = n.serve(cardOf(t, "worker", 4, ""), st, withJournal(openJournal(t, dir)))
				eventually(t, "the outbox is empty", func() bool { return b.Status().Counts.Outbox == 0 })
				f.set(nil) // lets the first agent end
			} else {
				b.stop()
				eventually(t, "its tasks are asked to end", func() bool {
					b.mu.Lock()
					defer b.mu.Unlock()
					return b.tasks.cancelReason == dispatch.CancelDrain
				})
				f.set(nil)
				if err := b.ended(); err != nil {
					t.Fatal(err)
				}
			}
			n.same("taken", "running")
			st.none(t)
		})
	}
}

// giveUp has the network end a task by itself.
func (n *network) giveUp(id string) {
	n.t.Helper()
	n.store(id, wire.TerminalEvent(id, wire.Terminal{State: wire.Failed, Error: "lost"}))
}

// store publishes an event of a task that is not the agent's.
func (n *network) store(id string, body []byte) { n.storeBy(n.driver, id, body) }

// storeBy publishes an event of a task through a link.
func (n *network) storeBy(l *link.Link, id string, body []byte) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := l.Publish(ctx, link.Message{
		Channel: wire.TaskChannel("org", id), Meta: wire.EventMeta("worker", id, ""), Store: true, Body: body,
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// TestOutageOfANetworkThatGaveUp: the network ended the task itself while the agent was out of its sight, so the
// agent's outcome is not a second one; also when that end is far back on the task's channel.
func TestOutageOfANetworkThatGaveUp(t *testing.T) {
	for _, tc := range []struct {
		journaled bool
		later     int // events that follow the network's end
	}{{false, 0}, {true, 0}, {true, 249}} {
		t.Run(fmt.Sprintf("journal %v, %d later events", tc.journaled, tc.later), func(t *testing.T) {
			t.Parallel()
			n, st := newNetwork(t, true), newStage()
			f := n.fault()
			change := n.through(f)
			if tc.journaled {
				change = both(change, withJournal(openJournal(t, t.TempDir())))
			}
			a := n.serve(cardOf(t, "worker", 4, ""), st, change)
			a.await(StateOnline)
			a.control(startTask("t1", ""))
			call := st.next(t)
			n.awaitRunning("t1")
			f.set(cut)
			a.control(`{"type":"PauseTask","taskId":"t1"}`) // ends the poll that is being held
			a.await(StateConnecting)
			n.giveUp("t1")
			for range tc.later {
				n.store("t1", []byte(`{"type":"system","taskId":"t1","status":"x"}`))
			}
			f.set(nil)
			a.await(StateOnline)
			call.result <- nil
			eventually(t, "the task is over", func() bool { return len(a.Tasks()) == 0 })
			if got := strings.Join(strings.Fields(n.story("t1")), " "); got != "running failed:lost" {
				t.Errorf("the story is %s", got)
			}
		})
	}
}

// TestLongPublish: a publish of a terminal that takes longer than the presence timeout ends with a question.
func TestLongPublish(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, both(n.through(f), func(c *Config) { c.Timeouts.Uncertain = 50 * time.Millisecond }))
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	call := st.next(t)
	n.awaitRunning("t1")
	var failed atomic.Int32
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		return isPublish(r) && failed.Add(1) > 0 && refuse(w, http.StatusServiceUnavailable)
	})
	call.result <- nil
	eventually(t, "the publish has failed", func() bool { return failed.Load() > 0 })
	n.giveUp("t1")
	eventually(t, "the task is over", func() bool { return len(a.Tasks()) == 0 })
	f.set(nil)
	n.same("t1", "running failed:lost")
}

// TestRefusalIsAnOutcome: a refused task is not run after a restart either.
func TestRefusalIsAnOutcome(t *testing.T) {
	n, dir := newNetwork(t, true), t.TempDir()
	j := openJournal(t, dir)
	st := newStage()
	a := n.serve(cardOf(t, "worker", 1, ""), st, withJournal(j))
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	call := st.next(t)
	a.control(startTask("t2", ""))
	n.terminal("t2")
	call.result <- nil
	n.terminal("t1")
	a.stop()
	if err := a.ended(); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	st2 := newStage()
	b := n.serve(cardOf(t, "worker", 1, ""), st2, withJournal(openJournal(t, dir)))
	b.await(StateOnline)
	b.control(startTask("t2", ""))
	b.control(`{"type":"Dance"}`) // behind it
	eventually(t, "it is answered", func() bool { return b.Status().Counts.Ignored == 1 && b.answered() })
	n.same("t2", "failed:agent_at_capacity")
	st2.none(t)
}
