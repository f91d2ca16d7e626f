package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// world is a network in a bubble of its own time, with instances that tests play by hand.
type world struct {
	*Network
	t        *testing.T
	owner    *Principal
	space    *pubsub.Space
	channels map[string]string // control channel by agent
	joinedAt int64             // cursor of the newest instance
}

func inWorld(t *testing.T, change func(*Config), test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{
			Playground:    wire.Keyset{PublishKey: "pf", SubscribeKey: "sf"},
			Network:       wire.Keyset{PublishKey: "pp", SubscribeKey: "sp"},
			Organizations: []Organization{{ID: "o1", UserID: "u1", APIKey: "k1"}, {ID: "o2", UserID: "u2", APIKey: "k2"}},
		}
		if change != nil {
			change(&cfg)
		}
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()
		w := &world{Network: n, t: t, space: n.Environment(wire.Free).Space, channels: map[string]string{}}
		if w.owner, err = n.ByKey("k1"); err != nil {
			t.Fatal(err)
		}
		test(w)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (w *world) register(name string, concurrency int, change func(*AgentSpec)) {
	w.t.Helper()
	spec := AgentSpec{Name: name, OrgID: "o1", BillingMode: wire.Free, Concurrency: concurrency}
	if change != nil {
		change(&spec)
	}
	if err := w.Register(spec); err != nil {
		w.t.Fatal(err)
	}
}

// online connects an instance and makes it ready.
func (w *world) online(agent, id string) {
	w.t.Helper()
	c, err := w.Connect(w.owner, ConnectRequest{AgentName: agent, InstanceID: id, BillingMode: wire.Free})
	if err != nil {
		w.t.Fatal(err)
	}
	w.channels[agent] = c.ControlChannel
	w.comeOnline(c.ControlChannel, id)
}

func (w *world) comeOnline(channel, id string) {
	sub := pubsub.Subscription{Channels: []string{channel}, UUID: id, Timeout: 20 * time.Second, Join: true}
	sub.Cursor = w.space.Handshake(sub)
	w.joinedAt = sub.Cursor
	w.space.Open(sub).Close(true)
}

func (w *world) state(agent, id string, active, concurrency int) {
	raw, _ := json.Marshal(wire.NewPresenceState(id, active, concurrency, time.Now()))
	w.space.SetState([]string{w.channels[agent]}, id, raw)
}

func (w *world) leave(agent, id string) { w.space.Leave([]string{w.channels[agent]}, id) }

func (w *world) submit(agent string) SendResult {
	w.t.Helper()
	res, dispatch, err := w.SendMessage(w.owner, SendRequest{AgentName: agent, BillingMode: wire.Free, Kind: wire.Request})
	if err != nil {
		w.t.Fatal(err)
	}
	dispatch()
	return res
}

func (w *world) event(r SendResult, instance string, body []byte) {
	w.space.Publish(pubsub.Publication{Channel: r.Channel, Publisher: instance, Body: body, Store: true})
}

// orders lists what has been sent on an agent's control channel: instance, type and the number of the task.
func (w *world) orders(agent string, tasks ...SendResult) []string {
	synctest.Wait()
	p := w.space.Open(pubsub.Subscription{Channels: []string{w.channels[agent]}, Cursor: 1})
	defer p.Close(false)
	b, _ := p.Next()
	var answer struct {
		M []struct {
			U struct{ Instance string }
			D struct{ Type, TaskID string }
		}
	}
	if err := json.Unmarshal(b.AppendAnswer(nil), &answer); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, m := range answer.M {
		i := slices.IndexFunc(tasks, func(r SendResult) bool { return r.TaskID == m.D.TaskID })
		out = append(out, fmt.Sprintf("%s %s %d", m.U.Instance, m.D.Type, i))
	}
	return out
}

func (w *world) events(r SendResult) []string {
	synctest.Wait()
	var out []string
	for _, m := range w.space.History(pubsub.HistoryQuery{Channel: r.Channel, Max: 100}) {
		e, err := wire.DecodeEvent(m.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, string(e.Type)+" "+string(e.State))
	}
	return out
}

func (w *world) equal(want, got []string) {
	w.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Error(diff)
	}
}

