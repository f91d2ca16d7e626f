package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

// same fails the test unless the story of a task is as wanted.
func (n *network) same(id, want string) {
	n.t.Helper()
	if diff := cmp.Diff(want, n.story(id)); diff != "" {
		n.t.Errorf("task %s (-want +got):\n%s", id, diff)
	}
}

func TestTask(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 2, ""), st, nil)
	a.await(StateOnline)
	if state, there := n.present(a.channelName(), a.cfg.InstanceID); !there || state.Concurrency != 2 || state.ActiveTasks != 0 {
		t.Errorf("online, but the network knows %+v, %v", state, there)
	}
	a.control(startTask("t1", `,"writeToken":"secret","controlToken":"secret2"`))
	c := st.next(t)
	if c.task.AgentName != "worker" || c.task.OwnerID != "me" || *c.task.Parts[0].Text != "hi" {
		t.Errorf("the handler got %+v", c.task)
	}
	tasks := a.Tasks()
	if len(tasks) != 1 || tasks[0].State != "running" || tasks[0].PID == nil || tasks[0].TaskID != "t1" {
		t.Errorf("tasks are %+v", tasks)
	}
	eventually(t, "the slot is announced as taken", func() bool {
		state, _ := n.present(a.channelName(), a.cfg.InstanceID)
		return state.ActiveTasks == 1
	})
	c.port.Status("first")
	c.port.Status("second")
	c.port.Status("third")
	if err := c.port.Artifact(c.ctx, wire.Artifact{OutputID: "reply", Data: []byte("a")}); err != nil {
		t.Error(err)
	}
	c.port.Status("fourth")
	c.result <- nil
	n.terminal("t1")
	n.same("t1", "running status:first status:third artifact:a status:fourth completed")

	// Too late.
	if err := c.port.Artifact(t.Context(), wire.Artifact{Data: []byte("late")}); !errors.Is(err, errTaskOver) {
		t.Errorf("late artifact: %v", err)
	}
	c.port.Status("late")
	eventually(t, "the task is over", func() bool { return len(a.Tasks()) == 0 })
	want := Counts{Accepted: 1, Completed: 1}
	if diff := cmp.Diff(want, a.Status().Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	eventually(t, "the slot is announced as free", func() bool {
		state, _ := n.present(a.channelName(), a.cfg.InstanceID)
		return state.ActiveTasks == 0
	})
	n.same("t1", "running status:first status:third artifact:a status:fourth completed")
}

func TestFailures(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 8, ""), st, nil)
	a.await(StateOnline)
	for id, tc := range map[string]struct {
		err  error
		want string
	}{
		"error":  {&wire.TaskFailure{Kind: wire.HandlerError, Public: "Division by zero.", Private: "secret"}, "Division by zero."},
		"crash":  {&wire.TaskFailure{Kind: wire.HandlerCrash, Private: "exit 139"}, "The agent's handler ended unexpectedly while it worked on the task."},
		"plain":  {errors.New("password=secret"), "The agent reported an error without saying which."},
		"silent": {&wire.TaskFailure{Kind: wire.HandlerSilent}, "The agent's handler ended the task without a result."},
		"long":   {&wire.TaskFailure{Kind: wire.HandlerError, Public: strings.Repeat("x", 1<<20)}, strings.Repeat("x", wire.MaxTextBytes-len("…")) + "…"},
	} {
		a.control(startTask(id, ""))
		st.next(t).result <- tc.err
		if e := n.terminal(id); e.State != wire.Failed || e.Error != tc.want {
			t.Errorf("%s: %s %q", id, e.State, e.Error)
		}
	}
}

