package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ControlType names a message on an agent's control channel.
type ControlType string

// The control messages. Every other type is ignored by an instance.
const (
	TypeStartTask         ControlType = "StartTask"
	TypeCancelTask        ControlType = "CancelTask"
	TypeExpireTask        ControlType = "ExpireTask"
	TypeTerminateTask     ControlType = "TerminateTask"
	TypePauseTask         ControlType = "PauseTask"
	TypeResumeTask        ControlType = "ResumeTask"
	TypeRetryTask         ControlType = "RetryTask"
	TypeSwitchEnvironment ControlType = "SwitchEnvironment"
)

// Control is one decoded control message. Which members are set depends on Type.
type Control struct {
	Type ControlType
	// TaskID of every message but SwitchEnvironment.
	TaskID          string
	ProtocolVersion string
	// Start is set for StartTask.
	Start *StartTask
	// Environment and PAMToken are those of SwitchEnvironment.
	Environment string
	PAMToken    string
	// Broadcast is true for a message to all instances: then an instance that cannot take it stays silent.
	Broadcast bool
}

// StartTask is an order to run a task, with the tokens that handlers never see.
type StartTask struct {
	Task Task
	// ExpiresAtMS is the end of a pipe task by the network's clock, in epoch milliseconds; 0 for request tasks.
	ExpiresAtMS int64
	// WriteToken permits publishing on the task's channel and reading its input files.
	WriteToken string
	// ControlToken replaces the token of the control channel when not empty.
	ControlToken string
	// Version as sent; may be empty.
	Version string
}

// Reasons for which a StartTask is answered with the terminal state failed; the texts are fixed by the protocol.
const (
	ReasonInvalidStartTask   = "invalid_start_task"
	ReasonUnsupportedVersion = "unsupported_protocol_version"
	ReasonAtCapacity         = "agent_at_capacity"
)

// ErrIgnored marks control messages that are none: not an object, or of a type that is unknown. They are counted and
// logged, nothing is answered.
var ErrIgnored = errors.New("not a control message")

// StartTaskError is a StartTask that cannot be run but names a task, so that it can be answered. Start holds what could
// be read, at least the task id, the organisation and the write token.
type StartTaskError struct {
	Reason string // one of the Reason constants
	Detail string
	Start  *StartTask
}

func (e *StartTaskError) Error() string {
	return fmt.Sprintf("StartTask of task %s refused with %s: %s", e.Start.Task.ID, e.Reason, e.Detail)
}

// DecodeControl reads a control message and its publisher metadata (nil when it had none). Unknown members are ignored
// and null counts as absent. The error is ErrIgnored, a *StartTaskError, or a plain error for a message of a known type
// that names no task.
func DecodeControl(data, meta []byte) (Control, error) {
	members, ok := fieldsOf(data)
	if !ok {
		return Control{}, fmt.Errorf("%w: payload is not a JSON object", ErrIgnored)
	}
	c := Control{
		Type:            ControlType(members.text("type")),
		TaskID:          members.text("taskId"),
		ProtocolVersion: members.text("protocolVersion"),
		Broadcast:       isBroadcast(meta),
	}
	switch c.Type {
	case TypeStartTask:
		start, err := decodeStart(members)
		c.Start = start
		return c, err
	case TypeSwitchEnvironment:
		c.Environment = members.text("environment")
		c.PAMToken = members.text("pamToken")
		if c.Environment == "" || c.PAMToken == "" {
			return c, errors.New("SwitchEnvironment without environment or pamToken ignored")
		}
		return c, nil
	case TypeCancelTask, TypeExpireTask, TypeTerminateTask, TypePauseTask, TypeResumeTask, TypeRetryTask:
		if c.TaskID == "" {
			return c, fmt.Errorf("%s without taskId ignored: there is no task to apply it to", c.Type)
		}
		return c, nil
	}
	return c, fmt.Errorf("%w: type %q is unknown", ErrIgnored, CutText(string(c.Type), 64))
}

// isBroadcast is true for the text "true" and the boolean true only: the filter on the control channel compares with
// the text, and "false" must not count.
func isBroadcast(meta []byte) bool {
	m, _ := fieldsOf(meta)
	v := m.get("broadcast")
	return string(v) == `"true"` || string(v) == "true"
}

