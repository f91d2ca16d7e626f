package dispatch

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Caller is the part of a TaskPort with which a handler gives tasks to other agents, as the owner of its own agent. Its
// errors are *CallError, or that of the context.
type Caller interface {
	// Call sends a task.
	Call(ctx context.Context, r CallRequest) (Call, error)
	// Called returns a task that this task has sent.
	Called(taskID string) (Call, error)
}

// CallRequest is a task for another agent.
type CallRequest struct {
	Agent string
	Parts []CallPart
	// Duration makes it a pipe task, whole minutes; 0 is a request task.
	Duration       time.Duration
	IdempotencyKey string
	// OwnerID that the network records; empty for the owner of the calling agent.
	OwnerID string
	// Detached: the called task goes on when the calling task ends, or nobody follows it any more.
	Detached bool
	// Stream: a request task may have streams.
	Stream bool
	// Traceparent is the W3C trace context of the call; empty for that of the calling task.
	Traceparent string
}

// CallPart is one input: a text, or a file where Open is not nil.
type CallPart struct {
	ID, ContentType string
	Text            string
	FileName        string
	// Open returns the file from its beginning. It may be called more than once, until Call returns.
	Open func() (io.ReadCloser, error)
}

// Call is a task that was sent to another agent.
type Call interface {
	TaskID() string
	// Queued: no instance was free. Idempotent: the task had been sent before with this idempotency key.
	Queued() bool
	Idempotent() bool
	// Follow passes each event of the task to emit, from its beginning up to the terminal one. When it ends before that, the
	// task is canceled unless it is detached.
	Follow(ctx context.Context, emit func(CallEvent) error) error
	// Control asks for something to happen to the task.
	Control(ctx context.Context, verb CallVerb) error
	// Artifact opens one of the task's artifacts, counted from 0. The caller closes Body.
	Artifact(ctx context.Context, index int) (CallArtifact, error)
	// OpenStream opens a stream that an event has announced, as long as the task runs. It may be repeated.
	OpenStream(ctx context.Context, id string) (CalledStream, error)
	// Stream returns a stream that was opened.
	Stream(id string) (StreamUse, error)
}

// CallEvent is an event of a called task.
type CallEvent struct {
	// JSON is the whole event, an object with the member timetoken.
	JSON json.RawMessage
	// Streams have been announced since the event before.
	Streams []CalledStream
}

// CalledStream is a stream of a called task. Its direction is seen from this side: inbound is what the called agent writes.
type CalledStream struct {
	ID, Declared string
	Direction    wire.StreamDirection
	Format       wire.StreamFormat
	Shared       bool
	// Metadata is a JSON object, nil for none.
	Metadata json.RawMessage
}

// CallArtifact is an output of a called task.
type CallArtifact struct {
	OutputID, FileName, MIMEType string
	Body                         io.ReadCloser
}

// CallVerb is something to ask the network about a task.
type CallVerb string

// The verbs.
const (
	CallCancel    CallVerb = "cancel"
	CallTerminate CallVerb = "terminate"
	CallPause     CallVerb = "pause"
	CallResume    CallVerb = "resume"
	CallRetry     CallVerb = "retry"
)

// CallFault classifies why a task could not be sent or used.
type CallFault int

// The faults.
const (
	CallRefused     CallFault = iota + 1 // the message is wrong, or the network refuses it
	CallUnavailable                      // the network could not be reached
	CallLimit                            // too many calls, or calls nested too deeply
	CallUnknown                          // there is no such agent, task or artifact
	CallNotOffered                       // this port makes no calls
)

// CallError is the error of a call; Text is one sentence for the handler.
type CallError struct {
	Fault CallFault
	Text  string
}

func (e *CallError) Error() string { return e.Text }

// errNoCalls says that a port makes no calls.
var errNoCalls = error(&CallError{CallNotOffered, "calls to other agents are not offered here"})

// NoCalls is the part of a TaskPort that a port without calls can embed.
type NoCalls struct{}

// Call implements Caller.
func (NoCalls) Call(context.Context, CallRequest) (Call, error) { return nil, errNoCalls }

// Called implements Caller.
func (NoCalls) Called(string) (Call, error) { return nil, errNoCalls }
