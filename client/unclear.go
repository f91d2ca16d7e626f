package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/blocksd/blocksd/network/backend"
)

// UnclearError says that Send has failed and that the task may run all the same: the answer was lost, or the context ended
// before it came. Send with the same idempotency key finds the task, or sends it; Cancel makes sure that nothing runs.
type UnclearError struct {
	Agent string
	// IdempotencyKey is that of the message, or the one that was made up for it.
	IdempotencyKey string

	err     error
	client  *Client
	request backend.SendRequest
}

func (e *UnclearError) Error() string { return e.err.Error() }

func (e *UnclearError) Unwrap() error { return e.err }

// unclear adds to the error of a request that it may have had its effect.
func (c *Client) unclear(ctx context.Context, r backend.SendRequest, err error) error {
	if err == nil || ctx.Err() == nil && !temporary(err) {
		return err
	}
	return &UnclearError{Agent: r.AgentName, IdempotencyKey: r.IdempotencyKey, err: err, client: c, request: r}
}

// Cancel asks the network which task has the idempotency key, and cancels it unless it has ended. The only way to ask is to
// send it again: a task that was never there begins, and is canceled at once. It may be called more than once.
func (e *UnclearError) Cancel(ctx context.Context) error {
	fail := func(err error) error {
		return fmt.Errorf("cancel what may have been sent to agent %s: %w", e.Agent, translate(err))
	}
	task, err := e.client.consumer.SendMessage(ctx, e.request)
	if _, gone := errors.AsType[*NotFoundError](translate(err)); gone {
		return nil // and its tasks with it
	}
	if err != nil {
		return fail(err)
	}
	if task.State.Final() {
		return nil
	}
	return e.client.Cancel(ctx, task.TaskID)
}