func TestDispatchBalancesAndQueues(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 2, nil)
		w.online("a", "x")
		w.online("a", "y")
		var rs []SendResult
		for i := range 6 {
			r := w.submit("a")
			if want := i >= 4; r.Queued != want {
				t.Errorf("task %d queued: %v", i, r.Queued)
			}
			rs = append(rs, r)
		}
		got := w.orders("a", rs...)
		if len(got) != 4 {
			t.Fatalf("orders: %v", got)
		}
		per := map[string]int{}
		for _, line := range got {
			per[line[:1]]++
		}
		if per["x"] != 2 || per["y"] != 2 {
			t.Errorf("orders: %v", got)
		}
		// The state frees the slot, and the queue is first come, first served.
		w.state("a", "y", 0, 2)
		first := slices.IndexFunc(got, func(s string) bool { return s[:1] == "y" })
		var number int
		fmt.Sscanf(got[first], "y StartTask %d", &number)
		w.event(rs[number], "y", wire.RunningEvent(rs[number].TaskID))
		w.event(rs[number], "y", wire.TerminalEvent(rs[number].TaskID, wire.Terminal{State: wire.Completed}))
		if n := len(w.orders("a", rs...)); n != 4 {
			t.Errorf("%d orders after the terminal, before the state", n)
		}
		w.state("a", "y", 1, 2)
		w.state("a", "y", 0, 2)
		if got := w.orders("a", rs...); len(got) != 5 || got[4] != "y StartTask 4" {
			t.Errorf("orders: %v", got)
		}
	})
}

func TestPendingTasksOfALostInstanceGoElsewhere(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 3, nil)
		w.online("a", "x")
		r0, r1, r2 := w.submit("a"), w.submit("a"), w.submit("a")
		w.orders("a")
		w.event(r1, "x", wire.RunningEvent(r1.TaskID))
		w.leave("a", "x")
		w.online("a", "y")
		w.equal([]string{"x StartTask 0", "x StartTask 1", "x StartTask 2", "y StartTask 0", "y StartTask 2"}, w.orders("a", r0, r1, r2))
		// The running one is ended after the safety net, once.
		time.Sleep(59 * time.Second)
		w.equal([]string{"request ", "progress running"}, w.events(r1))
		time.Sleep(2 * time.Second)
		w.equal([]string{"request ", "progress running", "terminal failed"}, w.events(r1))
	})
}

func TestInstanceThatComesBackKeepsItsTasks(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 3, nil)
		w.online("a", "x")
		r := w.submit("a")
		w.orders("a")
		w.event(r, "x", wire.RunningEvent(r.TaskID))
		w.leave("a", "x")
		time.Sleep(30 * time.Second)
		w.online("a", "x")
		time.Sleep(5 * time.Minute)
		w.equal([]string{"request ", "progress running"}, w.events(r))
	})
}

func TestTaskThatItsLostInstanceRunsAfterAllIsNotSentAgain(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, nil)
		w.online("a", "x")
		r := w.submit("a")
		w.orders("a")
		w.leave("a", "x")
		w.event(r, "x", wire.RunningEvent(r.TaskID))
		w.online("a", "y")
		w.equal([]string{"x StartTask 0"}, w.orders("a", r))
		w.event(r, "x", wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Completed}))
		time.Sleep(5 * time.Minute)
		w.equal([]string{"request ", "progress running", "terminal completed"}, w.events(r))
	})
}

func TestTaskThatNobodyTakesUpFails(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, nil)
		w.online("a", "x")
		r := w.submit("a")
		time.Sleep(time.Minute + 2*sweepInterval)
		w.equal([]string{"request ", "terminal failed"}, w.events(r))
	})
}

