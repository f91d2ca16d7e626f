package blocks

import (
	"container/heap"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// queue of the tasks that wait for an instance: first come, first served. Tasks that ended while they waited stay in it,
// unseen, until their turn.
type queue struct {
	front   []*task // came back from a lost instance, last first
	back    []*task
	waiting int // without the ended ones
}

func (q *queue) push(t *task) {
	q.back = append(q.back, t)
	t.queued = true
	q.waiting++
}

func (q *queue) pushFront(ts []*task) {
	for i := len(ts) - 1; i >= 0; i-- {
		q.front = append(q.front, ts[i])
		ts[i].queued = true
		q.waiting++
	}
}

// leave says that a task which waits has ended.
func (q *queue) leave(t *task) {
	if t.queued {
		t.queued = false
		q.waiting--
	}
}

// pop takes the next task, nil if there is none.
func (q *queue) pop() *task {
	for {
		var t *task
		switch {
		case len(q.front) > 0:
			t = q.front[len(q.front)-1]
			q.front[len(q.front)-1] = nil
			q.front = q.front[:len(q.front)-1]
		case len(q.back) > 0:
			t = q.back[0]
			q.back[0] = nil
			q.back = q.back[1:]
		default:
			q.back = nil
			return nil
		}
		if t.queued {
			q.leave(t)
			return t
		}
	}
}

// schedule sends what waits to the instances that can take it. The lock is held, as in all below.
func (n *Network) schedule(a *agent) {
	if a.broadcast {
		n.broadcast(a)
		return
	}
	for a.queue.waiting > 0 && a.takes() {
		t := a.queue.pop()
		i := a.ready[0]
		t.instance, t.confirmed = i, false
		t.states = i.slots.dispatched()
		i.tasks[t.id] = t
		a.picks++
		i.lastPick = a.picks
		heap.Fix(&a.ready, 0)
		if t.answered {
			n.send(t)
		}
	}
}

// broadcast sends what waits to all instances at once, but never more than they have free slots between them: an instance
// that is full says nothing, and a task that nobody takes is lost.
func (n *Network) broadcast(a *agent) {
	free := 0
	for _, i := range a.ready {
		if i.slots.concurrency == 0 {
			free = len(a.unclaimed) + a.queue.waiting
			break
		}
		free += max(i.slots.concurrency-i.slots.used(), 0)
	}
	for a.queue.waiting > 0 && len(a.unclaimed) < free {
		t := a.queue.pop()
		t.toAll, t.confirmed = true, false
		a.unclaimed[t.id] = t
		if t.answered {
			n.send(t)
		}
	}
}

// send has the task's order published to its instance, or to all.
func (n *Network) send(t *task) {
	t.sent, t.sentAt = true, n.cfg.Now()
	i, a := t.instance, t.agent
	meta, controlToken := broadcastMeta, ""
	if i != nil { // a token is an instance's own, so that a message to all brings none
		meta = instanceMeta(i.id)
		var err error
		if controlToken, err = n.controlToken(i); err != nil { // only a broken configuration; without one the old token goes on being used
			n.log.Error("no control token for instance", "agent", a.spec.Name, "instance", i.id, "err", err)
		}
	}
	start := wire.StartTask{
		Task: wire.Task{
			ID: t.id, AgentName: a.spec.Name, Kind: t.kind, Parts: t.parts, OwnerID: t.owner, OrgID: t.orgID,
			CallerClaims: t.claims(), RequestSummary: t.summary(), Duration: t.duration, HasStream: t.hasStream, ConsumerPublicKey: t.publicKey,
		},
		ExpiresAtMS: t.expiresAtMS, ControlToken: controlToken, Version: wire.ProtocolVersion,
	}
	env, granted := t.env, n.writeGrant(t)
	n.push(func() {
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

// writeGrant is what the instance that runs a task may do: publish on the task's channel and its setup channel, read its
// input files and, if allowed, the task's channel.
func (n *Network) writeGrant(t *task) access.Grant {
	right := access.Write | access.Read
	if n.cfg.NoWriterRead {
		right = access.Write
	}
	ttl := n.cfg.WriteTTL
	if t.kind == wire.Pipe {
		ttl = min(max(ttl, t.duration+n.cfg.ReadTTL), access.MaxTTL)
	}
	channels := map[string]access.Right{t.channel: right, wire.SetupChannel(t.orgID, t.id): access.Write}
	if t.inputs != t.channel {
		channels[t.inputs] = access.Read
	}
	return access.Grant{Issued: n.cfg.Now(), TTL: ttl, Channels: channels}
}

// readToken lets a consumer read one task's channel, and no other.
func (n *Network) readToken(t *task) (string, error) {
	return t.env.Access.Issue(access.Grant{
		Issued: n.cfg.Now(), TTL: n.cfg.ReadTTL, Channels: map[string]access.Right{t.channel: access.Read},
	})
}

// backendUUID is the publisher of everything that the network itself publishes.
const backendUUID = "blocks-backend"

// broadcastMeta lets a control message through to all instances. The flag is a text: that is what their filter compares.
var broadcastMeta = []byte(`{"broadcast":"true"}`)

func instanceMeta(id string) []byte {
	return append(pubsub.AppendString([]byte(`{"instance":`), id), '}')
}
