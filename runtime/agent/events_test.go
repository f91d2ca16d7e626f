package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/wire"
)

// storyReader reads what an agent says on its bus.
type storyReader struct {
	t testing.TB
	r *event.Reader
}

func (s *served) follow(types ...event.Type) storyReader {
	r := s.events.Since(0, types...)
	s.n.t.Cleanup(r.Close)
	return storyReader{s.n.t, r}
}

// next returns the next event in short form.
func (s storyReader) next() string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	item, err := s.r.Next(ctx)
	if err != nil {
		s.t.Fatal("no more events")
	}
	if item.Agent != "worker" || item.Missed != 0 {
		s.t.Errorf("event %+v", item)
	}
	text := item.Type.String()
	for _, word := range []string{item.TaskID, item.Handler, item.State, item.Reason} {
		if word != "" {
			text += " " + word
		}
	}
	if item.PID != 0 {
		text += " pid"
	}
	if item.Duration > 0 {
		text += " took"
	}
	return text
}

func (s storyReader) want(stories ...string) {
	s.t.Helper()
	for _, want := range stories {
		if diff := cmp.Diff(want, s.next()); diff != "" {
			s.t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// TestTaskEvents: every accepted task is said to have been accepted, once, and to have ended, once; a refused one to have
// been refused; with a journal and without.
func TestTaskEvents(t *testing.T) {
	for _, journaled := range []bool{false, true} {
		t.Run(fmt.Sprint("journal ", journaled), func(t *testing.T) {
			n, st := newNetwork(t, true), newStage()
			a := n.serve(cardOf(t, "worker", 1, ""), st, func(c *Config) {
				if journaled {
					c.Journal = openJournal(t, t.TempDir())
				}
			})
			a.await(StateOnline)
			events := a.follow(event.TaskAccepted, event.TaskStarted, event.TaskEnded, event.TaskRefused)

			a.control(startTask("good", ""))
			running := st.next(t)
			events.want("task_accepted good took", "task_started good test pid")
			a.control(startTask("more", ""))
			events.want("task_refused more " + wire.ReasonAtCapacity)
			running.result <- nil
			events.want("task_ended good test completed took")
			n.terminal("good")

			a.control(startTask("bad", ""))
			st.next(t).result <- &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "No.", Private: "why not"}
			events.want("task_accepted bad took", "task_started bad test pid", "task_ended bad test failed No. took")
			n.terminal("bad")

			a.control(startTask("unwanted", ""))
			running = st.next(t)
			a.control(`{"type":"TerminateTask","taskId":"unwanted"}`)
			running.asked(t)
			running.result <- errors.New("terminated")
			events.want("task_accepted unwanted took", "task_started unwanted test pid", "task_ended unwanted test canceled "+wire.ReasonTerminated+" took")
		})
	}
}

// TestOverdueHandlerIsNoticed: a handler that does not let go is something that an operator should read.
func TestOverdueHandlerIsNoticed(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	a := n.serve(cardOf(t, "worker", 1, ""), st, func(c *Config) { c.CancelGrace = time.Millisecond })
	a.await(StateOnline)
	events := a.follow(event.Notice)
	a.control(startTask("stuck", ""))
	running := st.next(t)
	a.control(`{"type":"CancelTask","taskId":"stuck"}`)
	events.want("notice stuck test The handler did not end the task within its grace, so its call is ended. pid")
	running.result <- nil
}

// TestStateEvents: every change of the state or its reason is an event, in order.
func TestStateEvents(t *testing.T) {
	n := newNetwork(t, true)
	a := n.serve(cardOf(t, "worker", 1, ""), newStage(), nil)
	a.await(StateOnline)
	a.stop()
	if err := a.ended(); err != nil {
		t.Fatal(err)
	}
	r := a.events.Since(0, event.AgentState)
	defer r.Close()
	var states []string
	var last event.Item
	for item, ok := r.TryNext(); ok; item, ok = r.TryNext() {
		if item.State == last.State && item.Reason == last.Reason {
			t.Errorf("%s (%s) is said twice", item.State, item.Reason)
		}
		if item.State != last.State {
			states = append(states, item.State)
		}
		last = item
	}
	if diff := cmp.Diff([]string{StateConnecting, StateOnline, StateDraining, StateOffline}, states); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
