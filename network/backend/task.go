package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/blocksd/blocksd/network/wire"
)

// SendRequest is a task to submit.
type SendRequest struct {
	AgentName string
	// BillingMode must be that of the agent.
	BillingMode wire.BillingMode
	Parts       []wire.Part
	// OwnerID is empty for the user that the API key belongs to.
	OwnerID string
	// IdempotencyKey makes a repetition return the first task. Where it is empty one is made up, so that a lost answer
	// does not submit twice.
	IdempotencyKey string
	// UploadSessionID names the files that were uploaded for the parts; empty for none.
	UploadSessionID string
	// Stream is nil for the network's default.
	Stream *bool
	Kind   wire.TaskKind
	// DurationMinutes of a pipe task, 0 for a request.
	DurationMinutes   int
	ConsumerPublicKey string
	// Push and Retry are passed on as they are, nil for none.
	Push, Retry json.RawMessage
}

// SendResult is a submitted task.
type SendResult struct {
	TaskID, OrgID string
	// Idempotent means that the caller's key named an earlier task, which State is of.
	Idempotent bool
	// Queued means that no instance was free yet.
	Queued bool
	State  wire.TaskState
	// ReadToken permits reading Channel, where the task's events are; either may be empty.
	ReadToken, Channel string
	// PushConfigID names the push notifications that were asked for.
	PushConfigID string
	// Keys of the task, empty where the network names none.
	Keys wire.Keyset
}

// SendMessage submits a task.
func (s *Consumer) SendMessage(ctx context.Context, r SendRequest) (SendResult, error) {
	owner := r.OwnerID
	if owner == "" {
		var err error
		if owner, err = s.UserID(ctx); err != nil {
			return SendResult{}, err
		}
	}
	key := r.IdempotencyKey
	if key == "" {
		key = uuid.NewString()
	}
	p := sendParams{
		AgentName: r.AgentName, BillingMode: r.BillingMode, RequestParts: append([]wire.Part{}, r.Parts...), OwnerID: owner,
		IdempotencyKey: key, UploadSessionID: r.UploadSessionID, Push: r.Push, Retry: r.Retry,
	}
	x := blocksParams{Stream: r.Stream, ConsumerPublicKey: r.ConsumerPublicKey}
	if r.Kind == wire.Pipe {
		x.TaskKind, x.Duration = r.Kind, r.DurationMinutes
	}
	if x != (blocksParams{}) {
		p.Extensions = &extensionParams{x}
	}
	var raw json.RawMessage
	if err := s.rpc(ctx, "SendMessage", "to agent "+r.AgentName, p, &raw); err != nil {
		return SendResult{}, err
	}
	result, err := decodeSendResult(raw)
	if err != nil {
		return SendResult{}, fmt.Errorf("SendMessage to agent %s: %w", r.AgentName, err)
	}
	if r.IdempotencyKey == "" {
		result.Idempotent = false // only our own repetition
	}
	if result.Channel == "" && (result.OrgID != "" || owner != "") {
		org := result.OrgID
		if org == "" {
			org = owner
		}
		result.Channel = wire.TaskChannel(org, result.TaskID)
	}
	return result, nil
}

type sendParams struct {
	AgentName       string           `json:"agentName"`
	BillingMode     wire.BillingMode `json:"billingMode"`
	RequestParts    []wire.Part      `json:"requestParts"`
	OwnerID         string           `json:"ownerId"`
	IdempotencyKey  string           `json:"idempotencyKey,omitempty"`
	UploadSessionID string           `json:"uploadSessionId,omitempty"`
	Extensions      *extensionParams `json:"extensions,omitempty"`
	Push            json.RawMessage  `json:"pushNotificationConfig,omitempty"`
	Retry           json.RawMessage  `json:"retryPolicy,omitempty"`
}

type extensionParams struct {
	Blocks blocksParams `json:"blocks"`
}

