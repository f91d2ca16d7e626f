package blocks

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

func toAll(s *AgentSpec) { s.Broadcast = true }

// said lists what went out to all instances, in the form "type number".
func (w *world) said(agent string, tasks ...SendResult) []string {
	w.t.Helper()
	synctest.Wait()
	p := w.space.Open(pubsub.Subscription{Channels: []string{w.channels[agent]}, Cursor: 1})
	defer p.Close(false)
	b, _ := p.Next()
	var answer struct {
		M []struct {
			U map[string]any
			D struct{ Type, TaskID, ControlToken string }
		}
	}
	if err := json.Unmarshal(b.AppendAnswer(nil), &answer); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, m := range answer.M {
		if m.U["broadcast"] != "true" || m.U["instance"] != nil || m.D.ControlToken != "" {
			w.t.Errorf("message with meta %v and token %q is not one to all", m.U, m.D.ControlToken)
		}
		for i, r := range tasks {
			if r.TaskID == m.D.TaskID {
				out = append(out, m.D.Type+" "+string(rune('0'+i)))
			}
		}
	}
	return out
}

func TestBroadcastGoesToAllOnce(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, toAll)
		w.online("a", "x")
		w.online("a", "y")
		r := w.submit("a")
		w.equal([]string{"StartTask 0"}, w.said("a", r))
		w.event(r, "x", wire.RunningEvent(r.TaskID))
		w.event(r, "y", wire.RunningEvent(r.TaskID)) // nobody stops a second one
		w.event(r, "y", wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Completed}))
		w.event(r, "x", wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Failed}))
		synctest.Wait()
		if row, err := w.GetTask(w.owner, r.TaskID); err != nil || row.State != wire.Completed {
			t.Errorf("%+v, %v: want the first terminal", row, err)
		}
	})
}

func TestBroadcastNeedsFreeSlots(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, toAll)
		w.online("a", "x")
		w.online("a", "y")
		first, second, third := w.submit("a"), w.submit("a"), w.submit("a")
		if first.Queued || second.Queued || !third.Queued {
			t.Errorf("queued: %v %v %v, want only the third, there are two slots", first.Queued, second.Queued, third.Queued)
		}
		w.event(first, "x", wire.RunningEvent(first.TaskID))
		w.equal([]string{"StartTask 0", "StartTask 1"}, w.said("a", first, second, third))
		w.state("a", "x", 1, 1)
		w.event(first, "x", wire.TerminalEvent(first.TaskID, wire.Terminal{State: wire.Completed}))
		w.state("a", "x", 0, 1)
		w.equal([]string{"StartTask 0", "StartTask 1", "StartTask 2"}, w.said("a", first, second, third))
	})
}

func TestBroadcastThatNobodyTakes(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, toAll)
		w.online("a", "x")
		r := w.submit("a")
		stay := w.submit("a")
		_ = stay
		keep := time.NewTicker(10 * time.Second)
		defer keep.Stop()
		for range 7 {
			<-keep.C
			w.state("a", "x", 0, 1)
		}
		w.equal([]string{"request ", "terminal failed"}, w.events(r))
	})
}

func TestBroadcastIsRepeatedAfterTheLastInstance(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, toAll)
		w.online("a", "x")
		r := w.submit("a")
		w.leave("a", "x")
		w.equal([]string{"StartTask 0"}, w.said("a", r))
		w.online("a", "y")
		w.equal([]string{"StartTask 0", "StartTask 0"}, w.said("a", r))
		w.event(r, "y", wire.RunningEvent(r.TaskID))
		if err := w.Cancel(w.owner, r.TaskID); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if o := w.orders("a", r); o[len(o)-1] != "y CancelTask 0" {
			t.Errorf("orders %v: want the cancel for the instance that took the task", o)
		}
	})
}

func TestCancelOfAnUnclaimedBroadcastGoesToAll(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 2, toAll)
		w.online("a", "x")
		r := w.submit("a")
		if err := w.Cancel(w.owner, r.TaskID); err != nil {
			t.Fatal(err)
		}
		w.equal([]string{"StartTask 0", "CancelTask 0"}, w.said("a", r))
	})
}

func TestExpectedInstancesOfTheConnect(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.register("a", 1, nil)
		zero := 0
		if _, err := w.Connect(w.owner, ConnectRequest{AgentName: "a", InstanceID: "x", BillingMode: wire.Free, ExpectedInstances: &zero}); err != nil {
			t.Fatal(err)
		}
		w.online("a", "x")
		r := w.submit("a")
		w.equal([]string{"StartTask 0"}, w.said("a", r))
	})
}
