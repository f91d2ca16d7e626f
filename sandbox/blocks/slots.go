package blocks

import "time"

// slots counts what an instance can take. What occupies a slot is known only to the instance: it frees one some time
// after it has published a task's terminal event, and says so in its next presence state. So the network counts what it
// has sent and has not seen end (live), and what the instance reported beyond that (held).
//
// It is pure: the caller reports what happened, and when.
type slots struct {
	Concurrency int // 0: no limit
	live        int // sent, terminal not seen
	confirmed   int // of those: running seen
	held        int // occupied beyond live, by the last state and the terminals since
	// states counts the presence states: a task confirmed after a state that came after its dispatch may have been
	// counted in that state's held.
	states int
	// ended are the times of the terminals since the last state, oldest first.
	ended []time.Time
}

func (s *slots) used() int { return s.live + s.held }

// maxUnanswered is how many tasks may be on their way to an instance at once. Its channel keeps the last 100 messages:
// beyond that, tasks sent while the instance is between two polls would be lost silently.
const maxUnanswered = 50

// free reports whether the instance can be sent a task now.
func (s *slots) free() bool {
	return (s.Concurrency == 0 || s.used() < s.Concurrency) && s.live-s.confirmed < maxUnanswered
}

// load orders instances: the share of the slots that is used, or the number where there is no limit.
func (s *slots) load() float64 {
	if s.Concurrency == 0 {
		return float64(s.used()) / 1024
	}
	return float64(s.used()) / float64(s.Concurrency)
}

// dispatched counts a task that was sent; the result is to be kept for confirm.
func (s *slots) dispatched() (states int) {
	s.live++
	return s.states
}

// confirm counts a task whose running event was seen. dispatchedAt is what dispatched returned.
func (s *slots) confirm(dispatchedAt int) {
	s.confirmed++
	if dispatchedAt < s.states && s.held > len(s.ended) {
		s.held-- // the state before counted it already
	}
}

// end counts a terminal; the slot stays held until a state or expire frees it.
func (s *slots) end(confirmed bool, now time.Time) {
	s.drop(confirmed)
	s.held++
	s.ended = append(s.ended, now)
}

// abandon counts a task that was running and that the network itself has ended: the instance may work on it for as
// long as it likes, so only a state frees the slot.
func (s *slots) abandon() {
	s.drop(true)
	s.held++
}

// drop takes back a task that was sent and is no longer the instance's.
func (s *slots) drop(confirmed bool) {
	s.live--
	if confirmed {
		s.confirmed--
	}
}

// report takes over a presence state. It overrides everything that was assumed about ended tasks.
func (s *slots) report(active, concurrency int) {
	s.Concurrency = max(concurrency, 0)
	s.held = max(active-s.confirmed, 0)
	s.ended = nil
	s.states++
}

// expire frees the slots of tasks that ended at or before t without a presence state since. It returns the end of the
// next such task, if there is one.
func (s *slots) expire(t time.Time) (next time.Time, more bool) {
	for len(s.ended) > 0 && !s.ended[0].After(t) {
		s.ended = s.ended[1:]
		s.held = max(s.held-1, 0)
	}
	if len(s.ended) == 0 {
		return time.Time{}, false
	}
	return s.ended[0], true
}

// reset forgets all but the confirmed tasks: the instance was lost, and reports its state when it comes back.
func (s *slots) reset() {
	s.live, s.held, s.ended = s.confirmed, 0, nil
}