type blocksParams struct {
	Stream            *bool         `json:"stream,omitempty"`
	TaskKind          wire.TaskKind `json:"taskKind,omitempty"`
	Duration          int           `json:"duration,omitempty"`
	ConsumerPublicKey string        `json:"consumerPublicKey,omitempty"`
}

func decodeSendResult(raw []byte) (SendResult, error) {
	var o struct {
		TaskID, OrgID      string
		PushConfigID       string
		Idempotent, Queued bool
		State              wire.TaskState
		Extensions         struct {
			Blocks struct {
				ReadToken, SubscribeKey, PublishKey string
				StreamChannels                      struct{ Status string }
			}
		}
	}
	if json.Unmarshal(raw, &o) != nil || o.TaskID == "" {
		return SendResult{}, fmt.Errorf("the answer names no task")
	}
	b := o.Extensions.Blocks
	return SendResult{
		TaskID: o.TaskID, OrgID: o.OrgID, PushConfigID: o.PushConfigID, Idempotent: o.Idempotent, Queued: o.Queued, State: o.State,
		ReadToken: b.ReadToken, Channel: b.StreamChannels.Status,
		Keys: wire.Keyset{PublishKey: b.PublishKey, SubscribeKey: b.SubscribeKey},
	}, nil
}

// TaskRow is a task as the network's table has it. The table lags behind the task's channel.
type TaskRow struct {
	TaskID, AgentName, Owner string
	State                    wire.TaskState
	CreatedTime, UpdatedTime string
	// Raw is the whole row.
	Raw json.RawMessage
}

// GetTask reads one row. An unknown task is an *RPCError.
func (s *Consumer) GetTask(ctx context.Context, taskID string) (TaskRow, error) {
	var raw json.RawMessage
	if err := s.rpc(ctx, "GetTask", "of task "+taskID, taskParams{taskID}, &raw); err != nil {
		return TaskRow{}, err
	}
	row, err := decodeTaskRow(raw)
	if err != nil {
		return TaskRow{}, fmt.Errorf("GetTask of task %s: %w", taskID, err)
	}
	return row, nil
}

// GetTask reads the row of a task of the session's agent. An unknown task, or one that the session may not read, is an
// *RPCError.
func (s *AgentSession) GetTask(ctx context.Context, taskID string) (TaskRow, error) {
	a := s.client.rpcCall("GetTask", "of task "+taskID, taskParams{taskID})
	body, err := s.call(ctx, a)
	if err != nil {
		return TaskRow{}, err
	}
	var raw json.RawMessage
	if err := rpcResult(a, body, &raw); err != nil {
		return TaskRow{}, err
	}
	row, err := decodeTaskRow(raw)
	if err != nil {
		return TaskRow{}, fmt.Errorf("GetTask of task %s: %w", taskID, err)
	}
	return row, nil
}

// decodeTaskRow reads a row, wrapped in a member "task" or not.
func decodeTaskRow(raw []byte) (TaskRow, error) {
	var o struct{ Task json.RawMessage }
	if json.Unmarshal(raw, &o) == nil && len(o.Task) > 0 && !bytes.Equal(o.Task, []byte("null")) {
		raw = o.Task
	}
	var row TaskRow
	if json.Unmarshal(raw, &row) != nil || row.TaskID == "" {
		return TaskRow{}, fmt.Errorf("the answer is not a task")
	}
	row.Raw = raw
	return row, nil
}

// ListFilter selects tasks; empty members do not restrict.
type ListFilter struct {
	OwnerID   string         `json:"ownerId,omitempty"`
	AgentName string         `json:"agentName,omitempty"`
	State     wire.TaskState `json:"state,omitempty"`
	// Limit is the size of a page, 0 for the network's default.
	Limit int `json:"limit,omitempty"`
	// Cursor is that of the page before.
	Cursor string `json:"cursor,omitempty"`
}

