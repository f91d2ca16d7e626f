package daemon

// taskSlots is a limit on the tasks of all agents together.
type taskSlots struct{ taken chan struct{} }

func newTaskSlots(limit int) *taskSlots { return &taskSlots{make(chan struct{}, limit)} }

// TryAcquire takes a slot if one is free.
func (s *taskSlots) TryAcquire() bool {
	select {
	case s.taken <- struct{}{}:
		return true
	default:
		return false
	}
}

// Release gives a slot back.
func (s *taskSlots) Release() { <-s.taken }
