package agent

import (
	"testing"

	"github.com/blocksd/blocksd/runtime/journal"
)

// TestCancelBeforeItIsDurable: a cancel that comes while the acceptance is on its way to the disk is heard; the task
// ends without having begun.
func TestCancelBeforeItIsDurable(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	release := make(chan struct{})
	j := openJournal(t, t.TempDir())
	a := n.serve(cardOf(t, "worker", 4, ""), st, withJournal(j))
	a.await(StateOnline)
	b, err := j.Agent("stopper")
	if err != nil {
		t.Fatal(err)
	}
	held := make(chan struct{})
	b.Accept(journal.Task{ID: "x"}, func(error) { // holds the journal up, which no other may do
		close(held)
		<-release
	})
	<-held
	a.control(startTask("t1", ""))
	eventually(t, "the task is accepted", func() bool { return len(a.Tasks()) == 1 })
	a.control(`{"type":"CancelTask","taskId":"t1"}`)
	eventually(t, "the outcome is decided", func() bool { return a.Status().Counts.Canceled == 1 })
	if got := n.story("t1"); got != "" {
		t.Errorf("published before it was durable: %s", got)
	}
	close(release)
	n.terminal("t1")
	n.same("t1", "canceled")
	st.none(t)
}