// ListTasks reads one page and the cursor of the next, empty after the last.
func (s *Consumer) ListTasks(ctx context.Context, f ListFilter) ([]TaskRow, string, error) {
	var raw json.RawMessage
	if err := s.rpc(ctx, "ListTasks", "", f, &raw); err != nil {
		return nil, "", err
	}
	rows, next, err := decodeTaskList(raw)
	if err != nil {
		return nil, "", fmt.Errorf("ListTasks: %w", err)
	}
	return rows, next, nil
}

// decodeTaskList leaves out what is not a task.
func decodeTaskList(raw []byte) ([]TaskRow, string, error) {
	var o struct {
		Tasks []json.RawMessage
		Next  json.RawMessage
	}
	if json.Unmarshal(raw, &o) != nil {
		return nil, "", fmt.Errorf("the answer is not a list of tasks")
	}
	rows := make([]TaskRow, 0, len(o.Tasks))
	for _, t := range o.Tasks {
		var row TaskRow
		if json.Unmarshal(t, &row) == nil && row.TaskID != "" {
			row.Raw = t
			rows = append(rows, row)
		}
	}
	var next string
	_ = json.Unmarshal(o.Next, &next) // null after the last page
	return rows, next, nil
}

type taskParams struct {
	TaskID string `json:"taskId"`
}

// CancelTask asks the task to end. The outcome comes as events; a task that has ended is left as it is.
func (s *Consumer) CancelTask(ctx context.Context, taskID string) error {
	return s.rpc(ctx, "CancelTask", "of task "+taskID, taskParams{taskID}, nil)
}

// TerminateTask ends the task for good, with the reason "terminated".
func (s *Consumer) TerminateTask(ctx context.Context, taskID string) error {
	return s.rpc(ctx, "TerminateTask", "of task "+taskID, taskParams{taskID}, nil)
}

// SignalTask sends a task one of the signals "PauseTask", "ResumeTask" and "RetryTask".
func (s *Consumer) SignalTask(ctx context.Context, method, taskID string) error {
	return s.rpc(ctx, method, "of task "+taskID, taskParams{taskID}, nil)
}

// ReadToken permits reading one task's channel.
type ReadToken struct {
	Token, Channel string
	// TTLMinutes is the life of the token, 0 if unknown.
	TTLMinutes int
}

// TaskReadToken gets a new one, for a session that begins or goes on later. role is "consumer" or "provider", empty for
// the former. Somebody anonymous gets one for a public task.
func (s *Consumer) TaskReadToken(ctx context.Context, taskID, role string) (ReadToken, error) {
	if role == "" {
		role = "consumer"
	}
	a := apiCall{op: "get a read token", object: "for task " + taskID, method: http.MethodPost, timeout: readTokenLimit}
	if s.IsAnonymous() {
		a.path = "/api/v1/auth/anon-task-read-token"
		a.body = struct {
			TaskID      string `json:"taskId"`
			Fingerprint string `json:"fingerprint"`
		}{taskID, s.cfg.Anonymous}
	} else {
		a.path = "/api/v1/auth/task-read-token"
		a.body = struct {
			TaskID string `json:"taskId"`
			Role   string `json:"role"`
		}{taskID, role}
	}
	body, err := s.call(ctx, a, nil)
	if err != nil {
		return ReadToken{}, err
	}
	return decodeReadToken(a, body)
}

func decodeReadToken(a apiCall, body []byte) (ReadToken, error) {
	var o struct {
		PAMToken, Channel string
		TTLMinutes        json.RawMessage
	}
	if err := decode(a, body, &o); err != nil {
		return ReadToken{}, err
	}
	if o.PAMToken == "" || o.Channel == "" {
		return ReadToken{}, &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the answer has no pamToken or no channel"}
	}
	t := ReadToken{Token: o.PAMToken, Channel: o.Channel}
	var minutes float64
	if json.Unmarshal(o.TTLMinutes, &minutes) == nil && minutes > 0 && minutes < 1e9 {
		t.TTLMinutes = int(minutes)
	}
	return t, nil
}
