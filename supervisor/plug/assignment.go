package plug

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
)

// assignment is a task on this process, and the only way to its port: nothing is done for a task after it has ended.
type assignment struct {
	port    dispatch.TaskPort
	cancel  context.CancelFunc  // of the context that the task's own call uses the port with
	started chan struct{}       // closed when the handler's call has been sent, or never will be
	settled chan struct{}       // closed when the process has the task no more
	final   bool                // the handler's result ends also a pipe task; set before the result is known
	over    chan struct{}       // closed when the task has ended
	cutOff  func(time.Duration) // ends the handler's call; not called after the task has ended

	mu       sync.Mutex
	ended    bool                       // guarded by mu
	canceled bool                       // guarded by mu; the handler was asked to cancel
	cancels  map[int]context.CancelFunc // guarded by mu; of the uses by other calls that are going on; nil before the first
	next     int                        // guarded by mu
	uses     sync.WaitGroup             // Add only under mu while not ended
	heard    int64                      // guarded by mu; how many messages of the handler's answer have had their effect
	more     chan struct{}              // guarded by mu; closed when heard grows; nil when nothing waits for that

	transfers [transfers]int // guarded by mu; under way, by kind
}

func newAssignment(port dispatch.TaskPort, cancel context.CancelFunc) *assignment {
	return &assignment{
		port: port, cancel: cancel, started: make(chan struct{}), settled: make(chan struct{}), over: make(chan struct{}),
	}
}

// hear says that the first n messages of the handler's answer have had their effect.
func (a *assignment) hear(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = n
	if a.more != nil {
		close(a.more)
		a.more = nil
	}
}

// after waits until the first n messages of the handler's answer have had their effect. A handler that promises more than
// it sends waits for the end of its task.
func (a *assignment) after(ctx context.Context, n int64) error {
	for {
		a.mu.Lock()
		if a.heard >= n {
			a.mu.Unlock()
			return nil
		}
		if a.more == nil {
			a.more = make(chan struct{})
		}
		more := a.more
		a.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// own calls f, for the task's own call, with the port, unless the task has ended. What f waits for must end with the
// context whose cancel the assignment has.
func (a *assignment) own(f func(dispatch.TaskPort) error) error {
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return errTaskEnded
	}
	a.uses.Add(1)
	a.mu.Unlock()
	defer a.uses.Done()
	return f(a.port)
}

// use calls f with the port, unless the task has ended. The context given to f ends with the task; what fails by that fails
// because the task has ended.
func (a *assignment) use(asked context.Context, f func(context.Context, dispatch.TaskPort) error) error {
	ctx, cancel := context.WithCancel(asked)
	defer cancel()
	a.mu.Lock()
	if a.ended {
		a.mu.Unlock()
		return errTaskEnded
	}
	id := a.next
	a.next++
	if a.cancels == nil {
		a.cancels = map[int]context.CancelFunc{}
	}
	a.cancels[id] = cancel
	a.uses.Add(1)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.cancels, id)
		a.mu.Unlock()
		a.uses.Done()
	}()
	err := f(ctx, a.port)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil && asked.Err() == nil {
		return errTaskEnded
	}
	return err
}

// end stops all uses of the port and waits for them.
func (a *assignment) end() {
	a.mu.Lock()
	a.ended = true
	close(a.over)
	a.cancel()
	for _, cancel := range a.cancels {
		cancel()
	}
	a.mu.Unlock()
	a.uses.Wait()
	close(a.settled)
}

// notified marks that the handler was asked to cancel, and reports whether it was before.
func (a *assignment) notified() (before bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before, a.canceled = a.canceled, true
	return before
}

// unwanted reports whether the handler's answer does not count: it was asked to cancel, or the task has ended.
func (a *assignment) unwanted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.canceled || a.ended
}
