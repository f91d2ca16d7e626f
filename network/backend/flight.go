package backend

import (
	"context"
	"sync"
)

// flight makes concurrent callers that need the same new credential share one request. The request does not end with
// the caller that began it, because others may be waiting, but with the last one that waits.
type flight struct {
	mu  sync.Mutex
	cur *flightCall
}

type flightCall struct {
	done    chan struct{}
	err     error
	cancel  context.CancelFunc
	waiting int
}

// do runs fn, or waits for the run under way.
func (f *flight) do(ctx context.Context, fn func(ctx context.Context) error) error {
	f.mu.Lock()
	c := f.cur
	if c == nil {
		run, cancel := context.WithCancel(context.WithoutCancel(ctx))
		c = &flightCall{done: make(chan struct{}), cancel: cancel}
		f.cur = c
		go func() { // ends at the latest when the last waiting caller has left and cancelled it
			c.err = fn(run)
			f.mu.Lock()
			if f.cur == c {
				f.cur = nil
			}
			f.mu.Unlock()
			cancel()
			close(c.done)
		}()
	}
	c.waiting++
	f.mu.Unlock()

	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	c.waiting--
	if c.waiting == 0 {
		if f.cur == c {
			f.cur = nil
		}
		c.cancel()
		f.mu.Unlock()
		<-c.done // we are its owner now
		return ctx.Err()
	}
	f.mu.Unlock()
	return ctx.Err()
}