func decodeStart(m fields) (*StartTask, error) {
	s := &StartTask{
		Task: Task{
			ID:                m.text("taskId"),
			AgentName:         m.text("agentName"),
			Kind:              TaskKind(m.text("taskKind")),
			CallerClaims:      m.object("callerClaims"),
			RequestSummary:    m.object("requestSummary"),
			ConsumerPublicKey: m.text("consumerPublicKey"),
		},
		WriteToken:   m.text("writeToken"),
		ControlToken: m.text("controlToken"),
		Version:      m.text("protocolVersion"),
	}
	t := &s.Task
	if t.ID == "" {
		return s, errors.New("StartTask without taskId ignored: there is no task to answer for")
	}
	if t.Kind != Pipe {
		t.Kind = Request
	}
	t.HasStream = string(m.get("hasStream")) == "true"
	// Owner: ownerId, else the caller's subject, else anonymous. Organisation: orgId, else the owner.
	t.OwnerID = firstNonEmpty(m.text("ownerId"), claimsSubject(t.CallerClaims), Anonymous)
	t.OrgID = firstNonEmpty(m.text("orgId"), t.OwnerID)

	refuse := func(reason, detail string) (*StartTask, error) {
		return s, &StartTaskError{Reason: reason, Detail: detail, Start: s}
	}
	if !SupportsVersion(s.Version) {
		return refuse(ReasonUnsupportedVersion, fmt.Sprintf("protocol version %q is not %s", CutText(s.Version, 64), ProtocolVersion))
	}
	if raw := m.get("requestParts"); !raw.IsNull() {
		if !raw.IsArray() {
			return refuse(ReasonInvalidStartTask, "requestParts is not an array")
		}
		t.Parts = []Part{}
		for element := range raw.Elements {
			t.Parts = append(t.Parts, partOf(element))
		}
	}
	if t.Kind == Pipe {
		minutes, ok := m.integer("duration")
		if !ok || minutes < 1 || minutes > MaxPipeMinutes {
			return refuse(ReasonInvalidStartTask, fmt.Sprintf("duration of a pipe task must be a whole number of minutes from 1 to %d", MaxPipeMinutes))
		}
		expires, ok := m.integer("durationExpiresAtMs")
		if !ok || expires <= 0 {
			return refuse(ReasonInvalidStartTask, "durationExpiresAtMs of a pipe task must be a time in epoch milliseconds")
		}
		t.Duration = time.Duration(minutes) * time.Minute
		s.ExpiresAtMS = expires
	}
	return s, nil
}

// Encode writes the message as the network sends it. Only the network's own side (the sandbox) sends StartTask.
func (s *StartTask) Encode() ([]byte, error) {
	t := s.Task
	return encode(struct {
		Type                ControlType     `json:"type"`
		ProtocolVersion     string          `json:"protocolVersion,omitempty"`
		TaskID              string          `json:"taskId"`
		AgentName           string          `json:"agentName"`
		OwnerID             string          `json:"ownerId"`
		OrgID               string          `json:"orgId"`
		RequestParts        []Part          `json:"requestParts"`
		CallerClaims        json.RawMessage `json:"callerClaims,omitempty"`
		RequestSummary      json.RawMessage `json:"requestSummary,omitempty"`
		TaskKind            TaskKind        `json:"taskKind"`
		Duration            int64           `json:"duration,omitempty"`
		DurationExpiresAtMS int64           `json:"durationExpiresAtMs,omitempty"`
		HasStream           bool            `json:"hasStream"`
		ConsumerPublicKey   string          `json:"consumerPublicKey,omitempty"`
		WriteToken          string          `json:"writeToken,omitempty"`
		ControlToken        string          `json:"controlToken,omitempty"`
	}{
		TypeStartTask, s.Version, t.ID, t.AgentName, t.OwnerID, t.OrgID, append([]Part{}, t.Parts...), t.CallerClaims, t.RequestSummary, t.Kind,
		int64(t.Duration / time.Minute), s.ExpiresAtMS, t.HasStream, t.ConsumerPublicKey, s.WriteToken, s.ControlToken,
	})
}

func claimsSubject(claims json.RawMessage) string {
	m, _ := fieldsOf(claims)
	return m.text("sub")
}

func dropNulls(m map[string]json.RawMessage) {
	for k, v := range m {
		if bytes.Equal(bytes.TrimSpace(v), []byte("null")) {
			delete(m, k)
		}
	}
}

// objectMember returns m[key] if it is a JSON object, else nil.
func objectMember(m map[string]json.RawMessage, key string) json.RawMessage {
	raw := bytes.TrimSpace(m[key])
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	return raw
}

// integerMember returns m[key] if it is a JSON number without a fraction; 60.0 counts, true and "60" do not.
func integerMember(m map[string]json.RawMessage, key string) (int64, bool) {
	return integerOf(bytes.TrimSpace(m[key]))
}

func firstNonEmpty(texts ...string) string {
	for _, s := range texts {
		if s != "" {
			return s
		}
	}
	return ""
}
