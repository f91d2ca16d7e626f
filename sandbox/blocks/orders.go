package blocks

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// orderLocked sends a control message about a task to the instance that has it.
func (n *Network) orderLocked(t *task, order wire.ControlType, caller string) {
	meta := broadcastMeta
	switch i := t.instance; {
	case i != nil:
		meta = instanceMeta(i.ID)
	case !t.toAll:
		return
	}
	b := pubsub.AppendString([]byte(`{"type":`), string(order))
	b = pubsub.AppendString(append(b, `,"taskId":`...), t.ID)
	switch order {
	case wire.TypeCancelTask:
		b = append(b, `,"reason":"user"`...)
	case wire.TypeExpireTask:
		b = pubsub.AppendString(append(b, `,"agentName":`...), t.agent.Spec.Name)
		b = append(b, `,"reason":"duration_expired"`...)
	}
	if caller != "" {
		b = pubsub.AppendString(append(b, `,"caller":`...), caller)
	}
	b = append(b, `,"protocolVersion":"`+wire.ProtocolVersion+`"}`...)
	// Where the agent is now; its task may have begun in the other environment.
	space, control := t.agent.env.Space, t.agent.control
	n.loop.pushLocked(func() {
		space.Publish(pubsub.Publication{Channel: control, Publisher: backendUUID, Meta: meta, Body: b})
	})
}

// expireAtLocked has a pipe task end when its time is over. That may be in a month, so the deadline does not keep a
// task in memory that was forgotten long before.
func (n *Network) expireAtLocked(t *task) {
	id := t.ID
	n.loop.atLocked(time.UnixMilli(t.ExpiresAtMS), func() {
		if t := n.tasks.byID[id]; t != nil {
			n.expireLocked(t)
		}
	})
}

// expireLocked ends a pipe task whose time is over: its instance is notified and then has the cancel budget.
func (n *Network) expireLocked(t *task) {
	terminal := wire.Terminal{State: wire.Completed, CompletionReason: wire.ReasonDurationExpired}
	if t.State.Final() {
		return
	}
	if !t.sent {
		n.endTaskLocked(t, terminal)
		return
	}
	n.orderLocked(t, wire.TypeExpireTask, "")
	n.loop.atLocked(n.cfg.Now().Add(n.cfg.CancelBudget), func() { n.endTaskLocked(t, terminal) })
}
