package agent

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/switches"
)

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

	// Once over, a redelivery is not run again, refused tasks included; its outcome is there already.
	c.result <- nil
	n.terminal("busy")
	eventually(t, "the task is over", func() bool { return len(a.Tasks()) == 0 })
	a.control(startTask("busy", ""))
	a.control(startTask("full", ""))
	a.control(`{"type":"Dance"}`) // behind them
	eventually(t, "both are answered", func() bool { return a.Status().Counts.Ignored == 1 && a.answered() })
	n.same("busy", "running completed")
	n.same("full", "failed:agent_at_capacity")
	st.none(t)
	want := Counts{Accepted: 1, Completed: 1, Refused: 3, Ignored: 1}
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

// answered reports whether no answer to a task that was not accepted is on its way.
func (s *served) answered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks.refusing == 0
}

// TestRedelivery: a network that lacks the outcome of a task that it delivers again gets it again, and so does one that
// cannot be asked.
func TestRedelivery(t *testing.T) {
	for _, readable := range []bool{true, false} {
		t.Run(fmt.Sprint("readable ", readable), func(t *testing.T) {
			n, st := newNetworkWith(t, true, sandbox.Config{Blocks: switches.Blocks{NoAgentGetTask: true}}), newStage()
			f := n.fault()
			a := n.serve(cardOf(t, "worker", 1, ""), st, n.through(f))
			a.await(StateOnline)
			f.set(func(w http.ResponseWriter, r *http.Request) bool { // the terminal is lost for good
				return isPublish(r) && a.Status().Counts.Outbox > 0 && refuse(w, http.StatusForbidden)
			})
			a.control(startTask("t1", ""))
			c := st.next(t)
			n.awaitRunning("t1")
			c.result <- nil
			eventually(t, "the task is over", func() bool { return len(a.Tasks()) == 0 })
			n.same("t1", "running")
			f.set(func(w http.ResponseWriter, r *http.Request) bool {
				return !readable && strings.HasPrefix(r.URL.Path, "/v3/history/") && refuse(w, http.StatusForbidden)
			})
			for i, want := range []string{"running completed", map[bool]string{true: "running completed", false: "running completed completed"}[readable]} {
				a.control(startTask("t1", ""))
				a.control(`{"type":"Dance"}`) // behind it
				eventually(t, "it is answered", func() bool { return a.Status().Counts.Ignored == int64(i+1) && a.answered() })
				n.same("t1", want)
			}
			st.none(t)
		})
	}
}
