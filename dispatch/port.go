package dispatch

import (
	"context"
	"errors"
	"io"

	"github.com/blocksd/blocksd/network/wire"
)

// TaskPort is what a running task offers to the process that works on it. The runtime implements it, the supervisor
// calls it. Calls of one task may come from several goroutines; what one goroutine calls takes effect in its order.
type TaskPort interface {
	// Dispatched says that process pid has been chosen and is about to be given the task.
	Dispatched(pid int)
	// Status reports a status text. It never blocks on the network.
	Status(text string)
	// Artifact publishes one artifact and returns when the network has it, or with the reason why it has not.
	Artifact(ctx context.Context, a wire.Artifact) error
	// Input opens the file of the part with this index.
	Input(ctx context.Context, part int) (Input, error)

	// CreateStream sets up a live stream, and returns it once it can be used. Created is false when the task has this
	// shared stream already. The errors are *StreamError, or that of the context.
	CreateStream(ctx context.Context, r StreamRequest) (s Stream, created bool, err error)
	// Stream returns a stream of the task, also one that has ended.
	Stream(id string) (Stream, error)

	// Detached says that the handler of a pipe task has returned its result. When it is true the task goes on, and is
	// not done before its context ends: until then the handler may use what the port offers.
	Detached() bool
	// End ends a pipe task whose handler has returned: it failed, or is completed when failure is nil. The error says why
	// it cannot be ended.
	End(failure *TaskFailure) error

	Caller
}

// ErrNotDetached answers End for a task that is no pipe task or whose handler has not returned, ErrTaskOver whatever
// comes after the outcome of a task.
var (
	ErrNotDetached = errors.New("only a pipe task whose handler has returned its result can be ended so")
	ErrTaskOver    = errors.New("the task is over")
)

// NoStreams is the part of a TaskPort that a port without streams, and without calls, can embed.
type NoStreams struct{ NoCalls }

// CreateStream implements TaskPort.
func (NoStreams) CreateStream(context.Context, StreamRequest) (Stream, bool, error) {
	return nil, false, &StreamError{StreamForbidden, "streams are not offered here"}
}

// Stream implements TaskPort.
func (NoStreams) Stream(string) (Stream, error) {
	return nil, &StreamError{StreamUnknown, "streams are not offered here"}
}

// Detached implements TaskPort.
func (NoStreams) Detached() bool { return false }

// End implements TaskPort.
func (NoStreams) End(*TaskFailure) error { return ErrNotDetached }

// Input is a file that a handler downloads. The caller closes Body.
type Input struct {
	Name     string
	MIMEType string
	// Size as announced by the sender.
	Size int64
	Body io.ReadCloser
}
