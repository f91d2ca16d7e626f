package blocks

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// task is one submitted task. Its fields are guarded by the lock of the network; what identifies it never changes.
type task struct {
	id, owner, orgID string
	number           int // order of submission
	byAgent          string
	agent            *agent
	env              *Environment // the agent's when the task was submitted
	channel, inputs  string       // where its events and its input files are
	kind             wire.TaskKind
	duration         time.Duration
	expiresAtMS      int64
	hasStream        bool
	publicKey        string
	key              idempotencyKey

	parts            []wire.Part // nil once it runs
	state            wire.TaskState
	created, updated time.Time
	cancelRequested  bool
	ending           bool // a terminal of the network itself is on its way

	answered  bool // the submitter has its answer, so that the task may be sent
	queued    bool
	instance  *instance
	toAll     bool // sent to all instances
	sent      bool
	sentAt    time.Time
	confirmed bool      // running seen
	deadline  time.Time // of a task that runs, zero for none
	states    int       // see slots.dispatched
	files     []string
	streams   map[string]*stream // that were set up, by id
}

// idempotencyKey belongs to the caller.
type idempotencyKey struct{ userID, key string }

func (t *task) claims() json.RawMessage {
	return append(pubsub.AppendString([]byte(`{"sub":`), t.owner), '}')
}

func (t *task) summary() json.RawMessage {
	return fmt.Appendf(nil, `{"parts":%d}`, len(t.parts))
}

// SendRequest submits a task.
type SendRequest struct {
	AgentName         string
	BillingMode       wire.BillingMode
	Parts             []wire.Part
	OwnerID           string
	IdempotencyKey    string
	UploadSessionID   string
	Kind              wire.TaskKind
	Minutes           int
	Stream            bool
	ConsumerPublicKey string
}

// SendResult is the answer to it.
type SendResult struct {
	TaskID, OrgID      string
	Idempotent, Queued bool
	State              wire.TaskState
	ReadToken, Channel string
	Keys               wire.Keyset
}

// SendMessage submits a task, or finds the one with the same idempotency key. The request is on the task's channel when
// it returns; the order to an instance goes out when the caller, having answered, calls dispatch.
func (n *Network) SendMessage(p *Principal, req SendRequest) (result SendResult, dispatch func(), err error) {
	n.mu.Lock()
	t, isNew, err := n.submit(p, req)
	if err != nil {
		n.mu.Unlock()
		return SendResult{}, nil, err
	}
	parts := t.parts
	env := t.env
	n.mu.Unlock()

	if isNew {
		// Stored before the answer: a consumer whose history is empty loses what comes between its look and its poll.
		body, err := requestEvent(t.id, parts)
		if err != nil {
			n.mu.Lock()
			n.endTask(t, wire.Terminal{State: wire.Failed, Error: "the request cannot be encoded"})
			n.mu.Unlock()
			return SendResult{}, nil, InvalidParams("requestParts cannot be encoded: %v.", err)
		}
		env.Space.Publish(pubsub.Publication{
			Channel: t.channel, Publisher: backendUUID, Meta: wire.EventMeta(t.agent.spec.Name, t.id, ""), Body: body, Store: true,
		})
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if isNew && !t.state.Final() {
		t.agent.queue.push(t)
		n.schedule(t.agent)
		if t.kind == wire.Pipe {
			n.expireAt(t)
		}
	}
	token, err := n.readToken(t)
	if err != nil {
		return SendResult{}, nil, err
	}
	result = SendResult{
		TaskID: t.id, OrgID: t.orgID, Idempotent: !isNew, Queued: t.queued, State: t.state, ReadToken: token, Channel: t.channel, Keys: env.Keys,
	}
	dispatch = func() {}
	if isNew {
		dispatch = func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			t.answered = true
			if (t.instance != nil || t.toAll) && !t.sent && !t.state.Final() && !t.ending {
				n.send(t)
			}
		}
	}
	return result, dispatch, nil
}

