package daemon

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// ending is how a daemon comes to its end, when nobody has asked for it.
type ending struct {
	begun atomic.Bool // the daemon drains, for whatever reason

	refused     chan struct{} // closed when the network has refused every agent for good
	unreachable chan struct{} // closed when the control socket is lost and another start would bring it back
	lost        sync.Once
}

func newEnding() *ending {
	return &ending{refused: make(chan struct{}), unreachable: make(chan struct{})}
}

func (e *ending) loseSocket() { e.lost.Do(func() { close(e.unreachable) }) }

// wait returns when the daemon has to end, which it does with ctx too.
func (e *ending) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-e.refused:
	case <-e.unreachable:
	}
}

// reason is nil when somebody has asked for the end.
func (e *ending) reason(socket string) error {
	select {
	case <-e.refused:
		return fmt.Errorf("%w: check the API key, or ask an administrator of the network", ErrAuthFinal)
	case <-e.unreachable:
		return fmt.Errorf("control socket %s was removed and cannot be made again: start the daemon again, which makes its directory", socket)
	default:
		return nil
	}
}
