package blocks

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// instance is one running copy of an agent.
type instance struct {
	id    string
	agent *agent
	// online by presence; polled since it came online: only then it misses no message.
	online, polled bool
	lostAt         time.Time
	connectedAt    time.Time
	build          Build
	slots          slots
	tasks          map[string]*task // sent to it and not ended
	fallback       bool             // a slot fallback is scheduled
	index          int              // in agent.ready, -1 if not there
	lastPick       int

	controlToken string
	controlRenew time.Time
}

// loads is a heap of the instances that are ready: the one that can take a task and is least loaded comes first.
type loads []*instance

func (l loads) Len() int { return len(l) }

func (l loads) Less(i, j int) bool {
	a, b := l[i], l[j]
	if free := a.slots.free(); free != b.slots.free() {
		return free
	}
	return cmp.Or(cmp.Compare(a.slots.load(), b.slots.load()), cmp.Compare(a.lastPick, b.lastPick)) < 0
}

func (l loads) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].index, l[j].index = i, j
}

func (l *loads) Push(x any) {
	i := x.(*instance)
	i.index = len(*l)
	*l = append(*l, i)
}

func (l *loads) Pop() any {
	old := *l
	i := old[len(old)-1]
	old[len(old)-1] = nil
	*l = old[:len(old)-1]
	i.index = -1
	return i
}

// changed puts an instance where it belongs after its load or readiness changed, and gives it what waits. The lock is
// held, as in all below.
func (n *Network) changed(i *instance) {
	ready := i.online && i.polled && !i.agent.forcedOffline
	switch {
	case ready && i.index < 0:
		heap.Push(&i.agent.ready, i)
	case ready:
		heap.Fix(&i.agent.ready, i.index)
	case i.index >= 0:
		heap.Remove(&i.agent.ready, i.index)
	}
	n.schedule(i.agent)
	if n.freed != nil && i.agent.takes() {
		close(n.freed)
		n.freed = nil
	}
}

// takes reports whether a task sent now would have an instance at once. The lock is held.
func (a *agent) takes() bool { return len(a.ready) > 0 && a.ready[0].slots.free() }

// AwaitInstance waits until an agent has an instance that takes a task. An instance does so a moment later than it knows
// itself: when the network has its first poll with a cursor, and a state of it with a free slot.
func (n *Network) AwaitInstance(ctx context.Context, agentName string) error {
	for {
		n.mu.Lock()
		a := n.agents[agentName]
		ready := a != nil && a.takes()
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

// reported takes over a presence state, nil for none.
func (n *Network) reported(i *instance, state []byte) {
	if state != nil {
		if s, err := wire.DecodePresenceState(state); err == nil && (s.InstanceID == "" || s.InstanceID == i.id) {
			i.slots.report(s.ActiveTasks, s.Concurrency)
		} else {
			n.log.Warn("presence state ignored", "agent", i.agent.spec.Name, "instance", i.id, "err", err)
		}
	}
	n.changed(i)
}

// lost takes an instance out of service: what it had not taken up goes elsewhere at once, what it was running is ended
// after a while, unless it comes back or ends it itself.
func (n *Network) lost(i *instance) {
	now := n.cfg.Now()
	i.online, i.polled, i.lostAt = false, false, now
	var back []*task
	for id, t := range i.tasks {
		if !t.confirmed {
			back = append(back, t)
			delete(i.tasks, id)
		}
	}
	slices.SortFunc(back, func(a, b *task) int { return cmp.Compare(a.number, b.number) })
	for _, t := range back {
		t.instance, t.sent = nil, false
	}
	i.slots.reset()
	i.agent.retire(i)
	i.agent.queue.pushFront(back)
	if len(i.agent.ready) == 0 || len(i.agent.ready) == 1 && i.index >= 0 {
		n.recall(i.agent) // nobody is left who could take what went out to all
	}
	if len(i.tasks) > 0 {
		n.at(now.Add(n.cfg.SafetyNet), func() { n.safetyNet(i) })
	}
	n.log.Info("instance lost", "agent", i.agent.spec.Name, "instance", i.id, "running", len(i.tasks), "requeued", len(back))
	n.changed(i)
}

// recall puts what went out to all instances, and none took up, back into the queue.
func (n *Network) recall(a *agent) {
	var back []*task
	for id, t := range a.unclaimed {
		if t.sent && !t.ending {
			back = append(back, t)
			delete(a.unclaimed, id)
		}
	}
	slices.SortFunc(back, func(a, b *task) int { return cmp.Compare(a.number, b.number) })
	for _, t := range back {
		t.sent, t.toAll = false, false
	}
	a.queue.pushFront(back)
}

func (n *Network) safetyNet(i *instance) {
	if i.online || n.cfg.Now().Sub(i.lostAt) < n.cfg.SafetyNet {
		return // came back; if it is lost again, that has its own deadline
	}
	for _, t := range i.tasks {
		n.endTask(t, wire.Terminal{State: wire.Failed, Error: "the agent instance that ran the task was lost"})
	}
}

// slotEnded counts the end of a task of an instance, by itself or by the network.
func (n *Network) slotEnded(i *instance, t *task, byNetwork bool) {
	delete(i.tasks, t.id)
	switch {
	case i.online && byNetwork && t.confirmed:
		i.slots.abandon()
	case i.online:
		i.slots.end(t.confirmed, n.cfg.Now())
		if !i.fallback {
			i.fallback = true
			n.at(n.cfg.Now().Add(n.cfg.SlotFallback), func() { n.slotFallback(i) })
		}
	default:
		i.slots.drop(t.confirmed)
	}
	n.changed(i)
}

func (n *Network) slotFallback(i *instance) {
	i.fallback = false
	if next, more := i.slots.expire(n.cfg.Now().Add(-n.cfg.SlotFallback)); more {
		i.fallback = true
		n.at(next.Add(n.cfg.SlotFallback), func() { n.slotFallback(i) })
	}
	n.changed(i)
}
