package blocks

import (
	"bytes"
	"strings"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// observer watches the space of one environment for the network.
type observer struct {
	network *Network
	mode    wire.BillingMode
}

// sign is what a published event says about a task: that it runs, or how it ended.
type sign struct {
	taskID string
	state  wire.TaskState
}

var (
	terminalText = []byte(`"terminal"`)
	runningText  = []byte(`"running"`)
)

// Inspect reads events of tasks, before the lock is taken. Most are neither a start nor an end, which a look at their
// bytes tells.
func (o *observer) Inspect(p pubsub.Publication) any {
	if !strings.HasPrefix(p.Channel, "u.") || !bytes.Contains(p.Body, terminalText) && !bytes.Contains(p.Body, runningText) {
		return nil
	}
	_, taskID, ok := wire.SplitTaskChannel(p.Channel)
	if !ok {
		return nil
	}
	e, err := wire.DecodeEvent(p.Body)
	switch {
	case err != nil:
	case e.Type == wire.EventTerminal:
		if !e.State.Final() {
			e.State = wire.Failed // a terminal all the same
		}
		return sign{taskID, e.State}
	case e.Type == wire.EventProgress && e.State == wire.Running:
		return sign{taskID, wire.Running}
	}
	return nil
}

// Published takes over what an event says, in the order of the channel: the first terminal wins.
func (o *observer) Published(m *pubsub.Message, note any) {
	s, ok := note.(sign)
	if !ok {
		return
	}
	n := o.network
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tasks[s.taskID]
	if t == nil || t.channel != m.Channel || t.env != n.envs[o.mode] || t.state.Final() {
		return
	}
	t.updated = n.cfg.Now()
	if s.state.Final() {
		n.ended(t, s.state, m.Publisher == backendUUID)
		return
	}
	t.state = wire.Running
	if t.confirmed {
		return
	}
	publisher := t.agent.instances[m.Publisher]
	switch i := t.instance; {
	case i == nil && (t.queued || t.toAll && t.sent) && publisher != nil:
		// Sent before its instance was lost, put back into the queue, and taken up after all; or sent to all, and this
		// is the first to take it.
		n.adopt(publisher, t)
	case i != nil && t.sent && (publisher == i || publisher == nil):
		t.confirmed = true
		i.slots.confirm(t.states)
		n.changed(i)
	default:
		return // another instance than the one that it was given to: the first terminal will win
	}
	t.parts = nil                                                      // it will not be sent again
	if limit := t.agent.maxRunning; limit > 0 && t.kind != wire.Pipe { // a pipe has its duration
		t.deadline = t.updated.Add(limit)
	}
}

// adopt gives a waiting task to the instance that is running it.
func (n *Network) adopt(i *instance, t *task) {
	t.agent.queue.leave(t)
	delete(t.agent.unclaimed, t.id)
	t.instance, t.sent, t.confirmed = i, true, true
	i.tasks[t.id] = t
	i.slots.confirm(i.slots.dispatched())
	if !i.online {
		n.at(n.cfg.Now().Add(n.cfg.SafetyNet), func() { n.safetyNet(i) })
	}
	n.changed(i)
}

// instance finds the instance that uuid on a channel stands for, nil if none. The lock is held.
func (o *observer) instance(channel, uuid string) *instance {
	a := o.network.byControl[channel]
	if a == nil || a.env != o.network.envs[o.mode] {
		return nil
	}
	return a.instances[uuid]
}

// Polled makes an instance ready.
func (o *observer) Polled(uuid string, channels []string) {
	n := o.network
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, channel := range channels {
		if i := o.instance(channel, uuid); i != nil && !i.polled {
			i.polled = true
			n.changed(i)
		}
	}
}

// Presence follows the instances.
func (o *observer) Presence(e pubsub.PresenceEvent) {
	n := o.network
	n.mu.Lock()
	defer n.mu.Unlock()
	i := o.instance(e.Channel, e.UUID)
	if i == nil {
		return
	}
	switch e.Kind {
	case pubsub.Joined:
		i.online, i.polled = true, i.polled || e.Polling
		n.reported(i, e.State)
	case pubsub.StateSet:
		n.reported(i, e.State)
	case pubsub.Left, pubsub.TimedOut:
		if i.online {
			n.lost(i)
		}
	}
}
