package blocks

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/blocksd/blocksd/network/wire"
)

// AwaitInstance waits until an agent has an instance that takes a task. An instance does so a moment later than it
// knows itself: when the network has its first poll with a cursor, and a state of it with a free slot.
func (n *Network) AwaitInstance(ctx context.Context, agentName string) error {
	for {
		n.mu.Lock()
		a := n.registry.agents[agentName]
		ready := a != nil && a.takesTaskLocked()
		if !ready && n.freed == nil {
			n.freed = make(chan struct{})
		}
		freed := n.freed
		n.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return fmt.Errorf("wait for an instance of agent %s: %w", agentName, context.Cause(ctx))
		}
	}
}

// applyStateLocked takes over a presence state, nil for none.
func (n *Network) applyStateLocked(i *instance, state []byte) {
	if state != nil {
		if s, err := wire.DecodePresenceState(state); err == nil && (s.InstanceID == "" || s.InstanceID == i.ID) {
			i.slots.report(s.ActiveTasks, s.Concurrency)
		} else {
			n.log.Warn("presence state ignored", "agent", i.agent.Spec.Name, "instance", i.ID, "err", err)
		}
	}
	n.updateReadyLocked(i)
}

// lostLocked takes an instance out of service: tasks that it had not started go to other instances at once; tasks that
// it was running fail after the safety net, unless it comes back or ends them itself.
func (n *Network) lostLocked(i *instance) {
	now := n.cfg.Now()
	i.online, i.polled, i.lostAt = false, false, now
	var back []*task
	for id, t := range i.tasks {
		if !t.confirmedLocked() {
			back = append(back, t)
			delete(i.tasks, id)
		}
	}
	slices.SortFunc(back, func(a, b *task) int { return cmp.Compare(a.Number, b.Number) })
	for _, t := range back {
		t.instance, t.sent = nil, false
	}
	i.slots.reset()
	i.agent.noteOfflineLocked(i)
	i.agent.queue.pushFront(back)
	if len(i.agent.ready) == 0 || len(i.agent.ready) == 1 && i.index >= 0 {
		n.recallLocked(i.agent) // no instance is left that could take what was sent to all
	}
	if len(i.tasks) > 0 {
		n.loop.atLocked(now.Add(n.cfg.SafetyNet), func() { n.failLostLocked(i) })
	}
	n.log.Info("instance lost", "agent", i.agent.Spec.Name, "instance", i.ID, "running", len(i.tasks), "requeued", len(back))
	n.updateReadyLocked(i)
}

// recallLocked puts what went out to all instances, and none took up, back into the queue.
func (n *Network) recallLocked(a *agent) {
	var back []*task
	for id, t := range a.unclaimed {
		if t.sent && !t.ending {
			back = append(back, t)
			delete(a.unclaimed, id)
		}
	}
	slices.SortFunc(back, func(a, b *task) int { return cmp.Compare(a.Number, b.Number) })
	for _, t := range back {
		t.sent, t.toAll = false, false
	}
	a.queue.pushFront(back)
}

// failLostLocked ends what an instance ran that has not come back in time.
func (n *Network) failLostLocked(i *instance) {
	if i.online || n.cfg.Now().Sub(i.lostAt) < n.cfg.SafetyNet {
		return // came back; if it is lost again, that has its own deadline
	}
	for _, t := range i.tasks {
		n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: "the agent instance that ran the task was lost"})
	}
}

// adoptLocked gives a waiting task to the instance that is running it.
func (n *Network) adoptLocked(i *instance, t *task) {
	t.agent.queue.leave(t)
	delete(t.agent.unclaimed, t.ID)
	t.instance, t.InstanceID, t.sent = i, i.ID, true
	i.tasks[t.ID] = t
	i.slots.confirm(i.slots.dispatched())
	if !i.online {
		n.loop.atLocked(n.cfg.Now().Add(n.cfg.SafetyNet), func() { n.failLostLocked(i) })
	}
	n.updateReadyLocked(i)
}
