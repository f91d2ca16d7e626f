package streams

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/network/wire"
)

// TestRegistryRules drives a registry with arbitrary events in arbitrary order, as a shell would. At each step: every
// acquisition is answered once, a stream is set up first by one task only, is ended exactly when nobody has it, and is
// never used by two writers; in the end nothing is left.
func TestRegistryRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, r: NewRegistry("agent", Limits{PerTask: 4, InAll: 8}), pending: map[string]bool{}, has: map[string]bool{}, live: map[string]int{}, over: map[string]bool{}}
		for range rapid.IntRange(0, 80).Draw(t, "steps") {
			w.step()
		}
		for n := range 4 {
			w.leave(fmt.Sprint("T", n))
		}
		for len(w.setUps)+len(w.ends) > 0 {
			w.answer()
			w.end()
		}
		if len(w.pending) > 0 || len(w.has) > 0 || w.r.Active() != 0 || len(w.r.entries) > 0 || len(w.r.tasks) > 0 || len(w.r.setUps) > 0 {
			t.Fatalf("left over: %d acquisitions, %d holders, %d active, %v", len(w.pending), len(w.has), w.r.Active(), w.r.entries)
		}
	})
}

type world struct {
	t       *rapid.T
	r       *Registry
	setUps  []SetUp
	ends    []string
	pending map[string]bool // "stream task" that wait for an answer
	has     map[string]bool // "stream task"
	live    map[string]int  // streams that are ready, or being ended; 1 at most
	over    map[string]bool // tasks
}

func (w *world) step() {
	t := w.t
	task := fmt.Sprint("T", rapid.IntRange(0, 3).Draw(t, "task"))
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0, 1, 2, 3:
		if w.over[task] {
			return
		}
		s := specOf([][]string{{"out"}, {"cast", "shared"}, {"room", "bidirectional", "shared"}, {"feed", "external"}}[rapid.IntRange(0, 3).Draw(t, "spec")])
		id, created, actions, err := w.r.Acquire(task, s)
		if err != nil {
			return
		}
		key := id + " " + task
		if created == (w.has[key] || w.pending[key]) {
			t.Fatalf("%s: created is %v", key, created)
		}
		if !w.has[key] {
			w.pending[key] = true
		}
		w.take(actions)
	case 4, 5, 6:
		w.answer()
	case 7:
		if of := w.r.Of(task); len(of) > 0 {
			id := rapid.SampledFrom(of).Draw(t, "stream")
			if w.has[id+" "+task] { // a shell lets go of what it was granted only
				w.take(w.r.Release(task, id, errOver))
			}
		}
	case 8:
		w.end()
	default:
		if rapid.Bool().Draw(t, "fails") {
			w.take(w.r.Fail(rapid.SampledFrom([]string{"cast", "room", "T0-1", "T1-2"}).Draw(t, "stream"), errOver))
		} else {
			w.leave(task)
		}
	}
}

func (w *world) leave(task string) {
	w.over[task] = true
	w.take(w.r.ReleaseTask(task, errOver))
	for key := range w.pending {
		if len(key) > len(task) && key[len(key)-len(task):] == task {
			w.t.Fatalf("%s waits although its task is over", key)
		}
	}
}

func (w *world) answer() {
	if len(w.setUps) == 0 {
		return
	}
	i := rapid.IntRange(0, len(w.setUps)-1).Draw(w.t, "answer")
	s := w.setUps[i]
	w.setUps = append(w.setUps[:i], w.setUps[i+1:]...)
	var err error
	if rapid.IntRange(0, 3).Draw(w.t, "refused") == 0 {
		err = errors.New("no")
	} else if s.Phase != wire.PhaseActivate {
		if w.live[s.Stream]++; w.live[s.Stream] > 1 {
			w.t.Fatalf("stream %s has two writers", s.Stream)
		}
	}
	w.take(w.r.Answered(s.Number, err))
}

func (w *world) end() {
	if len(w.ends) == 0 {
		return
	}
	id := w.ends[0]
	w.ends = w.ends[1:]
	w.live[id]--
	w.take(w.r.Ended(id))
}

func (w *world) take(actions []Action) {
	t := w.t
	for _, a := range actions {
		switch a := a.(type) {
		case SetUp:
			if !w.pending[a.Stream+" "+a.Task] {
				t.Fatalf("%s: nobody asked", actionText(a))
			}
			if (a.Phase == wire.PhaseActivate) != (w.live[a.Stream] == 1) {
				t.Fatalf("%s, but the stream has %d writers", actionText(a), w.live[a.Stream])
			}
			w.setUps = append(w.setUps, a)
		case Grant:
			key := a.Stream + " " + a.Task
			if w.live[a.Stream] != 1 || !w.pending[key] && !w.has[key] {
				t.Fatalf("%s, which is not there or not wanted", actionText(a))
			}
			delete(w.pending, key)
			w.has[key] = true
		case Refuse:
			key := a.Stream + " " + a.Task
			if !w.pending[key] || a.Err == nil {
				t.Fatalf("%s, which was not acquired", actionText(a))
			}
			delete(w.pending, key)
		case Detach:
			key := a.Stream + " " + a.Task
			if !w.has[key] {
				t.Fatalf("%s, which does not have it", actionText(a))
			}
			delete(w.has, key)
		case FailTask:
			if w.over[a.Task] {
				t.Fatalf("%s, which is over", actionText(a))
			}
		case End:
			if w.live[a.Stream] != 1 {
				t.Fatalf("%s, which is not open", actionText(a))
			}
			for key := range w.has {
				if len(key) > len(a.Stream) && key[:len(a.Stream)+1] == a.Stream+" " {
					t.Fatalf("%s, which %s has", actionText(a), key)
				}
			}
			w.ends = append(w.ends, a.Stream)
		}
	}
	active := 0
	for id, n := range w.live {
		ending := 0
		for _, e := range w.ends {
			if e == id {
				ending++
			}
		}
		if e := w.r.entries[id]; n-ending == 1 && e != nil && !e.spec.External {
			active++
		}
	}
	if active != w.r.Active() {
		t.Fatalf("%d streams are active, the registry says %d", active, w.r.Active())
	}
}
