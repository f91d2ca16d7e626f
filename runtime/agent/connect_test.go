package agent

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/card"
)

// moody is a stage whose availability a test sets.
type moody struct {
	*stage
	mu      sync.Mutex
	now     dispatch.Availability
	changed chan struct{}
}

func (m *moody) Availability(string) (dispatch.Availability, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now, m.changed
}

func (m *moody) become(a dispatch.Availability) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = a
	close(m.changed)
	m.changed = make(chan struct{})
}

func TestAvailability(t *testing.T) {
	n := newNetwork(t, true)
	d := &moody{stage: newStage(), now: dispatch.Recovering, changed: make(chan struct{})}
	a := n.serve(cardOf(t, "worker", 4, ""), d, nil)
	active := func(want int) func() bool {
		return func() bool {
			state, there := n.present(a.channelName(), a.cfg.InstanceID)
			return there && state.InstanceID != "" && state.ActiveTasks == want
		}
	}
	away := func() bool {
		_, there := n.present(a.channelName(), a.cfg.InstanceID)
		return !there
	}
	eventually(t, "it waits for its handler", func() bool { return strings.Contains(a.Status().Reason, "is ready yet") })
	if s := a.Status(); s.State != StateConnecting || !away() {
		t.Errorf("status %+v, away %v", s, away())
	}
	d.become(dispatch.Available)
	a.await(StateOnline)
	eventually(t, "it announces its free slots", active(0))

	// Once it is there it stays while its handler recovers.
	d.become(dispatch.Recovering)
	a.await(StateConnecting)
	eventually(t, "it announces itself as full", active(4))
	d.become(dispatch.Available)
	a.await(StateOnline)
	eventually(t, "it announces its free slots again", active(0))

	// With a task in flight it stays, full, and leaves when that is over.
	a.control(startTask("u1", ""))
	c := d.next(t)
	d.become(dispatch.Unavailable)
	a.await(StateOffline)
	eventually(t, "it announces itself as full again", active(4))
	c.result <- &dispatch.TaskFailure{Kind: dispatch.NoProcess}
	n.terminal("u1")
	n.same("u1", "running failed:The agent's handler is not available at the moment.")
	a.await(StateOffline)
	eventually(t, "it has left", away)
	d.become(dispatch.Available)
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
