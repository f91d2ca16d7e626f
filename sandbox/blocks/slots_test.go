package blocks

import (
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSlots runs scripts of what happens to an instance with two slots and compares the slots in use after each step.
func TestSlots(t *testing.T) {
	type step struct {
		do   string // send, run (oldest unconfirmed), end (oldest), state0..state2, second
		used int
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"state before running", []step{{"send", 1}, {"state1", 2}, {"run", 1}, {"end", 1}, {"state0", 0}}},
		{"running before state", []step{{"send", 1}, {"run", 1}, {"state1", 1}, {"end", 1}, {"state0", 0}}},
		{"terminal does not free", []step{{"send", 1}, {"run", 1}, {"send", 2}, {"run", 2}, {"end", 2}, {"end", 2}, {"state1", 1}, {"state0", 0}}},
		{"no state comes", []step{{"send", 1}, {"run", 1}, {"end", 1}, {"second", 0}}},
		{"late state of the acceptance", []step{{"send", 1}, {"run", 1}, {"end", 1}, {"state1", 1}, {"state0", 0}}},
		{"state sent before the order arrived", []step{{"state0", 0}, {"send", 1}, {"state0", 1}, {"run", 1}, {"state1", 1}}},
		{"announces itself full", []step{{"state2", 2}, {"state0", 0}}},
		{"refused without running", []step{{"send", 1}, {"end", 1}, {"second", 0}}},
	}
	for _, tt := range tests {
		s := slots{Concurrency: 2}
		now := time.Unix(0, 0)
		type sent struct {
			at        int
			confirmed bool
		}
		var tasks []*sent
		for i, step := range tt.steps {
			switch step.do {
			case "send":
				tasks = append(tasks, &sent{at: s.dispatched()})
			case "run":
				for _, task := range tasks {
					if !task.confirmed {
						task.confirmed = true
						s.confirm(task.at)
						break
					}
				}
			case "end":
				s.end(tasks[0].confirmed, now)
				tasks = tasks[1:]
			case "second":
				now = now.Add(time.Second)
				s.expire(now)
			default:
				s.report(int(step.do[len("state")]-'0'), 2)
			}
			if s.used() != step.used {
				t.Errorf("%s, step %d %s: %d slots used, want %d", tt.name, i+1, step.do, s.used(), step.used)
			}
			if got, want := s.free(), s.used() < 2; got != want {
				t.Errorf("%s, step %d: free %v with %d of 2 used", tt.name, i+1, got, s.used())
			}
		}
	}
}

// TestSlotsFollowTheInstance runs a model of an instance that behaves: the count is never negative, and when all is
// quiet and the last state has arrived it is exactly what the instance has.
func TestSlotsFollowTheInstance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := slots{Concurrency: 4}
		now := time.Unix(0, 0)
		type model struct {
			at                                  int
			accepted, running, ended, slotFreed bool
		}
		var tasks []*model
		active := func() (n int) {
			for _, m := range tasks {
				if m.accepted && !m.slotFreed {
					n++
				}
			}
			return n
		}
		pick := func(ok func(*model) bool) *model {
			for _, m := range tasks {
				if ok(m) {
					return m
				}
			}
			return nil
		}
		steps := map[string]func(*rapid.T){
			"send": func(*rapid.T) {
				if s.free() {
					tasks = append(tasks, &model{at: s.dispatched()})
				}
			},
			"accept": func(*rapid.T) {
				if m := pick(func(m *model) bool { return !m.accepted }); m != nil {
					m.accepted = true
				}
			},
			"running": func(*rapid.T) {
				if m := pick(func(m *model) bool { return m.accepted && !m.running }); m != nil {
					m.running = true
					s.confirm(m.at)
				}
			},
			"end": func(*rapid.T) {
				if m := pick(func(m *model) bool { return m.running && !m.ended }); m != nil {
					m.ended = true
					s.end(true, now)
				}
			},
			"free": func(*rapid.T) {
				if m := pick(func(m *model) bool { return m.ended && !m.slotFreed }); m != nil {
					m.slotFreed = true
				}
			},
			"state":  func(*rapid.T) { s.report(active(), 4) },
			"second": func(*rapid.T) { now = now.Add(time.Second); s.expire(now.Add(-time.Second)) },
			"": func(t *rapid.T) {
				if s.live < 0 || s.held < 0 || s.confirmed < 0 || s.confirmed > s.live {
					t.Fatalf("%+v", s)
				}
			},
		}
		t.Repeat(steps)
		for pick(func(m *model) bool { return !m.slotFreed }) != nil {
			for _, name := range []string{"accept", "running", "end", "free"} {
				steps[name](t)
			}
		}
		s.report(active(), 4)
		if s.used() != 0 {
			t.Fatalf("%d slots used by an idle instance: %+v", s.used(), s)
		}
	})
}

// TestSlotsBoundWhatIsOnItsWay: an instance with room for all is still not sent more than its channel can hold.
func TestSlotsBoundWhatIsOnItsWay(t *testing.T) {
	s := slots{Concurrency: 10_000}
	states := 0
	for i := range maxUnanswered {
		if !s.free() {
			t.Fatalf("not free with %d tasks on their way", i)
		}
		states = s.dispatched()
	}
	if s.free() {
		t.Errorf("free with %d tasks on their way", maxUnanswered)
	}
	s.confirm(states)
	if !s.free() {
		t.Error("not free after one was answered")
	}
}
