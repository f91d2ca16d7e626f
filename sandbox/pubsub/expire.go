package pubsub

import "container/heap"

// Expire ends the presence of those who have been silent for their time-out, and publishes what else is due. It has to
// be called regularly.
func (s *Space) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	s.announceLocked(now)
	for len(s.due) > 0 && !s.due[0].queuedAt.After(now) {
		m := s.due[0]
		if m.deadline.After(now) {
			m.queuedAt = m.deadline
			heap.Fix(&s.due, 0)
			continue
		}
		s.endLocked(m, TimedOut)
	}
	s.reportCrowdsLocked(now)
	s.sweepHistoryLocked(now)
}
