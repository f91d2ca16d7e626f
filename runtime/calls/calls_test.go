package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// patience bounds every wait.
const patience = 3 * time.Minute

const sinkCard = `{
  "identity": {"agentName": "sink", "displayName": "Sink", "description": "", "version": "1", "provider": {"organization": "o"}},
  "capabilities": {"taskKinds": ["request"]},
  "io": {"inputs": [{"id": "words", "description": "Words.", "contentType": "text/plain", "required": false}]},
  "tags": [{"id": "t", "name": "T"}],
  "runtime": {"handler": "main.go", "concurrency": 8},
  "extensions": {"blocks": {"listing": "public", "billingMode": "free"}}
}`

// network is a sandbox with the agent sink, which nobody serves: its tasks wait until somebody ends them.
type network struct {
	sb  *sandboxtest.Network
	api *backend.Client
	cdm backend.CDM
}

func start(t *testing.T) *network {
	t.Helper()
	c, err := card.Parse([]byte(sinkCard))
	if err != nil {
		t.Fatal(err)
	}
	sb := sandboxtest.Start(t, sandbox.Config{}, c)
	cdm, api := sb.Backend(nil)
	return &network{sb, api, cdm}
}

func (n *network) pool(t *testing.T, cfg Config) *Pool {
	t.Helper()
	cfg.Deployment = func() (deployment.Deployment, bool) {
		return deployment.Config{PubNubOrigin: n.sb.Addr()}.Resolve(n.cdm), true
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func send(t *testing.T, task *Task) dispatch.Call {
	t.Helper()
	c, err := task.Call(within(t), dispatch.CallRequest{Agent: "sink", Parts: []dispatch.CallPart{
		{ID: "words", Text: "hello"},
		{ID: "file", FileName: "a.txt", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil }},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// follow returns the types of the events, and the state of the end.
func follow(t *testing.T, c dispatch.Call) (types []string, state string) {
	t.Helper()
	err := c.Follow(within(t), func(event dispatch.CallEvent) error {
		var e struct{ Type, State, Timetoken string }
		if err := json.Unmarshal(event.JSON, &e); err != nil || e.Timetoken == "" {
			return fmt.Errorf("event %s: %w", event.JSON, err)
		}
		types, state = append(types, e.Type), e.State
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return types, state
}

// state is what becomes of a task, as the network says.
func (n *network) awaitState(t *testing.T, id string, want wire.TaskState) {
	t.Helper()
	consumer := n.api.NewConsumer(n.sb.APIKey())
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		task, err := consumer.GetTask(within(t), id)
		if err != nil {
			t.Fatal(err)
		}
		if task.State == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("task %s is %s, want %s", id, task.State, want)
		}
	}
}

func faultOf(err error) dispatch.CallFault {
	if e, ok := errors.AsType[*dispatch.CallError](err); ok {
		return e.Fault
	}
	return 0
}

// TestCall: a task is sent, followed and controlled.
func TestCall(t *testing.T) {
	n := start(t)
	task := n.pool(t, Config{}).Task(n.sb.APIKey(), "caller", "caller")
	defer task.End()
	c := send(t, task)
	if got, err := task.Called(c.TaskID()); err != nil || got != c {
		t.Errorf("%v, %v", got, err)
	}
	if err := c.Control(within(t), dispatch.CallTerminate); err != nil {
		t.Fatal(err)
	}
	types, state := follow(t, c)
	if state != "canceled" || types[0] != "request" || types[len(types)-1] != "terminal" {
		t.Errorf("%s: %q", state, types)
	}
	for _, wrong := range []struct {
		what string
		err  error
		want dispatch.CallFault
	}{
		{"an unknown verb", c.Control(within(t), "stop"), dispatch.CallRefused},
		{"an artifact that is not there", second(c.Artifact(within(t), 0)), dispatch.CallUnknown},
		{"a task of somebody else", second(task.Called("task_x")), dispatch.CallUnknown},
		{"an unknown agent", second(task.Call(within(t), dispatch.CallRequest{Agent: "nobody"})), dispatch.CallUnknown},
		{"a name that is none", second(task.Call(within(t), dispatch.CallRequest{Agent: "no-body"})), dispatch.CallRefused},
		{"half a minute", second(task.Call(within(t), dispatch.CallRequest{Agent: "sink", Duration: time.Second})), dispatch.CallRefused},
	} {
		if faultOf(wrong.err) != wrong.want {
			t.Errorf("%s: %v", wrong.what, wrong.err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestEnd: what a task has sent ends with it, unless it is detached or has ended.
func TestEnd(t *testing.T) {
	n := start(t)
	p := n.pool(t, Config{})
	task := p.Task(n.sb.APIKey(), "caller", "caller")
	attached := send(t, task)
	detached, err := task.Call(within(t), dispatch.CallRequest{Agent: "sink", Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	task.End()
	n.awaitState(t, attached.TaskID(), wire.Canceled)
	if _, err := task.Call(within(t), dispatch.CallRequest{Agent: "sink"}); !errors.Is(err, dispatch.ErrTaskOver) {
		t.Errorf("a call of a task that is over: %v", err)
	}
	p.Close() // waits for what End began
	if got, err := n.api.NewConsumer(n.sb.APIKey()).GetTask(within(t), detached.TaskID()); err != nil || got.State.Final() {
		t.Errorf("the detached task is %s, %v", got.State, err)
	}
	if _, err := p.Task(n.sb.APIKey(), "caller", "late").Call(within(t), dispatch.CallRequest{Agent: "sink"}); faultOf(err) != dispatch.CallUnavailable {
		t.Errorf("a call after Close: %v", err)
	}
}

// TestFollowerLeaves: a call that nobody follows any more is canceled.
func TestFollowerLeaves(t *testing.T) {
	n := start(t)
	task := n.pool(t, Config{}).Task(n.sb.APIKey(), "caller", "caller")
	defer task.End()
	c := send(t, task)
	ctx, leave := context.WithCancel(within(t))
	if err := c.Follow(ctx, func(dispatch.CallEvent) error { leave(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	n.awaitState(t, c.TaskID(), wire.Canceled)
}

// TestLimits: calls are counted, under way and in all, and how deeply they are nested.
func TestLimits(t *testing.T) {
	n := start(t)
	p := n.pool(t, Config{MaxOpen: 1, MaxSent: 2, MaxDepth: 2})
	task := p.Task(n.sb.APIKey(), "caller", "caller")
	defer task.End()
	first := send(t, task)
	if _, err := task.Call(within(t), dispatch.CallRequest{Agent: "sink"}); faultOf(err) != dispatch.CallLimit || !strings.Contains(err.Error(), "under way") {
		t.Errorf("two at once: %v", err)
	}
	if err := first.Control(within(t), dispatch.CallCancel); err != nil {
		t.Fatal(err)
	}
	follow(t, first) // its end makes room
	send(t, task)
	nested := p.Task(n.sb.APIKey(), "caller", first.TaskID())
	defer nested.End()
	inner := p.Task(n.sb.APIKey(), "caller", send(t, nested).TaskID())
	defer inner.End()
	if _, err := inner.Call(within(t), dispatch.CallRequest{Agent: "sink"}); faultOf(err) != dispatch.CallLimit || !strings.Contains(err.Error(), "2 deep") {
		t.Errorf("nested too deeply: %v", err)
	}
}

// TestCredentialsAreShared: tasks with one key share a client, and it goes when nobody uses it.
func TestCredentialsAreShared(t *testing.T) {
	n := start(t)
	p := n.pool(t, Config{})
	one, two := p.Task(n.sb.APIKey(), "caller", "one"), p.Task(n.sb.APIKey(), "caller", "two")
	send(t, one)
	send(t, two)
	if len(p.clients) != 1 {
		t.Fatalf("there are %d clients", len(p.clients))
	}
	for of, s := range p.clients {
		p.expire(of, s)
		if p.clients[of] != s {
			t.Error("a client that is used was closed")
		}
		one.End()
		two.End()
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			p.mu.Lock()
			users := s.users
			p.mu.Unlock()
			if users == 0 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%d use it", users)
			}
		}
		p.expire(of, s)
		if len(p.clients) != 0 {
			t.Error("a client that nobody uses is kept")
		}
	}
}

// TestDepthsAreBounded: only so many tasks are remembered, the newest.
func TestDepthsAreBounded(t *testing.T) {
	d := newDepths(3)
	for i := range 10 {
		d.set(fmt.Sprint(i), i+1)
		d.set(fmt.Sprint(i), 0) // a depth never falls
	}
	if len(d.of) != 3 || d.of["9"] != 10 || d.of["7"] != 8 || d.of["6"] != 0 {
		t.Errorf("%v", d.of)
	}
}

// TestDepthBeforeTheAnswer: a task that begins before its sender knows its id counts as nested all the same. What goes to
// other agents is not waited for, and a wait without end is an error.
func TestDepthBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(Config{Deployment: func() (deployment.Deployment, bool) { return deployment.Deployment{}, false }})
		if err != nil {
			t.Fatal(err)
		}
		type result struct {
			depth int
			err   error
		}
		ask := func(agent, task string) <-chan result {
			got := make(chan result, 1)
			go func() {
				depth, err := p.depth(t.Context(), agent, task)
				got <- result{depth, err}
			}()
			synctest.Wait()
			return got
		}
		sent := p.send("worker", 3)
		early := ask("worker", "t1")
		select {
		case r := <-early:
			t.Fatalf("it did not wait: %+v", r)
		default:
		}
		if r := <-ask("other", "t2"); r.depth != 0 || r.err != nil {
			t.Errorf("a task of another agent: %+v", r)
		}
		sent("t1")
		if r := <-early; r.depth != 3 || r.err != nil {
			t.Errorf("the task is nested %+v", r)
		}
		p.send("worker", 5)("") // was not sent after all
		never := p.send("worker", 1)
		if r := <-ask("worker", "t1"); r.depth != 3 || r.err != nil {
			t.Errorf("what is known: %+v", r)
		}
		if r := <-ask("worker", "t4"); faultOf(r.err) != dispatch.CallUnavailable {
			t.Errorf("without an answer: %+v", r)
		}
		never("")
		if len(p.sending) != 0 {
			t.Errorf("%d are on their way", len(p.sending))
		}
		p.Close()
	})
}
