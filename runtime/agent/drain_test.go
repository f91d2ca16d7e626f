package agent

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// timeless does not tell the time: the sandbox's clock is the agent's, and a clock that is read on a busy machine is not
// exact.
func timeless(w http.ResponseWriter, r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/time/") && refuse(w, http.StatusServiceUnavailable)
}

// closesAtOnce makes a draining agent that takes nothing that is sent when the network knows that it is full.
func closesAtOnce(c *Config) { c.Timeouts.DrainOpen = time.Nanosecond }

// closes waits until the agent takes nothing that is sent from now on.
func (a *served) closes() {
	a.n.t.Helper()
	eventually(a.n.t, "the network knows that the agent is full", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.life.Closed(a.cfg.Now()) != ""
	})
}

func TestDrain(t *testing.T) {
	t.Run("waits", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		f := n.fault()
		f.set(timeless)
		a := n.serve(cardOf(t, "worker", 8, ""), st, both(n.through(f), closesAtOnce))
		a.await(StateOnline)
		a.control(startTask("d1", ""))
		a.control(startTask("d2", ""))
		c, other := st.next(t), st.next(t)
		if c.task.ID != "d1" {
			c, other = other, c
		}
		a.stop()
		a.await(StateDraining)
		eventually(t, "the agent announces itself full", func() bool {
			state, there := n.present(a.channelName(), a.cfg.InstanceID)
			return there && state.ActiveTasks == 8
		})
		a.closes()
		a.control(startTask("d3", ""))
		n.terminal("d3")
		n.same("d3", "failed:agent_at_capacity")
		a.control(`{"type":"CancelTask","taskId":"d1"}`)
		if reason := c.asked(t); reason != dispatch.CancelUser {
			t.Errorf("reason %v", reason)
		}
		c.result <- nil
		n.terminal("d1")
		if _, there := n.present(a.channelName(), a.cfg.InstanceID); !there {
			t.Error("the agent left while a task runs, so the network will end it")
		}
		other.result <- nil
		if err := a.ended(); err != nil {
			t.Error(err)
		}
		if s := a.Status(); s.State != StateOffline || s.Running != 0 || s.Counts.Outbox != 0 {
			t.Errorf("status %+v", s)
		}
		n.same("d1", "running canceled")
		n.same("d2", "running completed")
		if _, there := n.present(a.channelName(), a.cfg.InstanceID); there {
			t.Error("the agent is still present")
		}
	})
	t.Run("takes what was sent before the network knew", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		f := n.fault()
		f.set(timeless)
		a := n.serve(cardOf(t, "worker", 8, ""), st, both(n.through(f), closesAtOnce))
		a.await(StateOnline)
		a.control(startTask("d1", ""))
		first := st.next(t)
		known := make(chan struct{})
		f.set(func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasPrefix(r.URL.Path, "/v2/presence/") {
				select {
				case <-known:
				case <-r.Context().Done():
				}
			}
			return timeless(w, r)
		})
		a.stop()
		a.await(StateDraining)
		a.control(startTask("d2", ""))
		st.next(t).result <- nil
		n.terminal("d2")
		close(known)
		a.closes()
		first.result <- nil
		_ = a.ended()
		n.same("d2", "running completed")
	})
	t.Run("takes what was sent before, and comes late", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		f := n.fault()
		f.set(timeless)
		a := n.serve(cardOf(t, "worker", 8, ""), st, both(n.through(f), closesAtOnce))
		a.await(StateOnline)
		a.control(startTask("d1", ""))
		first := st.next(t)
		polls, comes := make(chan struct{}), make(chan struct{})
		once := sync.OnceFunc(func() { close(polls) })
		f.set(func(w http.ResponseWriter, r *http.Request) bool {
			if isSubscribe(r) {
				once()
				select {
				case <-comes:
				case <-r.Context().Done():
				}
			}
			return timeless(w, r)
		})
		a.control(`{"type":"PauseTask","taskId":"d1"}`) // ends the poll that is held
		<-polls
		a.control(startTask("d2", ""))
		a.stop()
		a.closes()
		close(comes)
		st.next(t).result <- nil
		n.terminal("d2")
		first.result <- nil
		_ = a.ended()
		n.same("d2", "running completed")
	})
	t.Run("cancels", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		a := n.serve(cardOf(t, "worker", 8, ""), st, func(c *Config) { c.Drain = 50 * time.Millisecond })
		a.await(StateOnline)
		a.control(startTask("d1", ""))
		c := st.next(t)
		a.stop()
		if reason := c.asked(t); reason != dispatch.CancelDrain {
			t.Errorf("reason %v", reason)
		}
		n.terminal("d1") // the handler never obeys
		c.result <- nil
		if err := a.ended(); err != nil {
			t.Error(err)
		}
		n.same("d1", "running canceled")
	})
	t.Run("canceled now", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		a := n.serve(cardOf(t, "worker", 8, ""), st, func(c *Config) { c.Drain, c.Timeouts.DrainOpen = time.Hour, time.Hour })
		a.await(StateOnline)
		a.control(startTask("h1", ""))
		c := st.next(t)
		a.stop()
		a.await(StateDraining)
		a.CancelNow()
		if reason := c.asked(t); reason != dispatch.CancelShutdown {
			t.Errorf("reason %v", reason)
		}
		a.control(startTask("h2", ""))
		n.terminal("h2")
		c.result <- nil
		if err := a.ended(); err != nil {
			t.Error(err)
		}
		n.same("h1", "running canceled") // to the consumer the agent canceled it, nobody terminated it
		n.same("h2", "failed:agent_at_capacity")
	})
	t.Run("a call that never returns", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		a := n.serve(cardOf(t, "worker", 8, ""), st, func(c *Config) {
			c.Drain, c.Timeouts.CallEnd, c.Timeouts.Terminals = 0, 50*time.Millisecond, 3*time.Second
		})
		a.await(StateOnline)
		a.control(startTask("d1", ""))
		c := st.next(t)
		a.stop()
		if err := a.ended(); err != nil {
			t.Error(err)
		}
		n.same("d1", "running canceled")
		c.result <- nil
	})
}

// TestEndReachesTasksOnTheirWayIn: a task that has been admitted and is not known yet is asked to end with the others.
func TestEndReachesTasksOnTheirWayIn(t *testing.T) {
	for _, journaled := range []bool{false, true} {
		t.Run(fmt.Sprint("journal ", journaled), func(t *testing.T) {
			n := newNetwork(t, true)
			a := n.serve(cardOf(t, "worker", 8, ""), NewFuncDispatcher(func(ctx context.Context, _ *wire.Task, _ dispatch.TaskPort) error {
				<-ctx.Done()
				return ctx.Err()
			}), func(c *Config) {
				if c.Drain = time.Hour; journaled {
					c.Journal = openJournal(t, t.TempDir())
				}
			})
			a.await(StateOnline)
			a.mu.Lock()
			work := a.conn.session.work
			a.conn.session.work = func() (context.Context, context.CancelFunc) { // asked for in between
				a.CancelNow()
				return work()
			}
			a.mu.Unlock()
			a.control(startTask("h1", ""))
			if e := n.terminal("h1"); e.State != wire.Canceled {
				t.Errorf("%s %s", e.State, e.Error)
			}
			a.stop()
			if err := a.ended(); err != nil {
				t.Error(err)
			}
		})
	}
}
