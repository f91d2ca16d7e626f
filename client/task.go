package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/blocksd/blocksd/network/backend"
)

// Task is a row of the network's table of tasks. The table lags behind the events of a task.
type Task struct {
	ID, Agent, Owner string
	State            State
	// CreatedAt and UpdatedAt are times in RFC 3339.
	CreatedAt, UpdatedAt string
	// Raw is the whole row.
	Raw json.RawMessage
}

func taskOf(r backend.TaskRow) Task {
	return Task{ID: r.TaskID, Agent: r.AgentName, Owner: r.Owner, State: r.State, CreatedAt: r.CreatedTime, UpdatedAt: r.UpdatedTime, Raw: r.Raw}
}

// TaskFilter selects tasks; what is empty does not restrict.
type TaskFilter struct {
	Agent, Owner string
	State        State
	// Limit is the size of a page, 0 for the network's default.
	Limit int
	// Cursor is that of the page before, empty for the first page.
	Cursor string
}

// Task reads one task.
func (c *Client) Task(ctx context.Context, taskID string) (Task, error) {
	row, err := c.consumer.GetTask(ctx, taskID)
	if err != nil {
		return Task{}, fmt.Errorf("read task %s: %w", taskID, translate(err))
	}
	return taskOf(row), nil
}

// Tasks reads one page of the tasks that were sent with this credential, newest first, and the cursor of the next page,
// empty after the last.
func (c *Client) Tasks(ctx context.Context, f TaskFilter) (tasks []Task, next string, err error) {
	rows, next, err := c.consumer.ListTasks(ctx, backend.ListFilter{
		OwnerID: f.Owner, AgentName: f.Agent, State: f.State, Limit: f.Limit, Cursor: f.Cursor,
	})
	if err != nil {
		return nil, "", fmt.Errorf("list tasks: %w", translate(err))
	}
	for _, r := range rows {
		tasks = append(tasks, taskOf(r))
	}
	return tasks, next, nil
}

// AllTasks yields the tasks of all pages, from f.Cursor on.
func (c *Client) AllTasks(ctx context.Context, f TaskFilter) iter.Seq2[Task, error] {
	return func(yield func(Task, error) bool) {
		seen := map[string]bool{} // cursors: a network that repeats one must not keep us for ever
		for {
			page, next, err := c.Tasks(ctx, f)
			if err != nil {
				yield(Task{}, err)
				return
			}
			for _, t := range page {
				if !yield(t, nil) {
					return
				}
			}
			if next == "" || seen[next] {
				return
			}
			seen[next] = true
			f.Cursor = next
		}
	}
}

// Cancel asks a task to end. The outcome arrives as an event; a task that has ended is left as it is.
func (c *Client) Cancel(ctx context.Context, taskID string) error {
	return c.signal("cancel", taskID, c.consumer.CancelTask(ctx, taskID))
}

// Terminate ends a task for good, with the reason "terminated".
func (c *Client) Terminate(ctx context.Context, taskID string) error {
	return c.signal("terminate", taskID, c.consumer.TerminateTask(ctx, taskID))
}

// Pause asks the agent to pause a task.
func (c *Client) Pause(ctx context.Context, taskID string) error {
	return c.signal("pause", taskID, c.consumer.SignalTask(ctx, "PauseTask", taskID))
}

// Resume asks the agent to go on with a task.
func (c *Client) Resume(ctx context.Context, taskID string) error {
	return c.signal("resume", taskID, c.consumer.SignalTask(ctx, "ResumeTask", taskID))
}

// Retry asks the network to run a task once more.
func (c *Client) Retry(ctx context.Context, taskID string) error {
	return c.signal("retry", taskID, c.consumer.SignalTask(ctx, "RetryTask", taskID))
}

// signal passes on what came of a call that works on a closed client, too, and leaves no connection behind there.
func (c *Client) signal(verb, taskID string, err error) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		c.freeConnections()
	}
	if err != nil {
		return fmt.Errorf("%s task %s: %w", verb, taskID, translate(err))
	}
	return nil
}