// submit checks a request and enters the task. The lock is held.
func (n *Network) submit(p *Principal, req SendRequest) (t *task, isNew bool, err error) {
	key := idempotencyKey{p.UserID, req.IdempotencyKey}
	if req.IdempotencyKey != "" {
		if t := n.keys[key]; t != nil {
			return t, false, nil
		}
	}
	a := n.agents[req.AgentName]
	if !a.visible(p) {
		return nil, false, noAgent(req.AgentName)
	}
	if req.OwnerID != "" && req.OwnerID != p.UserID {
		return nil, false, refused(403, CodeDenied, "The ownerId is not the one of the authenticated user.")
	}
	if req.BillingMode != a.spec.BillingMode && p.OrgID != a.spec.OrgID { // the owner's own organization is let off
		return nil, false, &Error{
			Status: 409, Code: CodeBillingMode, RPC: RPCApplication,
			Message: fmt.Sprintf("The agent %s is %s, but the request says %s.", a.spec.Name, a.spec.BillingMode, req.BillingMode),
			Details: Mismatch{Expected: a.spec.BillingMode, Got: req.BillingMode},
		}
	}
	if len(a.spec.Kinds) > 0 && !slices.Contains(a.spec.Kinds, req.Kind) {
		return nil, false, refused(400, CodeTaskKind, "The agent %s takes no %s tasks, only %s tasks.", a.spec.Name, req.Kind, a.spec.Kinds[0])
	}
	if a.spec.BillingMode == wire.Paid && p.org.Broke && p.OrgID != a.spec.OrgID {
		return nil, false, &Error{
			Status: 402, Code: CodeNoBalance, RPC: RPCApplication, Message: "The balance of the organization does not cover the price of the task.",
			Details: map[string]string{"required": cmp.Or(a.spec.PerTask, a.spec.PerMinute), "available": "0.00"},
		}
	}
	if a.forcedOffline {
		return nil, false, offline(a.spec.Name)
	}
	if len(a.ready) == 0 || !a.ready[0].slots.free() {
		if a.queue.waiting >= a.backlog {
			return nil, false, refused(429, CodeBacklog, "The agent %s has %d tasks waiting, as many as it takes.", a.spec.Name, a.queue.waiting)
		}
	}
	now := n.cfg.Now()
	t = &task{
		id: "task_" + strings.ToLower(rand.Text()), owner: p.UserID, orgID: p.OrgID, byAgent: p.Agent, agent: a, env: a.env, number: n.submitted,
		kind: req.Kind, hasStream: len(a.spec.Streams) > 0 && (req.Stream || req.Kind == wire.Pipe), publicKey: req.ConsumerPublicKey, key: key,
		parts: req.Parts, state: wire.Pending, created: now, updated: now,
	}
	t.channel = wire.TaskChannel(t.orgID, t.id)
	t.inputs = t.channel
	if n.cfg.NoWriterRead { // the instance must be able to read its inputs all the same
		t.inputs = "files." + t.orgID + "." + t.id
	}
	if t.kind == wire.Pipe {
		t.duration = time.Duration(req.Minutes) * time.Minute
		t.expiresAtMS = now.Add(t.duration).UnixMilli()
	}
	if req.UploadSessionID != "" {
		if err := n.claimInputs(p, t, req.UploadSessionID); err != nil {
			return nil, false, err
		}
	}
	n.submitted++
	n.touch()
	n.tasks[t.id] = t
	if req.IdempotencyKey != "" {
		n.keys[key] = t
	}
	return t, true, nil
}

func requestEvent(taskID string, parts []wire.Part) ([]byte, error) {
	encoded, err := json.Marshal(append([]wire.Part{}, parts...))
	if err != nil {
		return nil, err
	}
	b := pubsub.AppendString([]byte(`{"type":"request","taskId":`), taskID)
	b = append(append(b, `,"requestParts":`...), encoded...)
	return append(b, `,"protocolVersion":"`+wire.ProtocolVersion+`"}`...), nil
}

// TaskRow is what the network knows of a task.
type TaskRow struct {
	TaskID, AgentName, Owner, OrgID string
	State                           wire.TaskState
	Kind                            wire.TaskKind
	Created, Updated                time.Time
}

func (t *task) row() TaskRow {
	return TaskRow{t.id, t.agent.spec.Name, t.owner, t.orgID, t.state, t.kind, t.created, t.updated}
}

// anonymous says whether anyone may read a task.
func (t *task) anonymous() bool {
	return !t.agent.spec.Private && t.agent.spec.BillingMode == wire.Free
}

