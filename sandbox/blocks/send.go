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
	t, isNew, err := n.submitLocked(p, req)
	if err != nil {
		n.mu.Unlock()
		return SendResult{}, nil, err
	}
	parts := t.Parts
	env := t.env
	n.mu.Unlock()

	if isNew {
		// Stored before the answer: a consumer whose history is empty loses what is published between reading it and
		// the first poll.
		body, err := requestEvent(t.ID, parts)
		if err != nil {
			n.mu.Lock()
			n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: "the request cannot be encoded"})
			n.mu.Unlock()
			return SendResult{}, nil, InvalidParams("requestParts cannot be encoded: %v.", err)
		}
		env.Space.Publish(pubsub.Publication{
			Channel: t.Channel, Publisher: backendUUID, Meta: wire.EventMeta(t.agent.Spec.Name, t.ID, ""), Body: body, Store: true,
		})
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	if isNew && !t.State.Final() {
		t.agent.queue.push(t)
		n.scheduleLocked(t.agent)
		if t.Kind == wire.Pipe {
			n.expireAtLocked(t)
		}
	}
	token, err := n.readToken(t)
	if err != nil {
		return SendResult{}, nil, err
	}
	result = SendResult{
		TaskID: t.ID, OrgID: t.OrgID, Idempotent: !isNew, Queued: t.queued, State: t.State, ReadToken: token, Channel: t.Channel, Keys: env.Keys,
	}
	dispatch = func() {}
	if isNew {
		dispatch = func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			t.answered = true
			if (t.instance != nil || t.toAll) && !t.sent && !t.State.Final() && !t.ending {
				n.sendLocked(t)
			}
		}
	}
	return result, dispatch, nil
}

// submitLocked checks a request and enters the task.
func (n *Network) submitLocked(p *Principal, req SendRequest) (t *task, isNew bool, err error) {
	key := idempotencyKey{p.UserID, req.IdempotencyKey}
	if req.IdempotencyKey != "" {
		if t := n.tasks.byKey[key]; t != nil {
			return t, false, nil
		}
	}
	a := n.registry.agents[req.AgentName]
	if !a.visibleLocked(p) {
		return nil, false, noAgent(req.AgentName)
	}
	if req.OwnerID != "" && req.OwnerID != p.UserID {
		return nil, false, refused(403, CodeDenied, "The ownerId is not the one of the authenticated user.")
	}
	if req.BillingMode != a.Spec.BillingMode && p.OrgID != a.Spec.OrgID { // the owner's organization may call it in either mode
		return nil, false, &Error{
			Status: 409, Code: CodeBillingMode, RPC: RPCApplication,
			Message: fmt.Sprintf("The agent %s is %s, but the request says %s.", a.Spec.Name, a.Spec.BillingMode, req.BillingMode),
			Details: Mismatch{Expected: a.Spec.BillingMode, Got: req.BillingMode},
		}
	}
	if len(a.Spec.Kinds) > 0 && !slices.Contains(a.Spec.Kinds, req.Kind) {
		return nil, false, refused(400, CodeTaskKind, "The agent %s takes no %s tasks, only %s tasks.", a.Spec.Name, req.Kind, a.Spec.Kinds[0])
	}
	if a.Spec.BillingMode == wire.Paid && p.org.Broke && p.OrgID != a.Spec.OrgID {
		return nil, false, &Error{
			Status: 402, Code: CodeNoBalance, RPC: RPCApplication, Message: "The balance of the organization does not cover the price of the task.",
			Details: map[string]string{"required": cmp.Or(a.Spec.PerTask, a.Spec.PerMinute), "available": "0.00"},
		}
	}
	if a.ForcedOffline {
		return nil, false, offline(a.Spec.Name)
	}
	if len(a.ready) == 0 || !a.ready[0].slots.free() {
		if a.queue.waiting >= a.Backlog {
			return nil, false, refused(429, CodeBacklog, "The agent %s has %d tasks waiting, as many as it takes.", a.Spec.Name, a.queue.waiting)
		}
	}
	now := n.cfg.Now()
	t = &task{agent: a, env: a.env, taskRecord: taskRecord{
		order: order{
			ID: "task_" + strings.ToLower(rand.Text()), Owner: p.UserID, OrgID: p.OrgID, Number: n.tasks.submitted, ByAgent: p.Agent,
			AgentName: a.Spec.Name, Mode: a.Spec.BillingMode, Kind: req.Kind,
			HasStream: len(a.Spec.Streams) > 0 && (req.Stream || req.Kind == wire.Pipe), PublicKey: req.ConsumerPublicKey, idempotencyKey: key,
		},
		progress: progress{Parts: req.Parts, State: wire.Pending, Created: now, Updated: now},
	}}
	t.Channel = wire.TaskChannel(t.OrgID, t.ID)
	t.Inputs = t.Channel
	if n.cfg.NoWriterRead { // the instance must be able to read its inputs all the same
		t.Inputs = "files." + t.OrgID + "." + t.ID
	}
	if t.Kind == wire.Pipe {
		t.Duration = time.Duration(req.Minutes) * time.Minute
		t.ExpiresAtMS = now.Add(t.Duration).UnixMilli()
	}
	if req.UploadSessionID != "" {
		if err := n.claimInputsLocked(p, t, req.UploadSessionID); err != nil {
			return nil, false, err
		}
	}
	n.tasks.submitted++
	n.touch()
	n.tasks.addLocked(t)
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
