package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/blocksd/blocksd/runtime/agent"
)

// keyCheck is how often the source of an API key is read again for an agent that cannot go on without another key.
const keyCheck = 5 * time.Second

// Why an agent is not online in a daemon that stops, and in one that has just begun.
const (
	reasonStopping   = "the daemon stops"
	reasonNotReached = "the network has not been reached yet"
)

// awaitKey returns the API key of an agent, waiting for it where its source has none yet. It calls missing with the reason
// whenever it changes, and returns "" when the agent has to leave first.
func (d *Daemon) awaitKey(ctx context.Context, s *agentSlot, missing func(error)) string {
	said := ""
	for {
		key, err := d.cfg.Key(s.assignment.KeyFile)
		if err == nil {
			if said != "" {
				s.set(agent.StateConnecting, reasonNotReached)
			}
			return key
		}
		if err.Error() != said {
			said = err.Error()
			missing(fmt.Errorf("serve agent %s: %w", s.name(), err))
		}
		if !s.pause(ctx, keyCheck) {
			return ""
		}
	}
}

// awaitOtherKey returns the key that has taken the place of one that the network refuses for good. A key that was replaced
// in time costs the agent nothing. Else the agent is final, and the daemon with it if all are, until its source has another
// key. It returns "" when the agent has to leave first.
func (d *Daemon) awaitOtherKey(ctx context.Context, s *agentSlot, refused string) string {
	for {
		if key, err := d.cfg.Key(s.assignment.KeyFile); err == nil && key != refused {
			s.setFinal(false)
			return key
		}
		s.setFinal(true)
		d.inbox.notify() // every agent may be final now
		if !s.pause(ctx, keyCheck) {
			return ""
		}
	}
}

// pause waits for d and reports false when the agent has to leave first.
func (s *agentSlot) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.quit:
	case <-ctx.Done():
	}
	return false
}
