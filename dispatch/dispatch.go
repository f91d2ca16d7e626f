// Package dispatch is the contract between the runtime, which has tasks, and the supervisor, which has processes to work
// on them. Both import it and neither imports the other. Of ours it imports only network/wire, whose Task and Artifact
// are what is handed over.
package dispatch

import (
	"context"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Dispatcher is what works on the tasks: the fleet of handler processes, or a Go function (see FuncDispatcher of package agent). All
// methods are safe for concurrent use.
type Dispatcher interface {
	// Start gives the task to a process of the handler. When no process is ready it may wait for one for a short while.
	// done is called once, perhaps before Start returns, when the call has ended: with nil, or a *TaskFailure. From then on
	// port is not used. When ctx ends it must end the call.
	Start(ctx context.Context, handler string, task *wire.Task, port TaskPort, done func(error))
	// CancelTask asks the handler of a task that was started to end it within grace. It returns once the handler
	// was told.
	CancelTask(ctx context.Context, taskID string, reason CancelReason, grace time.Duration) error
	// Availability returns how able the handler is to take tasks; the channel closes when that changes.
	Availability(handler string) (Availability, <-chan struct{})
}
