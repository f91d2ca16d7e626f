package blocks

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// alive keeps an instance present for a while.
func (w *world) alive(agent, id string, active int, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(5 * time.Second)
		w.state(agent, id, active, 4)
	}
	synctest.Wait()
}

func TestTaskThatRunsTooLong(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 4, func(s *AgentSpec) { s.MaxRunning = 30 * time.Second })
		w.online("a", "x")
		stuck, quick := w.submit("a"), w.submit("a")
		pipe, dispatch, err := w.SendMessage(w.owner, SendRequest{AgentName: "a", BillingMode: wire.Free, Kind: wire.Pipe, Minutes: 5})
		if err != nil {
			t.Fatal(err)
		}
		dispatch()
		for _, r := range []SendResult{stuck, quick, pipe} {
			w.event(r, "x", wire.RunningEvent(r.TaskID))
		}
		w.alive("a", "x", 3, 20*time.Second)
		w.event(quick, "x", wire.TerminalEvent(quick.TaskID, wire.Terminal{State: wire.Completed}))
		w.equal([]string{"request ", "progress running"}, w.events(stuck))
		w.alive("a", "x", 2, 20*time.Second)
		w.equal([]string{"request ", "progress running", "terminal failed"}, w.events(stuck))
		w.equal([]string{"request ", "progress running", "terminal completed"}, w.events(quick))
		w.equal([]string{"request ", "progress running"}, w.events(pipe)) // it has its duration
	})
}

func TestTaskThatIsNeverTakenUp(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 4, nil)
		w.online("a", "x")
		r := w.submit("a")
		w.alive("a", "x", 0, 55*time.Second)
		w.equal([]string{"request "}, w.events(r))
		w.alive("a", "x", 0, 15*time.Second)
		w.equal([]string{"request ", "terminal failed"}, w.events(r))
	})
}

func TestSwitchEnvironment(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 2, nil)
		w.online("a", "x")
		running, given := w.submit("a"), w.submit("a")
		w.event(running, "x", wire.RunningEvent(running.TaskID))
		waiting := w.submit("a")
		if err := w.SwitchEnvironment("a", wire.Paid); err != nil {
			t.Fatal(err)
		}
		w.equal([]string{"x StartTask 0", "x StartTask 1", "x SwitchEnvironment -1"}, w.orders("a", running, given))
		w.equal([]string{"request ", "terminal failed"}, w.events(waiting))
		w.event(given, "x", wire.RunningEvent(given.TaskID))
		w.event(given, "x", wire.TerminalEvent(given.TaskID, wire.Terminal{State: wire.Completed}))

		old := w.space
		w.space = w.Environment(wire.Paid).Space
		if a, err := w.Agent(w.owner, "a"); err != nil || a.BillingMode != wire.Paid || a.OnlineCount != 0 {
			t.Errorf("agent %+v, %v", a, err)
		}
		c, err := w.Connect(w.owner, ConnectRequest{AgentName: "a", InstanceID: "x", BillingMode: wire.Paid})
		if err != nil {
			t.Fatal(err)
		}
		w.comeOnline(c.ControlChannel, "x")
		synctest.Wait()
		if err := w.Cancel(w.owner, running.TaskID); err != nil { // of a task that began over there
			t.Fatal(err)
		}
		w.equal([]string{"x CancelTask 0"}, w.orders("a", running))
		w.space = old
		w.event(running, "x", wire.TerminalEvent(running.TaskID, wire.Terminal{State: wire.Canceled}))
		w.equal([]string{"request ", "progress running", "cancel_requested ", "terminal canceled"}, w.events(running))
		w.equal([]string{"request ", "progress running", "terminal completed"}, w.events(given))
	})
}

func TestNothingIsLeftOfFinishedTasks(t *testing.T) {
	inWorld(t, func(c *Config) { c.KeepFinished = 4 }, func(w *world) {
		w.register("a", 4, toAll)
		w.online("a", "x")
		for range 50 {
			r := w.submit("a")
			w.event(r, "x", wire.RunningEvent(r.TaskID))
			w.event(r, "x", wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Completed}))
			w.state("a", "x", 0, 4)
		}
		synctest.Wait()
		if st := w.Stats(); st.Tasks != 4 || st.Running != 0 || st.Queued != 0 {
			t.Errorf("%+v", st)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if a := w.registry.agents["a"]; len(a.unclaimed) != 0 {
			t.Errorf("%d broadcasts are left", len(a.unclaimed))
		}
	})
}

// TestOldFinishedTasksAreForgotten: a finished task goes after its time, with its events, its files and its streams.
func TestOldFinishedTasksAreForgotten(t *testing.T) {
	inWorld(t, func(c *Config) { c.KeepFinishedFor = time.Minute }, func(w *world) {
		w.register("a", 4, streamed)
		w.online("a", "x")
		synctest.Wait()
		before := w.space.Stats().Channels
		for _, kind := range []wire.TaskKind{wire.Request, wire.Pipe} {
			r := w.streaming(kind)
			w.ask(r, kind, nil)
			w.space.Publish(pubsub.Publication{Channel: wire.StreamChannel("a", r.TaskID+"-1"), Body: []byte(`1`)})
			w.event(r, "x", wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Completed}))
			w.state("a", "x", 0, 4)
		}
		time.Sleep(50 * time.Second)
		if st := w.Stats(); st.Tasks != 2 {
			t.Errorf("too early: %+v", st)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if st := w.Stats(); st.Tasks != 0 {
			t.Errorf("too late: %+v", st)
		}
		if left := w.space.Stats().Channels; left != before {
			t.Errorf("%d channels are left, of %d", left, before)
		}
	})
}