// readable says whether p (nil: anonymous) may read a task. What an agent may read are its own tasks and those that it
// submitted.
func (n *Network) readable(t *task, p *Principal) bool {
	switch {
	case p == nil:
		return t.anonymous()
	case p.IsAgent():
		return t.byAgent == p.Agent && t.orgID == p.OrgID || t.agent.spec.Name == p.Agent && t.agent.spec.OrgID == p.OrgID && !n.cfg.NoAgentGetTask
	}
	return t.orgID == p.OrgID
}

func noTask(id string) *Error { return refused(404, CodeNoTask, "There is no task %s.", id) }

// find returns a task that p may read. The lock is held.
func (n *Network) find(p *Principal, id string) (*task, error) {
	t := n.tasks[id]
	if t == nil {
		return nil, noTask(id)
	}
	if !n.readable(t, p) {
		return nil, refused(403, CodeDenied, "You may not access the task %s.", id)
	}
	return t, nil
}

// GetTask returns the row of a task. It may lag behind the task's channel.
func (n *Network) GetTask(p *Principal, id string) (TaskRow, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t, err := n.find(p, id)
	if err != nil {
		return TaskRow{}, err
	}
	return t.row(), nil
}

// ReadToken lets the holder read a task's channel.
type ReadToken struct {
	Token, Channel string
	TTL            time.Duration
}

// TaskReadToken gives a token to who may read the task; for the provider's side that is who runs the agent.
func (n *Network) TaskReadToken(p *Principal, id string, provider bool) (ReadToken, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t := n.tasks[id]
	if t == nil {
		return ReadToken{}, noTask(id)
	}
	allowed := n.readable(t, p)
	if provider {
		allowed = p != nil && p.OrgID == t.agent.spec.OrgID && (!p.IsAgent() || p.Agent == t.agent.spec.Name)
	}
	if !allowed {
		return ReadToken{}, refused(403, CodeDenied, "You may not read the task %s.", id)
	}
	token, err := n.readToken(t)
	return ReadToken{token, t.channel, n.cfg.ReadTTL}, err
}

// ended notes the end of a task: its row, its slot, its place in the queue. byNetwork says that its instance
// has not ended it. The lock is held.
func (n *Network) ended(t *task, state wire.TaskState, byNetwork bool) {
	t.state, t.updated = state, n.cfg.Now()
	t.parts = nil
	t.agent.queue.leave(t)
	delete(t.agent.unclaimed, t.id)
	if t.streams != nil {
		n.at(n.cfg.Now().Add(n.cfg.StreamRevokeDelay), func() { n.revokeStreams(t) })
	}
	n.touch()
	if i := t.instance; i != nil {
		n.slotEnded(i, t, byNetwork)
	}
	n.finished = append(n.finished, t.id)
	n.forgetFinished(t.updated)
}

// forgetFinished drops the finished tasks that are too many or too old. The lock is held.
func (n *Network) forgetFinished(now time.Time) {
	for len(n.finished) > 0 {
		t := n.tasks[n.finished[0]]
		if len(n.finished) <= n.cfg.KeepFinished && now.Sub(t.updated) < n.cfg.KeepFinishedFor {
			return
		}
		n.finished = n.finished[1:]
		n.forget(t)
	}
	n.finished = nil
}

// forget drops a finished task with its events and files. The lock is held.
func (n *Network) forget(t *task) {
	delete(n.tasks, t.id)
	if n.keys[t.key] == t {
		delete(n.keys, t.key)
	}
	n.touch()
	channels := []string{t.channel}
	if t.inputs != t.channel {
		channels = append(channels, t.inputs)
	}
	for _, s := range t.streams {
		if s.channel != "" { // its own
			channels = append(channels, s.channel)
		}
	}
	blobs := n.dropFiles(t)
	space := t.env.Space
	n.push(func() {
		space.Forget(channels...)
		n.removeBlobs(blobs)
	})
}

// endTask has the network itself end a task. Its own terminal counts when it is on the channel, like any other. The lock
// is held.
func (n *Network) endTask(t *task, terminal wire.Terminal) {
	if t.state.Final() || t.ending {
		return
	}
	t.ending = true
	t.agent.queue.leave(t) // or it would be sent in the meantime
	p := pubsub.Publication{
		Channel: t.channel, Publisher: backendUUID, Store: true,
		Meta: wire.EventMeta(t.agent.spec.Name, t.id, ""), Body: wire.TerminalEvent(t.id, terminal),
		Unless: func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return t.state.Final() // it ended by itself in the meantime
		},
	}
	space := t.env.Space
	n.push(func() { space.Publish(p) })
}
