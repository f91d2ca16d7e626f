package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// TestHooks: hooks are told, each at its time, and a panic of one hurts nobody.
func TestHooks(t *testing.T) {
	for _, panics := range []bool{false, true} {
		t.Run(fmt.Sprintf("panics=%v", panics), func(t *testing.T) {
			n := newNetwork(t, true)
			told := make(chan string, 100)
			tell := func(format string, args ...any) {
				told <- fmt.Sprintf(format, args...)
				if panics {
					panic("a hook")
				}
			}
			next := func(want string) {
				t.Helper()
				select {
				case got := <-told:
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("-want +got:\n%s", diff)
					}
				case <-time.After(patience):
					t.Fatalf("no hook said: %s", want)
				}
			}
			st := newStage()
			a := n.serve(cardOf(t, "worker", 4, ""), st, func(c *Config) {
				c.Hooks = Hooks{
					OnStart:  func(task *wire.Task) { tell("start %s %v", task.ID, task.Kind) },
					OnCancel: func(id string, reason dispatch.CancelReason) { tell("cancel %s %v", id, reason) },
					OnError: func(id string, err error) {
						tell("error %s %v, after %s", id, err, n.story(id))
					},
				}
			})
			a.await(StateOnline)

			a.control(startTask("good", ""))
			next("start good " + string(wire.Request))
			st.next(t).result <- nil
			n.terminal("good") // and no hook is told

			a.control(startTask("bad", ""))
			next("start bad " + string(wire.Request))
			st.next(t).result <- &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "No.", Private: "why not"}
			next("error bad why not, after running failed:No.")

			a.control(startTask("unwanted", ""))
			next("start unwanted " + string(wire.Request))
			running := st.next(t)
			a.control(`{"type":"CancelTask","taskId":"unwanted"}`)
			reason := running.asked(t)
			next(fmt.Sprintf("cancel unwanted %v", reason))
			running.result <- context.Canceled
			n.terminal("unwanted") // it did not fail

			a.control(startTask("last", ""))
			next("start last " + string(wire.Request))
			st.next(t).result <- errors.New("the very last")
			next("error last the very last, after " + n.lastStory("last"))

			a.stop()
			if err := a.ended(); err != nil {
				t.Error(err)
			}
			if c := a.Status().Counts; c.Completed != 1 || c.Failed != 2 || c.Canceled != 1 || c.Outbox != 0 {
				t.Errorf("counts %+v", c)
			}
		})
	}
}

// lastStory is the story of a task that has ended.
func (n *network) lastStory(id string) string {
	n.t.Helper()
	n.terminal(id)
	return n.story(id)
}
