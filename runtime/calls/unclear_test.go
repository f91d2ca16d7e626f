package calls

import (
	"testing"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
	faults "github.com/blocksd/blocksd/sandbox/fault"
)

// loseAnswers has the network take the next tasks and lose what it answers, until restore is called.
func (n *network) loseAnswers(t *testing.T) (restore func()) {
	t.Helper()
	id, err := n.sb.Faults().Add(faults.Rule{Endpoint: "rpc", RPC: "SendMessage", Action: faults.Lose})
	if err != nil {
		t.Fatal(err)
	}
	return func() { n.sb.Faults().Remove(id) }
}

// sent is the one task that was sent.
func (n *network) sent(t *testing.T) backend.TaskRow {
	t.Helper()
	rows, _, err := n.api.NewConsumer(n.sb.APIKey()).ListTasks(within(t), backend.ListFilter{AgentName: "sink"})
	if err != nil || len(rows) != 1 {
		t.Fatalf("%d tasks were sent, %v", len(rows), err)
	}
	return rows[0]
}

// TestLostAnswer: a call whose answer is lost fails, and the task that nobody knows of is canceled.
func TestLostAnswer(t *testing.T) {
	n := start(t)
	task := n.pool(t, Config{}).Task(n.sb.APIKey(), "caller", "caller")
	defer task.End()
	restore := n.loseAnswers(t)
	if _, err := task.Call(within(t), dispatch.CallRequest{Agent: "sink"}); faultOf(err) != dispatch.CallUnavailable {
		t.Fatalf("%v", err)
	}
	if found := n.sent(t); found.State.Final() {
		t.Fatalf("it is %s already", found.State)
	}
	restore()
	n.awaitState(t, n.sent(t).TaskID, wire.Canceled)
}

// TestLostAnswerWithAKey: a handler that chose the key can call again and gets the task; if it does not, the task ends with
// that of the handler.
func TestLostAnswerWithAKey(t *testing.T) {
	n := start(t)
	p := n.pool(t, Config{})
	task := p.Task(n.sb.APIKey(), "caller", "caller")
	r := dispatch.CallRequest{Agent: "sink", IdempotencyKey: "mine"}
	restore := n.loseAnswers(t)
	for range 2 {
		if _, err := task.Call(within(t), r); faultOf(err) != dispatch.CallUnavailable {
			t.Fatalf("%v", err)
		}
	}
	restore()
	c, err := task.Call(within(t), r)
	if err != nil || !c.Idempotent() || c.TaskID() != n.sent(t).TaskID {
		t.Fatalf("called again: %+v, %v", c, err)
	}
	if found := n.sent(t); found.State.Final() {
		t.Errorf("it is %s although the handler has it", found.State)
	}
	if len(task.unclear) != 0 {
		t.Errorf("it is in doubt still")
	}
	restore = n.loseAnswers(t)
	other := p.Task(n.sb.APIKey(), "caller", "other")
	if _, err := other.Call(within(t), r); err == nil {
		t.Fatal("the answer was not lost")
	}
	restore()
	other.End()
	n.awaitState(t, c.TaskID(), wire.Canceled)
	task.End()
}
