package dispatch

import (
	"context"
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
}

// Input is a file that a handler downloads. The caller closes Body.
type Input struct {
	Name     string
	MIMEType string
	// Size as announced by the sender.
	Size int64
	Body io.ReadCloser
}
