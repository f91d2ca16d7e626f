package agent

import (
	"errors"
	"fmt"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// receive takes one control message. Messages come one at a time and in order. It waits for nothing but mu: whatever is
// slow runs elsewhere.
func (a *Agent) receive(s *session, r link.Received) {
	defer a.dealtWith(r)
	c, err := wire.DecodeControl(r.Body, r.Meta)
	if c.Start != nil && c.Start.ControlToken != "" {
		// At once and whatever becomes of the task: an instance that is always busy, or always refuses, needs it too.
		s.link.SetToken(c.Start.ControlToken)
	}
	if refused := (*wire.StartTaskError)(nil); errors.As(err, &refused) {
		a.admit(s, order{refused.Start, c.Broadcast, r, a.late(r)}, refused)
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
	held, ok := a.quiet.allow(kind, a.cfg.Now())
	a.mu.Unlock()
	if ok {
		a.log.Warn("control message ignored", "err", err, "more_like_it", held)
	}
}

// find returns a task in flight, nil if there is none with this id.
func (a *Agent) find(taskID string) *job {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.jobs[taskID]
}

// cancel passes a reason to end on to a task in flight and reports whether there is one.
func (a *Agent) cancel(taskID string, reason dispatch.CancelReason) bool {
	j := a.find(taskID)
	if j == nil {
		a.log.Debug("no such task in flight to end", "task", wire.CutText(taskID, maxLoggedID), "reason", reason)
		return false
	}
	j.cancel(reason)
	return true
}

// maxLoggedID bounds what a stranger's task id takes in the log.
const maxLoggedID = 128

// order is a StartTask as it came.
type order struct {
	start     *wire.StartTask
	broadcast bool
	received  link.Received
	// late: it was sent so long ago that the network may have given the task to another instance meanwhile.
	late bool
}

// admit decides about a StartTask. broken is not nil when it cannot be run whatever the agent's state.
//
// Duplicates are looked for first, even of a broken message: a second message about a task that is running or has its
// outcome must never lead to a second, different outcome.
func (a *Agent) admit(s *session, o order, broken *wire.StartTaskError) {
	start, broadcast := o.start, o.broadcast
	id := start.Task.ID
	log := a.log.With("task", wire.CutText(id, maxLoggedID))
	a.mu.Lock()
	if a.jobs[id] != nil {
		a.mu.Unlock()
		log.Warn("StartTask ignored: the task is running already")
		return
	}
	if a.recovering[id] != nil {
		a.mu.Unlock()
		log.Warn("StartTask ignored: the task was lost by a restart, and its outcome is on its way")
		return
	}
	if outcome, ok := a.finished.recall(id, a.cfg.Now()); ok {
		a.mu.Unlock()
		log.Info("StartTask of a task that is over: its outcome is published again if the network lacks it", "state", outcome.State)
		a.answer(s, o, outcome, nil)
		return
	}
	if a.leaving {
		a.mu.Unlock()
		log.Info("StartTask left to the network, which gives the task to another instance when this one has left")
		return
	}
	if broken != nil {
		a.mu.Unlock()
		// invalid_start_task is answered for broadcasts too, because no instance can run it; a version that this
		// instance does not speak another may.
		log.Warn("StartTask refused", "reason", broken.Reason, "err", broken.Detail)
		if !broadcast || broken.Reason == wire.ReasonInvalidStartTask {
			terminal := wire.Terminal{State: wire.Failed, Error: broken.Reason}
			if broken.Reason == wire.ReasonUnsupportedVersion {
				terminal.Version = wire.CutText(start.Version, maxVersion)
			}
			a.refuse(s, o, terminal)
		}
		return
	}
	if why := a.full(); why != "" {
		a.mu.Unlock()
		log.Warn("StartTask refused", "reason", wire.ReasonAtCapacity, "err", why, "broadcast", broadcast)
		if !broadcast { // another instance may take it
			a.refuse(s, o, wire.Terminal{State: wire.Failed, Error: wire.ReasonAtCapacity})
		}
		return
	}
	a.running++
	a.accepted++
	a.counts.Accepted++
	number, offset := a.accepted, a.clockOffset
	a.announceSlots()
	a.mu.Unlock()

	a.newJob(s, o, number, offset).begin()
}

// maxVersion bounds the foreign version text that an answer repeats.
const maxVersion = 64

// full takes a place for one more task, or says why there is none. mu is held.
//
// While draining the answer is the same as when full: consumers know this text as "not begun here, safe to send
// again", which a sentence of our own would not tell a program.
func (a *Agent) full() string {
	switch {
	case a.phase != serving && !a.cfg.Now().Before(a.refuseFrom), a.hastened, a.failure != nil:
		return "the agent is stopping"
	case a.ill() != nil:
		return a.ill().Error()
	case a.running >= a.cfg.Card.Concurrency:
		return fmt.Sprintf("all %d slots of the agent are taken", a.cfg.Card.Concurrency)
	case a.cfg.Slots != nil && !a.cfg.Slots.TryAcquire():
		return "all slots of the daemon are taken"
	}
	return ""
}
