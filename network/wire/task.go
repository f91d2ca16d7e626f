package wire

import (
	"bytes"
	"context"
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

// CancelReason says why a task is asked to end.
type CancelReason int

// The reasons. The last two mean that the daemon is leaving; a handler may treat them differently.
const (
	CancelUnspecified CancelReason = iota
	CancelUser                     // the consumer cancelled
	CancelExpired                  // the agreed duration is over
	CancelTerminated               // the network or an operator ended the task
	CancelDeadline                 // ran longer than the agent's card allows
	CancelDrain                    // the daemon drains
	CancelShutdown                 // the daemon stops now
)

var cancelReasonNames = [...]string{"UNSPECIFIED", "USER", "EXPIRED", "TERMINATED", "DEADLINE", "DRAIN", "SHUTDOWN"}

func (r CancelReason) String() string {
	if r < 0 || int(r) >= len(cancelReasonNames) {
		return "UNSPECIFIED"
	}
	return cancelReasonNames[r]
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

// Input is a file that a handler downloads. The caller closes Body.
type Input struct {
	Name     string
	MIMEType string
	// Size as announced by the sender.
	Size int64
	Body io.ReadCloser
}

// TaskPort is what a running task offers to the process that works on it. The runtime implements it, the supervisor
// calls it. Calls of one task may come from several goroutines; what one goroutine calls takes effect in its order.
type TaskPort interface {
	// Dispatched says that process pid has been chosen and is about to be given the task.
	Dispatched(pid int)
	// Status reports a status text. It never blocks on the network.
	Status(text string)
	// Artifact publishes one artifact and returns when the network has it, or with the reason why it has not.
	Artifact(ctx context.Context, a Artifact) error
	// Input opens the file of the part with this index.
	Input(ctx context.Context, part int) (Input, error)
}

// FailureKind classifies why a handler did not finish a task.
type FailureKind int

// The kinds of failure. All but HandlerError are the process's, not the handler code's.
const (
	HandlerError  FailureKind = iota + 1 // the handler said so
	HandlerCrash                         // the process ended, or the connection to it
	HandlerSilent                        // the call ended without a result
	NoProcess                            // no process could be given the task
	CallEnded                            // the daemon ended the call, after a grace or at its own end
)

// TaskFailure is the error of a task that a handler did not finish.
type TaskFailure struct {
	Kind FailureKind
	// Public goes to the consumer; one sentence without secrets, never empty.
	Public string
	// Private goes to the log only.
	Private string
}

func (f *TaskFailure) Error() string {
	if f.Private != "" {
		return f.Private
	}
	return f.Public
}

// Availability of a handler decides how an agent announces itself.
type Availability int

// The availabilities, from best to worst.
const (
	// Available: at least one process is ready.
	Available Availability = iota + 1
	// Recovering: no process is ready, but one is expected soon; the agent announces itself full and holds what it
	// receives for a short while.
	Recovering
	// Unavailable: no process is expected soon; the agent leaves the network's presence.
	Unavailable
)

func (a Availability) String() string {
	switch a {
	case Available:
		return "available"
	case Recovering:
		return "recovering"
	case Unavailable:
		return "unavailable"
	}
	return "unknown"
}
