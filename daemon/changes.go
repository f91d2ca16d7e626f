package daemon

import "sync"

// changes wakes everybody who waits for something to be different. The zero value is ready.
type changes struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns a channel that closes at the next change. Take it before looking, so that no change is missed.
func (c *changes) wait() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

func (c *changes) broadcast() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		close(c.next)
		c.next = nil
	}
}

// slots is a limit on the tasks of all agents together.
type slots struct{ taken chan struct{} }

func newSlots(limit int) *slots { return &slots{make(chan struct{}, limit)} }

// TryAcquire takes a slot if one is free.
func (s *slots) TryAcquire() bool {
	select {
	case s.taken <- struct{}{}:
		return true
	default:
		return false
	}
}

// Release gives a slot back.
func (s *slots) Release() { <-s.taken }