func TestCancel(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 8, ""), st, nil)
	a.await(StateOnline)

	t.Run("obeyed with an error", func(t *testing.T) {
		a.control(startTask("c1", ""))
		c := st.next(t)
		a.control(`{"type":"CancelTask","taskId":"c1"}`)
		if reason := c.asked(t); reason != wire.CancelUser {
			t.Errorf("reason %v", reason)
		}
		c.result <- errors.New("context canceled")
		n.terminal("c1")
		n.same("c1", "running canceled")
	})
	t.Run("ignored", func(t *testing.T) {
		a.control(startTask("c2", ""))
		c := st.next(t)
		a.control(`{"type":"CancelTask","taskId":"c2"}`)
		n.terminal("c2")
		if running := a.Status().Running; running != 0 {
			t.Errorf("%d slots are held by a handler that does not end", running)
		}
		if err := c.port.Artifact(t.Context(), wire.Artifact{Data: []byte("late")}); !errors.Is(err, errTaskOver) {
			t.Errorf("late artifact: %v", err)
		}
		c.result <- nil
		n.same("c2", "running canceled")
	})
	t.Run("by an operator", func(t *testing.T) {
		a.control(startTask("c3", ""))
		c := st.next(t)
		if found, err := a.CancelTask(t.Context(), "c3"); !found || err != nil {
			t.Errorf("found %v, %v", found, err)
		}
		if reason := c.asked(t); reason != wire.CancelTerminated {
			t.Errorf("reason %v", reason)
		}
		c.result <- nil
		n.terminal("c3")
		n.same("c3", "running canceled:terminated")
		if found, _ := a.CancelTask(t.Context(), "nobody"); found {
			t.Error("a task that is not there was found")
		}
	})
	t.Run("pending artifact does not hold it up", func(t *testing.T) {
		a.control(startTask("c4", ""))
		c := st.next(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.port.Artifact(ctx, wire.Artifact{Data: []byte("x")}); !errors.Is(err, context.Canceled) {
			t.Errorf("artifact with an ended context: %v", err)
		}
		a.control(`{"type":"TerminateTask","taskId":"c4"}`)
		c.asked(t)
		c.result <- nil
		if e := n.terminal("c4"); e.State != wire.Canceled || e.Reason != wire.ReasonTerminated {
			t.Errorf("%+v", e)
		}
	})
}

func TestDeadline(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 8, `, "maxRunningTimeSec": 1`), st, nil)
	a.await(StateOnline)
	a.control(startTask("d1", ""))
	c := st.next(t)
	if c.task.Deadline.IsZero() || !a.Tasks()[0].Deadline.Equal(c.task.Deadline) {
		t.Errorf("deadlines %v and %v", c.task.Deadline, a.Tasks()[0].Deadline)
	}
	if reason := c.asked(t); reason != wire.CancelDeadline {
		t.Errorf("reason %v", reason)
	}
	e := n.terminal("d1") // without the handler's help
	if e.State != wire.Failed || e.Error != "The task was stopped because it ran longer than the 1 seconds that its agent allows." {
		t.Errorf("%s %q", e.State, e.Error)
	}
	c.result <- nil
}

func TestPipe(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 8, ""), st, nil)
	a.await(StateOnline)
	a.control(startTask("p1", `,"taskKind":"pipe","duration":1,"durationExpiresAtMs":1`)) // long past
	c := st.next(t)
	<-c.ctx.Done() // asked, or ended before the process had it
	c.result <- nil
	if e := n.terminal("p1"); e.State != wire.Completed {
		t.Errorf("%+v", e)
	}
	a.control(startTask("p2", fmt.Sprintf(`,"taskKind":"pipe","duration":1,"durationExpiresAtMs":%d`, time.Now().Add(time.Hour).UnixMilli())))
	st.next(t).result <- nil // detached: its slot stays taken
	a.control(`{"type":"PauseTask","taskId":"p2"}`)
	a.control(`{"type":"ExpireTask","taskId":"p2"}`)
	if e := n.terminal("p2"); e.State != wire.Completed {
		t.Errorf("%+v", e)
	}
	n.same("p2", "running completed")
}

