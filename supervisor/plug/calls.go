package plug

import "sync"

// calls counts the calls that have not ended. It knows its end, because a task may be given to a process while Close is
// waiting for the others: a WaitGroup alone must not be added to then.
type calls struct {
	mu     sync.Mutex
	closed bool           // guarded by mu
	open   sync.WaitGroup // Add only under mu while not closed
}

// begin is false after close; otherwise end must follow.
func (c *calls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.open.Add(1)
	}
	return !c.closed
}

func (c *calls) end() { c.open.Done() }

// close lets no more calls begin and waits for those that have.
func (c *calls) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.open.Wait()
}
