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

// Inspect reads events of tasks, before the lock is taken. Most are neither a start nor an end, which a search in
// their bytes shows.
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
	t := n.tasks.byID[s.taskID]
	if t == nil || t.Channel != m.Channel || t.env != n.envs[o.mode] || t.State.Final() {
		return
	}
	t.Updated = n.cfg.Now()
	if s.state.Final() {
		n.endedLocked(t, s.state, m.Publisher == backendUUID)
		return
	}
	t.State = wire.Running
	if t.confirmedLocked() {
		return
	}
	publisher := t.agent.instances[m.Publisher]
	switch i := t.instance; {
	case i == nil && (t.queued || t.toAll && t.sent) && publisher != nil:
		// Sent before its instance was lost, put back into the queue, and taken up after all; or sent to all, and this
		// is the first to take it.
		n.adoptLocked(publisher, t)
	case i != nil && t.sent && (publisher == i || publisher == nil):
		t.InstanceID = i.ID
		i.slots.confirm(t.states)
		n.updateReadyLocked(i)
	default:
		return // another instance than the one that it was given to: the first terminal will win
	}
	t.Parts = nil                                                      // it will not be sent again
	if limit := t.agent.MaxRunning; limit > 0 && t.Kind != wire.Pipe { // a pipe has its duration
		t.Deadline = t.Updated.Add(limit)
	}
}

// instanceLocked finds the instance that uuid on a channel stands for, nil if none.
func (o *observer) instanceLocked(channel, uuid string) *instance {
	a := o.network.registry.byControl[channel]
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
		if i := o.instanceLocked(channel, uuid); i != nil && !i.polled {
			i.polled = true
			n.updateReadyLocked(i)
		}
	}
}

// Presence follows the instances.
func (o *observer) Presence(e pubsub.PresenceEvent) {
	n := o.network
	n.mu.Lock()
	defer n.mu.Unlock()
	i := o.instanceLocked(e.Channel, e.UUID)
	if i == nil {
		return
	}
	switch e.Kind {
	case pubsub.Joined:
		i.online, i.polled = true, i.polled || e.Polling
		n.applyStateLocked(i, e.State)
	case pubsub.StateSet:
		n.applyStateLocked(i, e.State)
	case pubsub.Left, pubsub.TimedOut:
		if i.online {
			n.lostLocked(i)
		}
	}
}