func TestCancelBudget(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 2, nil)
		w.online("a", "x")
		r0, r1 := w.submit("a"), w.submit("a")
		w.orders("a")
		for _, r := range []SendResult{r0, r1, r1} {
			if err := w.Cancel(w.owner, r.TaskID); err != nil {
				t.Fatal(err)
			}
		}
		w.event(r0, "x", wire.TerminalEvent(r0.TaskID, wire.Terminal{State: wire.Canceled}))
		time.Sleep(29 * time.Second)
		w.equal([]string{"request ", "cancel_requested "}, w.events(r1))
		time.Sleep(2 * time.Second)
		w.equal([]string{"request ", "cancel_requested ", "terminal canceled"}, w.events(r0))
		w.equal([]string{"request ", "cancel_requested ", "terminal canceled"}, w.events(r1))
		w.equal([]string{"x StartTask 0", "x StartTask 1", "x CancelTask 0", "x CancelTask 1", "x CancelTask 1"}, w.orders("a", r0, r1))
	})
}

func TestPipeExpires(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, nil)
		w.online("a", "x")
		r, dispatch, err := w.SendMessage(w.owner, SendRequest{AgentName: "a", BillingMode: wire.Free, Kind: wire.Pipe, Minutes: 2})
		if err != nil {
			t.Fatal(err)
		}
		w.equal(nil, w.orders("a", r)) // not before the answer
		dispatch()
		w.event(r, "x", wire.RunningEvent(r.TaskID))
		time.Sleep(2*time.Minute + time.Second)
		w.equal([]string{"x StartTask 0", "x ExpireTask 0"}, w.orders("a", r))
		time.Sleep(30 * time.Second)
		w.equal([]string{"request ", "progress running", "terminal completed"}, w.events(r))
	})
}

func TestBacklog(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		two := 2
		w.register("a", 1, func(s *AgentSpec) { s.MaxPendingBacklog = &two })
		w.submit("a")
		r := w.submit("a")
		_, _, err := w.SendMessage(w.owner, SendRequest{AgentName: "a", BillingMode: wire.Free, Kind: wire.Request})
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBacklog {
			t.Errorf("third task: %v", err)
		}
		if err := w.Cancel(w.owner, r.TaskID); err != nil {
			t.Fatal(err)
		}
		w.submit("a") // the canceled one no longer counts
	})
}

func TestFinishedTasksAreForgotten(t *testing.T) {
	inWorld(t, func(c *Config) { c.KeepFinished = 3 }, func(w *world) {
		w.register("a", 0, nil)
		w.online("a", "x")
		var rs []SendResult
		for range 10 {
			r := w.submit("a")
			w.event(r, "x", wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Completed}))
			rs = append(rs, r)
		}
		synctest.Wait()
		for i, r := range rs {
			_, err := w.GetTask(w.owner, r.TaskID)
			if known := err == nil; known != (i >= 7) {
				t.Errorf("task %d known: %v", i, known)
			}
		}
		if st := w.space.Stats(); st.Channels != 4 { // three tasks and the control channel
			t.Errorf("%+v", st)
		}
	})
}

func TestPresenceTimeoutLosesAnInstance(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, nil)
		w.online("a", "x")
		time.Sleep(21 * time.Second)
		w.space.Expire()
		r := w.submit("a")
		if !r.Queued {
			t.Error("sent to an instance that is silent")
		}
	})
}

// TestAwaitInstance: who waits for an instance can send a task that need not wait.
func TestAwaitInstance(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, nil)
		short, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		if err := w.AwaitInstance(short, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without an instance: %v", err)
		}
		ready := make(chan error, 1)
		go func() { ready <- w.AwaitInstance(w.t.Context(), "a") }()
		synctest.Wait()
		select {
		case err := <-ready:
			t.Errorf("too early: %v", err)
		default:
		}
		w.online("a", "x")
		if err := <-ready; err != nil {
			t.Error(err)
		}
		w.state("a", "x", 1, 1) // an instance that has just begun may say so for a moment
		go func() { ready <- w.AwaitInstance(w.t.Context(), "a") }()
		synctest.Wait()
		select {
		case err := <-ready:
			t.Errorf("the only instance is full: %v", err)
		default:
		}
		w.state("a", "x", 0, 1)
		if err := <-ready; err != nil {
			t.Error(err)
		}
		if r := w.submit("a"); r.Queued {
			t.Error("the task waits")
		}
	})
}
