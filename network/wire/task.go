package wire

import (
	"bytes"
	"encoding/json"
	"io"
	"time"
)

// TaskKind says how long a task lives.
type TaskKind string

// The two kinds of task. The network treats any other text as a request.
const (
	Request TaskKind = "request"
	Pipe    TaskKind = "pipe"
)

// Task is one unit of work as a handler sees it: what the network sent, without the tokens.
type Task struct {
	ID        string
	AgentName string
	Kind      TaskKind
	Parts     []Part
	OwnerID   string
	OrgID     string
	// CallerClaims and RequestSummary are JSON objects, nil when absent.
	CallerClaims   json.RawMessage
	RequestSummary json.RawMessage
	// Deadline is when the daemon cancels the task, by its own clock; zero when there is no limit.
	Deadline time.Time
	// Duration is the agreed one of a pipe task.
	Duration          time.Duration
	HasStream         bool
	ConsumerPublicKey string
	// TraceContext holds the W3C keys traceparent and tracestate, if any.
	TraceContext map[string]string
}

// Artifact is one output of a task.
type Artifact struct {
	// OutputID matches an output of the agent card; may be empty, like the file name.
	OutputID string
	FileName string
	// MIMEType defaults to application/octet-stream.
	MIMEType string
	// Data is all of it, unless Open is set.
	Data []byte
	// Open returns the bytes, Size of them, from their beginning, for an artifact that should not be in memory as a whole.
	// It may be called more than once, until the call that the artifact was given to returns.
	Open func() (io.ReadCloser, error)
	Size int64
}

// Length returns the number of bytes.
func (a Artifact) Length() int64 {
	if a.Open != nil {
		return a.Size
	}
	return int64(len(a.Data))
}

// Reader returns the bytes from their beginning.
func (a Artifact) Reader() (io.ReadCloser, error) {
	if a.Open != nil {
		return a.Open()
	}
	return io.NopCloser(bytes.NewReader(a.Data)), nil
}

func (a Artifact) mimeType() string {
	if a.MIMEType == "" {
		return DefaultMIMEType
	}
	return a.MIMEType
}
