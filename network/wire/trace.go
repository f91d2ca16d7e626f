package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"strings"
)

// TraceParent is the member of a part, and the key of Task.TraceContext, with the W3C trace context of whoever sent the
// task. The protocol has no member of its own for it; those of a part that it does not know are passed on.
const TraceParent = "traceparent"

// Trace is a place in a trace: a span, and the trace that it belongs to.
type Trace struct {
	ID   [16]byte
	Span [8]byte
	// Unrecorded says that nobody keeps the spans of this trace, so none should be made.
	Unrecorded bool
}

// IsZero reports whether it is no place: neither id may be zero.
func (t Trace) IsZero() bool { return t.ID == [16]byte{} || t.Span == [8]byte{} }

// recordedFlag of a W3C traceparent.
const recordedFlag = 1

// String is the W3C traceparent, with the flag whether the span is recorded.
func (t Trace) String() string {
	flags := "-01"
	if t.Unrecorded {
		flags = "-00"
	}
	return "00-" + hex.EncodeToString(t.ID[:]) + "-" + hex.EncodeToString(t.Span[:]) + flags
}

// ParseTraceparent reads a W3C traceparent of any version. Of its flags, only whether it is recorded is kept.
func ParseTraceparent(s string) (t Trace, ok bool) {
	const length = 55 // of version 00: 2 + 32 + 16 + 2 digits and three dashes
	if len(s) < length || len(s) > length && (s[:2] == "00" || s[length] != '-') || s != strings.ToLower(s) {
		return Trace{}, false
	}
	version, id, span, flags := s[:2], s[3:35], s[36:52], s[53:length]
	if version == "ff" || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Trace{}, false
	}
	var rest [2]byte
	for _, field := range []struct {
		to   []byte
		text string
	}{{t.ID[:], id}, {t.Span[:], span}, {rest[:1], version}, {rest[1:], flags}} {
		if _, err := hex.Decode(field.to, []byte(field.text)); err != nil {
			return Trace{}, false
		}
	}
	t.Unrecorded = rest[1]&recordedFlag == 0
	return t, !t.IsZero()
}

// CallerTrace is where the sender of the task was when it sent it; zero when it did not say.
func (t *Task) CallerTrace() Trace {
	for _, p := range t.Parts {
		if !bytes.Contains(p.Raw, []byte(`"`+TraceParent+`"`)) { // nearly always
			continue
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(p.Raw, &m) != nil {
			continue
		}
		if trace, ok := ParseTraceparent(stringMember(m, TraceParent)); ok {
			return trace
		}
	}
	return Trace{}
}

// SetCallerTrace puts it into the first part that has a text, which must be as it is to be sent. Of a part without one, a handler made with Blocks' own SDK
// gets the members that the SDK does not know as its input; so a task without a text carries no trace.
func SetCallerTrace(parts []Part, t Trace) {
	if t.IsZero() {
		return
	}
	for i := range parts {
		if parts[i].Text != nil {
			p := &parts[i]
			p.Raw, _ = encode(partMembers{PartID: p.PartID, Text: p.Text, ContentType: p.ContentType, ArtifactRef: p.File, Traceparent: t.String()})
			return
		}
	}
}

// TaskTrace has the spans of one task that others refer to.
type TaskTrace struct {
	// Task is the span of the whole task, Handler the one of its handler.
	Task, Handler Trace
	// Parent is the caller's span, zero when the trace begins here.
	Parent Trace
}

// TraceTask gives a task the spans of one instance: always the same ones, so that nothing has to be remembered, and other
// ones than those of another instance that the task was given to. A caller has decided whether they are recorded. Without a
// caller, the trace follows from the task alone, and the share ratio of the traces is recorded.
func TraceTask(instanceID, taskID string, caller Trace, ratio float64) TaskTrace {
	id, unrecorded := caller.ID, caller.Unrecorded
	if caller.IsZero() {
		sum := sha256.Sum256([]byte("trace\x00" + taskID))
		id, caller = [16]byte(sum[:]), Trace{}
		unrecorded = !isSampled(id, ratio)
	}
	sum := sha256.Sum256([]byte("spans\x00" + instanceID + "\x00" + taskID))
	return TaskTrace{
		Task:    Trace{id, [8]byte(sum[:]), unrecorded},
		Handler: Trace{id, [8]byte(sum[8:]), unrecorded},
		Parent:  caller,
	}
}

// isSampled decides about a trace that begins here. It looks at the id as OpenTelemetry's TraceIdRatioBased does, so that
// whoever uses the same ratio decides the same.
func isSampled(id [16]byte, ratio float64) bool {
	return ratio >= 1 || float64(binary.BigEndian.Uint64(id[8:])>>1) < ratio*(1<<63)
}
