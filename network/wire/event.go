package wire

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// EventType names an event on a task's channel.
type EventType string

// The events. Providers publish progress, artifact (inline), system and terminal; the network publishes request,
// cancel_requested, artifact (uploaded) and safety-net terminals.
const (
	EventProgress        EventType = "progress"
	EventArtifact        EventType = "artifact"
	EventSystem          EventType = "system"
	EventTerminal        EventType = "terminal"
	EventRequest         EventType = "request"
	EventCancelRequested EventType = "cancel_requested"
)

// TaskState of a task that has ended, or of one on its way. Only the first three are states of a terminal event.
type TaskState string

// The states; canceled has one l on the wire.
const (
	Completed TaskState = "completed"
	Failed    TaskState = "failed"
	Canceled  TaskState = "canceled"
	Pending   TaskState = "pending"
	Running   TaskState = "running"
)

// Final reports whether s is the state of a terminal event.
func (s TaskState) Final() bool { return s == Completed || s == Failed || s == Canceled }

// Terminal is the one and last event of a task.
type Terminal struct {
	State TaskState
	// Error of a failed task: one of the Reason constants or a sentence for the consumer.
	Error string
	// Reason is "terminated" for a terminated task, else empty.
	Reason string
	// CompletionReason is "duration_expired" for a pipe task that ran its time, else empty.
	CompletionReason string
	// Version is the protocol version to echo; empty means ours.
	Version string
}

// Fixed texts of terminal events.
const (
	ReasonTerminated      = "terminated"
	ReasonDurationExpired = "duration_expired"
)

// EventMeta is the publisher metadata of a task event.
func EventMeta(agentName, taskID, version string) []byte {
	b, _ := encode(struct { // strings always encode
		AgentName       string `json:"agentName"`
		TaskID          string `json:"taskId"`
		ProtocolVersion string `json:"protocolVersion"`
	}{agentName, taskID, firstNonEmpty(version, ProtocolVersion)})
	return b
}

// RunningEvent is the first event of a task, published before its handler is called.
func RunningEvent(taskID string) []byte {
	return append(append([]byte(`{"type":"progress","taskId":`), quote(taskID)...), `,"progress":0,"state":"running","protocolVersion":"`+ProtocolVersion+`"}`...)
}

// StatusEvent carries a status text, cut so that the event fits into a message.
func StatusEvent(taskID, text string) []byte {
	return fmt.Appendf(nil, `{"type":"progress","taskId":%s,"message":%s,"protocolVersion":%q}`, quote(taskID), quoteText(text), ProtocolVersion)
}

// ArtifactEvent carries a reference to an artifact. An error means that it does not fit into a message on channel.
func ArtifactEvent(channel, taskID, outputID string, ref ArtifactRef) ([]byte, error) {
	b, err := encode(struct {
		Type            EventType   `json:"type"`
		TaskID          string      `json:"taskId"`
		ArtifactRef     ArtifactRef `json:"artifactRef"`
		OutputID        string      `json:"outputId,omitempty"`
		ProtocolVersion string      `json:"protocolVersion"`
	}{EventArtifact, taskID, ref, outputID, ProtocolVersion})
	if err != nil {
		return nil, fmt.Errorf("encode artifact event of task %s: %w", taskID, err)
	}
	if n := len(b) + len(channel); n > MaxMessageBytes {
		return nil, fmt.Errorf("artifact event of task %s has %d bytes, more than the %d of a message", taskID, n, MaxMessageBytes)
	}
	return b, nil
}

// TerminalEvent encodes t; error texts are cut so that the event fits into a message.
func TerminalEvent(taskID string, t Terminal) []byte {
	b := fmt.Appendf(nil, `{"type":"terminal","taskId":%s,"state":%q`, quote(taskID), t.State)
	if t.Error != "" {
		b = fmt.Appendf(b, `,"error":%s`, quoteText(t.Error))
	}
	if t.Reason != "" {
		b = fmt.Appendf(b, `,"reason":%s`, quote(t.Reason))
	}
	if t.CompletionReason != "" {
		b = fmt.Appendf(b, `,"completionReason":%s`, quote(t.CompletionReason))
	}
	return fmt.Appendf(b, `,"protocolVersion":%s}`, quote(firstNonEmpty(t.Version, ProtocolVersion)))
}

// quote writes s as a JSON string; invalid UTF-8 becomes U+FFFD.
func quote(s string) []byte {
	if isPlain(s) {
		return append(append(append(make([]byte, 0, len(s)+2), '"'), s...), '"')
	}
	b, _ := encode(s) // a string always encodes
	return b
}

// isPlain reports whether a text stands for itself in JSON.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// quoteText is quote of s cut to MaxTextBytes as encoded: control characters grow to six bytes each.
func quoteText(s string) []byte {
	s = CutText(s, MaxTextBytes)
	b := quote(s)
	for limit := MaxTextBytes; len(b) > MaxTextBytes+2; {
		limit = limit * MaxTextBytes / len(b)
		b = quote(CutText(s, limit))
	}
	return b
}

// Event is a decoded event of a task's channel, as a consumer or the network reads it.
type Event struct {
	Type     EventType    `json:"type"`
	TaskID   string       `json:"taskId"`
	Message  string       `json:"message"`
	State    TaskState    `json:"state"`
	Error    string       `json:"error"`
	Reason   string       `json:"reason"`
	Artifact *ArtifactRef `json:"artifactRef"`
	OutputID string       `json:"outputId"`
	// CompletionReason of a terminal event is "duration_expired" for a pipe task that ran its time.
	CompletionReason string `json:"completionReason"`
	// StreamEvent is "stream_started" for an announcement of streams.
	StreamEvent string `json:"streamEvent"`
	// Status of a system event is "paused" or "resumed".
	Status string `json:"status"`
	// Raw is the whole event as received.
	Raw json.RawMessage `json:"-"`
}

// DecodeEvent reads an event leniently: consumers accept any object with a type, whatever its other members. Members of
// an unexpected JSON type are left at zero. An error means that data is not an event.
func DecodeEvent(data []byte) (Event, error) {
	m, ok := fieldsOf(data)
	if !ok {
		return Event{}, fmt.Errorf("decode task event: not a JSON object")
	}
	e := Event{
		Type:     EventType(m.text("type")),
		TaskID:   m.text("taskId"),
		Message:  m.text("message"),
		State:    TaskState(m.text("state")),
		Error:    m.text("error"),
		Reason:   m.text("reason"),
		OutputID: m.text("outputId"),
		Raw:      data,

		CompletionReason: m.text("completionReason"),
		StreamEvent:      m.text("streamEvent"),
		Status:           m.text("status"),
	}
	if e.Type == "" {
		return Event{}, fmt.Errorf("decode task event: no type")
	}
	if raw := m.get("artifactRef"); raw.IsObject() {
		var ref ArtifactRef
		if json.Unmarshal(raw, &ref) == nil {
			e.Artifact = &ref
		}
	}
	return e, nil
}
