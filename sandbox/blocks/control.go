package blocks

import (
	"fmt"
	"strconv"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Cancel asks for the end of a task. One that no instance has got ends at once; otherwise its instance is told, and has
// the cancel budget. A finished task stays as it is.
func (n *Network) Cancel(p *Principal, id string) error {
	return n.stop(p, id, wire.TypeCancelTask, wire.Terminal{State: wire.Canceled})
}

// Terminate is Cancel with another order and the reason "terminated".
func (n *Network) Terminate(p *Principal, id string) error {
	return n.stop(p, id, wire.TypeTerminateTask, wire.Terminal{State: wire.Canceled, Reason: wire.ReasonTerminated})
}

// controlled returns a task that p may control: one of its own organization, or, for an agent, one that it submitted.
// The lock is held.
func (n *Network) controlled(p *Principal, id string) (*task, error) {
	t, err := n.find(p, id)
	if err != nil {
		return nil, err
	}
	if t.orgID != p.OrgID || p.IsAgent() && t.byAgent != p.Agent {
		return nil, refused(403, CodeDenied, "You may not control the task %s.", id)
	}
	return t, nil
}

func (n *Network) stop(p *Principal, id string, order wire.ControlType, terminal wire.Terminal) error {
	if p == nil {
		return Unauthorized("Only the owner of a task may end it.")
	}
	n.mu.Lock()
	t, err := n.controlled(p, id)
	if err != nil || t.state.Final() {
		n.mu.Unlock()
		return err
	}
	first := !t.cancelRequested
	t.cancelRequested = true
	space := t.env.Space
	announce := pubsub.Publication{
		Channel: t.channel, Publisher: backendUUID, Store: true, Meta: wire.EventMeta(t.agent.spec.Name, t.id, ""), Body: n.cancelRequested(t),
		Unless: func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return t.state.Final() // never after a terminal
		},
	}
	n.mu.Unlock()

	if first {
		space.Publish(announce) // before the order, so that the consumer sees it before its effect
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if t.state.Final() {
		return nil
	}
	if !t.sent {
		n.endTask(t, terminal)
		return nil
	}
	n.order(t, order, p.UserID)
	n.at(n.cfg.Now().Add(n.cfg.CancelBudget), func() { n.endTask(t, terminal) })
	return nil
}

func (n *Network) cancelRequested(t *task) []byte {
	b := pubsub.AppendString([]byte(`{"type":"cancel_requested","taskId":`), t.id)
	b = strconv.AppendInt(append(b, `,"ts":`...), n.cfg.Now().UnixMilli(), 10)
	return append(b, `,"protocolVersion":"`+wire.ProtocolVersion+`"}`...)
}

// order sends a control message about a task to the instance that has it. The lock is held.
func (n *Network) order(t *task, order wire.ControlType, caller string) {
	meta := broadcastMeta
	switch i := t.instance; {
	case i != nil:
		meta = instanceMeta(i.id)
	case !t.toAll:
		return
	}
	b := pubsub.AppendString([]byte(`{"type":`), string(order))
	b = pubsub.AppendString(append(b, `,"taskId":`...), t.id)
	switch order {
	case wire.TypeCancelTask:
		b = append(b, `,"reason":"user"`...)
	case wire.TypeExpireTask:
		b = pubsub.AppendString(append(b, `,"agentName":`...), t.agent.spec.Name)
		b = append(b, `,"reason":"duration_expired"`...)
	}
	if caller != "" {
		b = pubsub.AppendString(append(b, `,"caller":`...), caller)
	}
	b = append(b, `,"protocolVersion":"`+wire.ProtocolVersion+`"}`...)
	// Where the agent is now; its task may have begun in the other environment.
	space, control := t.agent.env.Space, t.agent.control
	n.push(func() {
		space.Publish(pubsub.Publication{Channel: control, Publisher: backendUUID, Meta: meta, Body: b})
	})
}

// environmentNames are what the environments are called in control messages.
var environmentNames = map[wire.BillingMode]string{wire.Free: "playground", wire.Paid: "network"}

// SwitchEnvironment moves an agent to the other environment while it runs: its instances are told to go there. What they
// run is finished where it began; what waits fails.
func (n *Network) SwitchEnvironment(name string, mode wire.BillingMode) error {
	if !mode.Valid() {
		return InvalidParams("The billing mode must be free or paid, not %q.", mode)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.agents[name]
	if a == nil {
		return noAgent(name)
	}
	if a.env == n.envs[mode] {
		return nil
	}
	n.drop(a, "the agent moved to another environment of the network")
	from := a.env
	a.env, a.spec.BillingMode = n.envs[mode], mode
	n.touch()
	for _, i := range a.instances {
		i.controlToken = ""
		if !i.online {
			continue
		}
		token, err := n.controlToken(i)
		if err != nil {
			return fmt.Errorf("switch environment of agent %s: %w", name, err)
		}
		b := pubsub.AppendString([]byte(`{"type":"`+string(wire.TypeSwitchEnvironment)+`","environment":`), environmentNames[mode])
		b = pubsub.AppendString(append(b, `,"pamToken":`...), token)
		b = append(b, `,"protocolVersion":"`+wire.ProtocolVersion+`"}`...)
		meta := instanceMeta(i.id)
		n.push(func() {
			from.Space.Publish(pubsub.Publication{Channel: a.control, Publisher: backendUUID, Meta: meta, Body: b})
		})
		// It is not there yet; what it was given it has, or gets before this message.
		i.online, i.polled, i.lostAt = false, false, n.cfg.Now()
		a.retire(i)
		if len(i.tasks) > 0 {
			n.at(i.lostAt.Add(n.cfg.SafetyNet), func() { n.safetyNet(i) })
		}
		n.changed(i)
	}
	return nil
}

// Signal passes PauseTask, ResumeTask or RetryTask on to the instance that has the task.
func (n *Network) Signal(p *Principal, id string, order wire.ControlType) error {
	if p == nil {
		return Unauthorized("Only the owner of a task may control it.")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.controlled(p, id)
	if err != nil {
		return err
	}
	if t.sent && !t.state.Final() {
		n.order(t, order, p.UserID)
	}
	return nil
}

// expireAt has a pipe task end when its time is over. That may be in a month: a task that was forgotten long before is
// not to be kept alive for it. The lock is held.
func (n *Network) expireAt(t *task) {
	id := t.id
	n.at(time.UnixMilli(t.expiresAtMS), func() {
		if t := n.tasks[id]; t != nil {
			n.expire(t)
		}
	})
}

// expire ends a pipe task whose time is over: its instance is told, and then has the cancel budget. The lock is held.
func (n *Network) expire(t *task) {
	terminal := wire.Terminal{State: wire.Completed, CompletionReason: wire.ReasonDurationExpired}
	if t.state.Final() {
		return
	}
	if !t.sent {
		n.endTask(t, terminal)
		return
	}
	n.order(t, wire.TypeExpireTask, "")
	n.at(n.cfg.Now().Add(n.cfg.CancelBudget), func() { n.endTask(t, terminal) })
}
