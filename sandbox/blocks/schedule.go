package blocks

import (
	"container/heap"
	"encoding/json"
	"fmt"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// scheduleLocked sends what waits to the instances that can take it.
func (n *Network) scheduleLocked(a *agent) {
	if a.Broadcast {
		n.broadcastLocked(a)
		return
	}
	for a.queue.waiting > 0 && a.takesTaskLocked() {
		t := a.queue.pop()
		i := a.ready[0]
		t.instance = i
		t.states = i.slots.dispatched()
		i.tasks[t.ID] = t
		a.picks++
		i.lastPick = a.picks
		heap.Fix(&a.ready, 0)
		if t.answered {
			n.sendLocked(t)
		}
	}
}

// broadcastLocked sends what waits to all instances at once, but never more than they have free slots between them: a
// full instance ignores the message, and a task that no instance takes is lost.
func (n *Network) broadcastLocked(a *agent) {
	free := 0
	for _, i := range a.ready {
		if i.slots.Concurrency == 0 {
			free = len(a.unclaimed) + a.queue.waiting
			break
		}
		free += max(i.slots.Concurrency-i.slots.used(), 0)
	}
	for a.queue.waiting > 0 && len(a.unclaimed) < free {
		t := a.queue.pop()
		t.toAll = true
		a.unclaimed[t.ID] = t
		if t.answered {
			n.sendLocked(t)
		}
	}
}

// sendLocked has the task's order published to its instance, or to all.
func (n *Network) sendLocked(t *task) {
	t.sent, t.sentAt = true, n.cfg.Now()
	i, a := t.instance, t.agent
	meta, controlToken := broadcastMeta, ""
	if i != nil { // a token is an instance's own, so that a message to all brings none
		meta = instanceMeta(i.ID)
		var err error
		if controlToken, err = n.controlTokenLocked(i); err != nil { // only with a broken configuration; the instance keeps using its old token
			n.log.Error("no control token for instance", "agent", a.Spec.Name, "instance", i.ID, "err", err)
		}
	}
	start := wire.StartTask{
		Task: wire.Task{
			ID: t.ID, AgentName: a.Spec.Name, Kind: t.Kind, Parts: t.Parts, OwnerID: t.Owner, OrgID: t.OrgID,
			CallerClaims: callerClaims(t.Owner), RequestSummary: requestSummary(t.Parts), Duration: t.Duration, HasStream: t.HasStream, ConsumerPublicKey: t.PublicKey,
		},
		ExpiresAtMS: t.ExpiresAtMS, ControlToken: controlToken, Version: wire.ProtocolVersion,
	}
	env, granted := t.env, n.writeGrant(t)
	n.loop.pushLocked(func() {
		var err error
		if start.WriteToken, err = env.Access.Issue(granted); err != nil {
			n.log.Error("no write token for task", "task", start.Task.ID, "err", err)
			return
		}
		body, err := start.Encode()
		if err != nil {
			n.log.Error("task cannot be encoded", "task", start.Task.ID, "err", err)
			return
		}
		env.Space.Publish(pubsub.Publication{Channel: a.control, Publisher: backendUUID, Meta: meta, Body: body})
	})
}

func callerClaims(owner string) json.RawMessage {
	return append(pubsub.AppendString([]byte(`{"sub":`), owner), '}')
}

func requestSummary(parts []wire.Part) json.RawMessage {
	return fmt.Appendf(nil, `{"parts":%d}`, len(parts))
}

// updateReadyLocked reorders the ready instances after the load or readiness of one has changed, and sends what waits.
func (n *Network) updateReadyLocked(i *instance) {
	ready := i.online && i.polled && !i.agent.ForcedOffline
	switch {
	case ready && i.index < 0:
		heap.Push(&i.agent.ready, i)
	case ready:
		heap.Fix(&i.agent.ready, i.index)
	case i.index >= 0:
		heap.Remove(&i.agent.ready, i.index)
	}
	n.scheduleLocked(i.agent)
	if n.freed != nil && i.agent.takesTaskLocked() {
		close(n.freed)
		n.freed = nil
	}
}
