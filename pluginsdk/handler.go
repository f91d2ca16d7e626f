// Package pluginsdk turns a function into a handler: a program that the blocksd daemon starts, and that works on tasks of
// the Blocks Network. Embed an agent card, write the function, call [Serve] from main, and put the binary into the
// daemon's plugins directory.
//
// Tasks run at the same time, each in its own goroutine, as many as the card's concurrency allows. A handler never sees
// keys or tokens: files come and go through the daemon.
//
// # Errors
//
// The text of an error that the function returns is shown to the consumer, as with Blocks' own SDKs, cut to 8 KiB. Wrap
// an error with [Private] to show another text and keep the error in the daemon's log. A panic fails only its own task:
// the consumer sees a general text, the log gets the stack.
//
// # Cancellation
//
// The function's context ends when the task is asked to end; its cause is a [*Canceled] with the reason. Return soon:
// after the grace (5 s unless configured) the daemon ends the task without the handler and replaces the process.
//
// # Logging
//
// [Serve] sets slog's default logger to write JSON to standard error; the records reach the daemon's log with their
// levels. Lines printed to standard output or error arrive too, at level info.
package pluginsdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc"
)

// Handler is what a program serves.
type Handler struct {
	// Name appears in logs and status; the file name is used when it is empty.
	Name    string
	Version string
	// Cards are the agent cards that the handler serves, as JSON. May be empty when the card is a file beside the binary.
	Cards [][]byte
	// Run works on one task and returns when it is done; nil means success.
	Run func(ctx context.Context, t *Task) error
	// Idempotent promises that repeating a task that published nothing has no further effect, so that the daemon may try
	// it again after a crash.
	Idempotent bool
	// ServerOptions are added to the gRPC server, such as interceptors for tracing.
	ServerOptions []grpc.ServerOption
}

func (h Handler) check() error {
	if h.Run == nil {
		return errors.New("the Handler given to pluginsdk.Serve has no Run function")
	}
	for i, c := range h.Cards {
		if !json.Valid(c) {
			return fmt.Errorf("agent card number %d given to pluginsdk.Serve is not JSON", i+1)
		}
	}
	return nil
}
