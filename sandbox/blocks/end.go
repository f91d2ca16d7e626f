package blocks

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// endTaskLocked has the network itself end a task. Its own terminal counts when it is on the channel, like any other.
func (n *Network) endTaskLocked(t *task, terminal wire.Terminal) {
	if t.State.Final() || t.ending {
		return
	}
	t.ending = true
	t.agent.queue.leave(t) // or it would be sent in the meantime
	p := pubsub.Publication{
		Channel: t.Channel, Publisher: backendUUID, Store: true,
		Meta: wire.EventMeta(t.agent.Spec.Name, t.ID, ""), Body: wire.TerminalEvent(t.ID, terminal),
		Unless: func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return t.State.Final() // it ended by itself in the meantime
		},
	}
	space := t.env.Space
	n.loop.pushLocked(func() { space.Publish(p) })
}

// endedLocked records the end of a task in its row, its slot and the queue. byNetwork says that the network ended it,
// not its instance.
func (n *Network) endedLocked(t *task, state wire.TaskState, byNetwork bool) {
	t.State, t.Updated = state, n.cfg.Now()
	t.Parts = nil
	t.agent.queue.leave(t)
	delete(t.agent.unclaimed, t.ID)
	if t.Streams != nil {
		n.loop.atLocked(n.cfg.Now().Add(n.cfg.StreamRevokeDelay), func() { n.revokeStreamsLocked(t) })
	}
	n.touch()
	if i := t.instance; i != nil {
		n.freeSlotLocked(i, t, byNetwork)
	}
	n.tasks.finished = append(n.tasks.finished, t.ID)
	n.forgetFinishedLocked(t.Updated)
}

// freeSlotLocked counts the end of a task of an instance, by itself or by the network.
func (n *Network) freeSlotLocked(i *instance, t *task, byNetwork bool) {
	delete(i.tasks, t.ID)
	switch {
	case i.online && byNetwork && t.confirmedLocked():
		i.slots.abandon()
	case i.online:
		i.slots.end(t.confirmedLocked(), n.cfg.Now())
		if !i.fallback {
			i.fallback = true
			n.loop.atLocked(n.cfg.Now().Add(n.cfg.SlotFallback), func() { n.slotFallbackLocked(i) })
		}
	default:
		i.slots.drop(t.confirmedLocked())
	}
	n.updateReadyLocked(i)
}

// slotFallbackLocked frees the slots of tasks that ended a while ago although no presence state has come since.
func (n *Network) slotFallbackLocked(i *instance) {
	i.fallback = false
	if next, more := i.slots.expire(n.cfg.Now().Add(-n.cfg.SlotFallback)); more {
		i.fallback = true
		n.loop.atLocked(next.Add(n.cfg.SlotFallback), func() { n.slotFallbackLocked(i) })
	}
	n.updateReadyLocked(i)
}

// revokeStreamsLocked revokes the consumers' tokens for the streams of an ended task. The provider's tokens stay valid:
// a shared stream is written with the token of its first task.
func (n *Network) revokeStreamsLocked(t *task) {
	for _, s := range t.Streams {
		if s.Token != "" {
			token, manager := s.Token, t.env.Access
			n.loop.pushLocked(func() { _ = manager.Revoke(token) }) // one that has expired is as good as revoked
		}
	}
}

// forgetFinishedLocked drops the finished tasks that are too many or too old.
func (n *Network) forgetFinishedLocked(now time.Time) {
	for len(n.tasks.finished) > 0 {
		t := n.tasks.byID[n.tasks.finished[0]]
		if len(n.tasks.finished) <= n.cfg.KeepFinished && now.Sub(t.Updated) < n.cfg.KeepFinishedFor {
			return
		}
		n.tasks.finished = n.tasks.finished[1:]
		n.forgetLocked(t)
	}
	n.tasks.finished = nil
}

// forgetLocked drops a finished task with its events and files.
func (n *Network) forgetLocked(t *task) {
	n.tasks.removeLocked(t)
	n.touch()
	channels := []string{t.Channel}
	if t.Inputs != t.Channel {
		channels = append(channels, t.Inputs)
	}
	for _, s := range t.Streams {
		if s.Channel != "" { // its own
			channels = append(channels, s.Channel)
		}
	}
	space := t.env.Space
	n.loop.pushLocked(func() { space.Forget(channels...) })
	n.removeBlobsLocked(n.files.dropLocked(t))
}

// failWaitingLocked ends what waits for an agent.
func (n *Network) failWaitingLocked(a *agent, reason string) {
	for t := a.queue.pop(); t != nil; t = a.queue.pop() {
		n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: reason})
	}
	for _, t := range a.unclaimed {
		n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: reason})
	}
}

// failAllLocked ends all tasks of an agent.
func (n *Network) failAllLocked(a *agent, reason string) {
	n.failWaitingLocked(a, reason)
	for _, i := range a.instances {
		for _, t := range i.tasks {
			n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: reason})
		}
	}
}