func TestAdmission(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 1, ""), st, nil)
	a.await(StateOnline)

	a.control(startTask("busy", ""))
	c := st.next(t)
	a.control(startTask("busy", "")) // a duplicate
	a.control(startTask("busy", `,"protocolVersion":"2027-01-01"`))
	a.broadcast(startTask("silent", ""))
	a.broadcast(startTask("silent2", `,"protocolVersion":"2027-01-01"`))
	a.control(startTask("full", ""))
	a.control(startTask("version", `,"protocolVersion":"2027-01-01"`))
	a.broadcast(startTask("invalid", `,"taskKind":"pipe"`))
	for id, want := range map[string]string{
		"full": "failed:agent_at_capacity", "version": "failed:unsupported_protocol_version", "invalid": "failed:invalid_start_task",
	} {
		n.terminal(id)
		n.same(id, want)
	}
	n.same("silent", "")
	n.same("silent2", "")
	n.same("busy", "running")

	// Once over, a redelivery gets the same outcome and is not run again; refused tasks included.
	c.result <- nil
	n.terminal("busy")
	eventually(t, "the task is over", func() bool { return len(a.Tasks()) == 0 })
	a.control(startTask("busy", ""))
	a.control(startTask("full", ""))
	eventually(t, "the outcomes are published again", func() bool {
		return n.story("busy") == "running completed completed" && n.story("full") == "failed:agent_at_capacity failed:agent_at_capacity"
	})
	st.none(t)
	want := Counts{Accepted: 1, Completed: 1, Refused: 3}
	if diff := cmp.Diff(want, a.Status().Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}

// TestBadMessages: whatever arrives on the control channel, the agent goes on.
func TestBadMessages(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 1, ""), st, nil)
	a.await(StateOnline)
	bad := []string{
		`"text"`, `7`, `[]`, `null`, `{}`, `{"type":7}`, `{"type":"Dance"}`, `{"type":"StartTask"}`, `{"type":"StartTask","taskId":""}`,
		`{"type":"CancelTask"}`, `{"type":"SwitchEnvironment"}`, `{"type":"SwitchEnvironment","environment":"moon","pamToken":"x"}`,
	}
	for _, body := range bad {
		a.control(body)
	}
	for _, harmless := range []string{`{"type":"CancelTask","taskId":"unknown"}`, `{"type":"ResumeTask","taskId":"unknown"}`} {
		a.control(harmless)
	}
	a.control(startTask("after", `,"requestParts":null`))
	st.next(t).result <- nil
	n.terminal("after")
	n.same("after", "running completed")
	if got := a.Status().Counts.Ignored; got != int64(len(bad)) {
		t.Errorf("%d messages were counted as ignored, want %d", got, len(bad))
	}
}

// TestSlotBeforeTerminal: a network that dispatches on the terminal never meets a full agent.
func TestSlotBeforeTerminal(t *testing.T) {
	n := newNetwork(t, true)
	a := n.serve(cardOf(t, "worker", 1, ""), NewFuncDispatcher(echo), nil)
	a.await(StateOnline)
	for i := range 50 {
		id := fmt.Sprint("t", i)
		a.control(startTask(id, ""))
		if e := n.terminal(id); e.State != wire.Completed {
			t.Fatalf("task %s: %s %s", id, e.State, e.Error)
		}
	}
}

// slots is a limit of one.
type slots struct {
	mu    sync.Mutex
	taken int
}

func (s *slots) TryAcquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken > 0 {
		return false
	}
	s.taken++
	return true
}

func (s *slots) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
}

func TestSharedSlots(t *testing.T) {
	n, st, shared := newNetwork(t, true), newStage(), &slots{}
	share := func(c *Config) { c.Slots = shared }
	one := n.serve(cardOf(t, "one", 8, ""), st, share)
	two := n.serve(cardOf(t, "two", 8, ""), st, share)
	one.await(StateOnline)
	two.await(StateOnline)
	one.control(startTask("s1", ""))
	c := st.next(t)
	two.control(startTask("s2", ""))
	n.terminal("s2")
	n.same("s2", "failed:agent_at_capacity")
	c.result <- nil
	n.terminal("s1")
	two.control(startTask("s3", ""))
	st.next(t).result <- nil
	n.terminal("s3")
	n.same("s3", "running completed")
}

