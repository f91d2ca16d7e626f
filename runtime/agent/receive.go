package agent

import (
	"errors"
	"fmt"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// order is a StartTask as it came.
type order struct {
	start     *wire.StartTask
	broadcast bool
	received  link.Received
	// late: it was sent so long ago that the network may have given the task to another instance meanwhile.
	late bool
}

// receive takes one control message. Messages come one at a time and in order. It waits for nothing but mu: whatever is
// slow runs elsewhere.
func (a *Agent) receive(s *session, r link.Received) {
	defer a.noteReceived(r)
	c, err := wire.DecodeControl(r.Body, r.Meta)
	if c.Start != nil && c.Start.ControlToken != "" {
		// At once and whatever becomes of the task: an instance that is always busy, or always refuses, needs it too.
		s.link.SetToken(c.Start.ControlToken)
	}
	if broken := (*wire.StartTaskError)(nil); errors.As(err, &broken) {
		a.admit(s, order{broken.Start, c.Broadcast, r, a.late(r)}, broken)
		return
	}
	if err != nil {
		a.ignore(c, err)
		return
	}
	switch c.Type {
	case wire.TypeStartTask:
		a.admit(s, order{c.Start, c.Broadcast, r, a.late(r)}, nil)
	case wire.TypeCancelTask:
		a.cancel(c.TaskID, dispatch.CancelUser)
	case wire.TypeExpireTask:
		a.cancel(c.TaskID, dispatch.CancelExpired)
	case wire.TypeTerminateTask:
		a.cancel(c.TaskID, dispatch.CancelTerminated)
	case wire.TypePauseTask, wire.TypeResumeTask, wire.TypeRetryTask:
		// Handlers cannot be paused, so an event that says "paused" would be a lie.
		a.log.Info("control message has no effect here", "type", c.Type, "task", c.TaskID)
	case wire.TypeSwitchEnvironment:
		if err := a.switchEnvironment(s, c); err != nil {
			a.ignore(c, err)
		}
	default:
		a.ignore(c, fmt.Errorf("%s is not supported", c.Type))
	}
}

// ignore counts a message with which nothing can be done. Of each kind one is logged a minute, because whoever sends
// one bad message usually sends many.
func (a *Agent) ignore(c wire.Control, err error) {
	kind := string(c.Type)
	if errors.Is(err, wire.ErrIgnored) {
		kind = "unknown" // the type of such a message is the sender's to choose
	}
	a.mu.Lock()
	a.counts.Ignored++
	held, ok := a.throttle.allow(kind, a.cfg.Now())
	a.mu.Unlock()
	if ok {
		a.log.Warn("control message ignored", "err", err, "more_like_it", held)
	}
}

// cancel passes a reason to end on to a task in flight.
func (a *Agent) cancel(taskID string, reason dispatch.CancelReason) {
	j := a.find(taskID)
	if j == nil {
		a.log.Debug("no such task in flight to end", "task", wire.CutText(taskID, maxLoggedID), "reason", reason)
		return
	}
	j.cancel(reason)
}
