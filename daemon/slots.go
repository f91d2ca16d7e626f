package daemon

import "sync"

// taskSlots is a limit on the tasks of all agents together, 0 for none. The limit may change; tasks that run keep their
// slots.
type taskSlots struct {
	mu           sync.Mutex
	limit, taken int
}

func newTaskSlots(limit int) *taskSlots { return &taskSlots{limit: limit} }

// TryAcquire takes a slot if one is free.
func (s *taskSlots) TryAcquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit > 0 && s.taken >= s.limit {
		return false
	}
	s.taken++
	return true
}

// Release gives a slot back.
func (s *taskSlots) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
}

// setLimit changes the limit.
func (s *taskSlots) setLimit(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
}
