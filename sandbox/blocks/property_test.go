package blocks

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// TestEveryTaskEndsOnce plays random stories of consumers and instances, and then lets all instances die: every task
// that was ever taken up has ended, its row is its first terminal, the network itself has ended it at most once, and
// never after somebody else; and no instance was ever sent more than it can take.
func TestEveryTaskEndsOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type step struct{ do, a, b int }
		var steps []step
		for range rapid.IntRange(1, 60).Draw(rt, "length") {
			steps = append(steps, step{rapid.IntRange(0, 8).Draw(rt, "do"), rapid.IntRange(0, 7).Draw(rt, "a"), rapid.IntRange(0, 2).Draw(rt, "b")})
		}
		broadcast, limited := rapid.Bool().Draw(rt, "broadcast"), rapid.Bool().Draw(rt, "limited")
		problem := ""
		inWorld(t, nil, func(w *world) {
			const slots = 2
			w.register("a", slots, func(s *AgentSpec) {
				s.Broadcast = broadcast
				if limited {
					s.MaxRunning = 3 * time.Second
				}
			})
			joined := map[string]int64{}
			var tasks []SendResult
			var lives [3]int
			online, started := map[string]bool{}, map[string]map[string]bool{}
			active := func(id string) int { // what a well-behaved instance would announce
				n := 0
				for _, running := range started[id] {
					if running {
						n++
					}
				}
				return n
			}
			sync := func() { // instances take up what they were sent
				for id := range online {
					for _, taskID := range w.given(id, joined[id]) {
						// Of what goes to all, an instance that is full takes nothing, and says nothing.
						if _, known := started[id][taskID]; !known && (!broadcast || active(id) < slots) {
							started[id][taskID] = true
						}
					}
					if n := active(id); n > slots {
						problem = fmt.Sprintf("instance %s has %d tasks", id, n)
					}
				}
			}
			for _, s := range steps {
				id := fmt.Sprintf("i%d-%d", s.b, lives[s.b]) // a new process is a new instance
				switch s.do {
				case 0, 1:
					tasks = append(tasks, w.submit("a"))
				case 2:
					if !online[id] {
						w.online("a", id)
						online[id], started[id], joined[id] = true, map[string]bool{}, w.joinedAt
					}
				case 3: // dies without a word, or leaves
					if online[id] {
						w.leave("a", id)
						delete(online, id)
						delete(started, id)
						lives[s.b]++
					}
				case 4, 5: // a task runs, or ends
					if s.a < len(tasks) {
						r := tasks[s.a]
						if started[id][r.TaskID] {
							w.event(r, id, wire.RunningEvent(r.TaskID))
							if s.do == 5 {
								w.event(r, id, wire.TerminalEvent(r.TaskID, wire.Terminal{State: wire.Completed}))
								started[id][r.TaskID] = false
							}
						}
					}
				case 6:
					if online[id] {
						w.state("a", id, active(id), slots)
					}
				case 7:
					if s.a < len(tasks) {
						_ = w.Cancel(w.owner, tasks[s.a].TaskID)
					}
				case 8:
					time.Sleep(time.Duration(s.a+1) * 500 * time.Millisecond)
				}
				synctest.Wait()
				sync()
			}
			for id := range online {
				w.leave("a", id)
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			for i, r := range tasks {
				row, err := w.GetTask(w.owner, r.TaskID)
				if err != nil {
					problem = err.Error()
					continue
				}
				first, own, n := wire.TaskState(""), 0, 0
				for _, m := range w.space.History(pubsub.HistoryQuery{Channel: r.Channel, Max: 100}) {
					e, _ := wire.DecodeEvent(m.Body)
					if e.Type != wire.EventTerminal {
						continue
					}
					if n++; n == 1 {
						first = e.State
					}
					if m.Publisher == backendUUID {
						if own++; n > 1 {
							problem = fmt.Sprintf("task %d was ended by the network after it had ended", i)
						}
					}
				}
				switch {
				case own > 1:
					problem = fmt.Sprintf("task %d was ended by the network %d times", i, own)
				case first == "" && row.State != wire.Pending:
					problem = fmt.Sprintf("task %d is %s and has no terminal", i, row.State)
				case first != "" && row.State != first:
					problem = fmt.Sprintf("task %d is %s, its terminal says %s", i, row.State, first)
				}
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// given lists the tasks that an instance was sent, alone or with all others since it joined.
func (w *world) given(instance string, since int64) []string {
	p := w.space.Open(pubsub.Subscription{Channels: []string{w.channels["a"]}, Cursor: 1})
	defer p.Close(false)
	b, _ := p.Next()
	var answer struct {
		M []struct {
			P struct{ T string }
			U struct{ Instance, Broadcast string }
			D struct{ Type, TaskID string }
		}
	}
	if err := json.Unmarshal(b.AppendAnswer(nil), &answer); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, m := range answer.M {
		tt, err := strconv.ParseInt(m.P.T, 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		if (m.U.Instance == instance || m.U.Broadcast == "true" && tt > since) && m.D.Type == "StartTask" {
			out = append(out, m.D.TaskID)
		}
	}
	return out
}
