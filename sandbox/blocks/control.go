package blocks

import (
	"strconv"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Cancel asks for the end of a task. A task that was not sent to an instance ends at once; otherwise its instance is
// notified and has the cancel budget. A finished task stays as it is.
func (n *Network) Cancel(p *Principal, id string) error {
	return n.stop(p, id, wire.TypeCancelTask, wire.Terminal{State: wire.Canceled})
}

// Terminate is Cancel with another order and the reason "terminated".
func (n *Network) Terminate(p *Principal, id string) error {
	return n.stop(p, id, wire.TypeTerminateTask, wire.Terminal{State: wire.Canceled, Reason: wire.ReasonTerminated})
}

// controlledLocked returns a task that p may control: one of its own organization, or, for an agent, one that it
// submitted.
func (n *Network) controlledLocked(p *Principal, id string) (*task, error) {
	t, err := n.findLocked(p, id)
	if err != nil {
		return nil, err
	}
	if t.OrgID != p.OrgID || p.IsAgent() && t.ByAgent != p.Agent {
		return nil, refused(403, CodeDenied, "You may not control the task %s.", id)
	}
	return t, nil
}

func (n *Network) stop(p *Principal, id string, order wire.ControlType, terminal wire.Terminal) error {
	if p == nil {
		return Unauthorized("Only the owner of a task may end it.")
	}
	n.mu.Lock()
	t, err := n.controlledLocked(p, id)
	if err != nil || t.State.Final() {
		n.mu.Unlock()
		return err
	}
	first := !t.CancelRequested
	t.CancelRequested = true
	space := t.env.Space
	announce := pubsub.Publication{
		Channel: t.Channel, Publisher: backendUUID, Store: true, Meta: wire.EventMeta(t.agent.Spec.Name, t.ID, ""), Body: n.cancelRequested(t),
		Unless: func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return t.State.Final() // never after a terminal
		},
	}
	n.mu.Unlock()

	if first {
		space.Publish(announce) // before the order, so that the consumer sees it before its effect
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if t.State.Final() {
		return nil
	}
	if !t.sent {
		n.endTaskLocked(t, terminal)
		return nil
	}
	n.orderLocked(t, order, p.UserID)
	n.loop.atLocked(n.cfg.Now().Add(n.cfg.CancelBudget), func() { n.endTaskLocked(t, terminal) })
	return nil
}

func (n *Network) cancelRequested(t *task) []byte {
	b := pubsub.AppendString([]byte(`{"type":"cancel_requested","taskId":`), t.ID)
	b = strconv.AppendInt(append(b, `,"ts":`...), n.cfg.Now().UnixMilli(), 10)
	return append(b, `,"protocolVersion":"`+wire.ProtocolVersion+`"}`...)
}

// Signal passes PauseTask, ResumeTask or RetryTask on to the instance that has the task.
func (n *Network) Signal(p *Principal, id string, order wire.ControlType) error {
	if p == nil {
		return Unauthorized("Only the owner of a task may control it.")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.controlledLocked(p, id)
	if err != nil {
		return err
	}
	if t.sent && !t.State.Final() {
		n.orderLocked(t, order, p.UserID)
	}
	return nil
}