func TestDrain(t *testing.T) {
	t.Run("waits", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		a := n.serve(cardOf(t, "worker", 8, ""), st, func(c *Config) { c.Timeouts.Settle = time.Nanosecond })
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
		a.control(startTask("d3", ""))
		n.terminal("d3")
		n.same("d3", "failed:agent_at_capacity")
		a.control(`{"type":"CancelTask","taskId":"d1"}`)
		if reason := c.asked(t); reason != wire.CancelUser {
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
	t.Run("takes what was on its way", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		a := n.serve(cardOf(t, "worker", 8, ""), st, func(c *Config) { c.Timeouts.Settle = patience })
		a.await(StateOnline)
		a.control(startTask("d1", ""))
		first := st.next(t)
		a.stop()
		a.await(StateDraining)
		a.control(startTask("d2", ""))
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
		if reason := c.asked(t); reason != wire.CancelDrain {
			t.Errorf("reason %v", reason)
		}
		n.terminal("d1") // the handler never obeys
		c.result <- nil
		if err := a.ended(); err != nil {
			t.Error(err)
		}
		n.same("d1", "running canceled")
	})
	t.Run("hastened", func(t *testing.T) {
		n, st := newNetwork(t, true), newStage()
		a := n.serve(cardOf(t, "worker", 8, ""), st, func(c *Config) { c.Drain, c.Timeouts.Settle = time.Hour, time.Hour })
		a.await(StateOnline)
		a.control(startTask("h1", ""))
		c := st.next(t)
		a.stop()
		a.await(StateDraining)
		a.Hasten()
		if reason := c.asked(t); reason != wire.CancelShutdown {
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
			c.Drain, c.Timeouts.CallEnd, c.Timeouts.Terminals = 0, 50*time.Millisecond, 50*time.Millisecond
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

// deaf is a stage whose handler is told to end when a test lets it be told.
type deaf struct {
	*stage
	listen chan error
}

func (d deaf) CancelTask(ctx context.Context, id string, reason wire.CancelReason, grace time.Duration) error {
	select {
	case err := <-d.listen:
		if err != nil {
			return err
		}
		return d.stage.CancelTask(ctx, id, reason, grace)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestCancelReturnsWhenTold: the operator's cancel waits for the handler to be told, and for nothing else.
func TestCancelReturnsWhenTold(t *testing.T) {
	n, d := newNetwork(t, true), deaf{newStage(), make(chan error)}
	a := n.serve(cardOf(t, "worker", 8, ""), d, func(c *Config) { c.CancelGrace = patience })
	a.await(StateOnline)
	a.control(startTask("c1", ""))
	c := d.next(t)
	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if found, err := a.CancelTask(short, "c1"); !found || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the handler was told: found %v, %v", found, err)
	}
	both := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := a.CancelTask(t.Context(), "c1")
			both <- err
		}()
	}
	d.listen <- nil
	c.asked(t)
	for range 2 {
		if err := <-both; err != nil {
			t.Error(err)
		}
	}
	if len(a.Tasks()) != 1 {
		t.Error("cancel waited for the end of the task")
	}
	c.result <- nil
	n.terminal("c1")

	a.control(startTask("c2", ""))
	c = d.next(t)
	go func() { d.listen <- errors.New("broken pipe") }()
	if found, err := a.CancelTask(t.Context(), "c2"); !found || err == nil {
		t.Errorf("found %v, %v", found, err)
	}
	c.result <- nil
	n.terminal("c2")
}

// moody is a stage whose availability a test sets.
type moody struct {
	*stage
	mu      sync.Mutex
	now     wire.Availability
	changed chan struct{}
}

func (m *moody) Availability(string) (wire.Availability, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now, m.changed
}

func (m *moody) become(a wire.Availability) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = a
	close(m.changed)
	m.changed = make(chan struct{})
}

func TestAvailability(t *testing.T) {
	n := newNetwork(t, true)
	d := &moody{stage: newStage(), now: wire.Recovering, changed: make(chan struct{})}
	a := n.serve(cardOf(t, "worker", 4, ""), d, nil)
	active := func(want int) func() bool {
		return func() bool {
			state, there := n.present(a.channelName(), a.cfg.InstanceID)
			return there && state.InstanceID != "" && state.ActiveTasks == want
		}
	}
	eventually(t, "it announces itself as full", active(4))
	if s := a.Status(); s.State != StateConnecting || s.Reason == "" {
		t.Errorf("status %+v", s)
	}
	d.become(wire.Available)
	a.await(StateOnline)
	eventually(t, "it announces its free slots", active(0))

	// With a task in flight it stays, full, and leaves when that is over.
	a.control(startTask("u1", ""))
	c := d.next(t)
	d.become(wire.Unavailable)
	a.await(StateOffline)
	eventually(t, "it announces itself as full again", active(4))
	c.result <- &wire.TaskFailure{Kind: wire.NoProcess}
	n.terminal("u1")
	n.same("u1", "running failed:The agent's handler is not available at the moment.")
	a.await(StateOffline)
	eventually(t, "it has left", func() bool {
		_, there := n.present(a.channelName(), a.cfg.InstanceID)
		return !there
	})
	d.become(wire.Available)
	a.await(StateOnline)
	eventually(t, "it is back", active(0))
}

func TestFinal(t *testing.T) {
	n := newNetwork(t, true)
	a := n.serve(cardOf(t, "worker", 1, ""), NewFuncDispatcher(echo), func(c *Config) { c.APIKey = "bk_wrong" })
	if err := a.ended(); !errors.Is(err, ErrFinal) {
		t.Fatalf("Run returned %v", err)
	}
	s := a.Status()
	const want = "agent worker cannot go on: authentication is final: connect agent worker: the network answered with status 401 (API_KEY_INVALID): " +
		"The API key is invalid or was revoked: use a valid API key, then restart"
	if s.State != StateFailed || s.Reason != want {
		t.Errorf("status %+v", s)
	}
}

func TestUnknownAgentIsRetried(t *testing.T) {
	n := newNetwork(t, true)
	late := cardOf(t, "late", 1, "")
	a := n.serve(cardOf(t, "other", 1, ""), NewFuncDispatcher(echo), func(c *Config) {
		c.Card = late
		c.Timeouts.RetryStart, c.Timeouts.RetryCap = time.Millisecond, 5*time.Millisecond
	})
	eventually(t, "it says why", func() bool { return strings.Contains(a.Status().Reason, "register") })
	if err := n.sb.Register(late); err != nil {
		t.Fatal(err)
	}
	a.await(StateOnline)
}

func TestStopBeforeConnected(t *testing.T) {
	n := newNetwork(t, true)
	a := n.serve(cardOf(t, "worker", 1, ""), NewFuncDispatcher(echo), func(c *Config) { c.Card = cardOf(t, "nobody", 1, "") })
	eventually(t, "it is trying", func() bool { return a.Status().Reason != "" })
	a.stop()
	if err := a.ended(); err != nil {
		t.Error(err)
	}
	if s := a.Status(); s.State != StateOffline {
		t.Errorf("status %+v", s)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, c := range map[string]Config{
		"no card":        {},
		"no concurrency": {Card: cardWith("a", 0)},
		"no dispatcher":  {Card: cardWith("a", 1)},
		"no network":     {Card: cardWith("a", 1), Handler: "h", Dispatcher: NewFuncDispatcher(echo)},
	} {
		if _, err := New(c); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		} else if name == "no concurrency" && !strings.Contains(err.Error(), "runtime.concurrency") {
			t.Errorf("a card without a limit is refused for another reason: %v", err)
		}
	}
}

func cardWith(name string, concurrency int) card.Card {
	return card.Card{AgentName: name, Concurrency: concurrency}
}
