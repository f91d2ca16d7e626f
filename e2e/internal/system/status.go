package system

// What the daemon says about itself, as its machine-readable forms have it.

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Status is what `status --json` says.
type Status struct {
	Ready    bool
	Reasons  []string
	Version  string
	PID      int
	Agents   []Agent
	Handlers []Handler
	Tasks    struct{ Running, Accepted, Completed, Failed, Canceled, Outbox int }
}

// Agent is one agent of a Status.
type Agent struct {
	Name, State, Reason, InstanceID, BillingMode, Handler string
	Running, Concurrency                                  int
}

// Handler is one handler of a Status.
type Handler struct {
	Name, State, Reason, Path, SHA256, Isolation string
	IsolationOpen                                []string
	Generation, Restarts                         int
	Processes                                    []struct {
		PID       int
		State     string
		Running   int
		StartedAt time.Time
		RSSBytes  int64
	}
}

// Handler returns the handler with this name.
func (s Status) Handler(t testing.TB, name string) Handler {
	t.Helper()
	for _, h := range s.Handlers {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("status has no handler %s: %+v", name, s.Handlers)
	return Handler{}
}

// Status asks the daemon.
func (n *Network) Status(t testing.TB) Status {
	t.Helper()
	s, err := n.status(t)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (n *Network) status(t testing.TB) (Status, error) {
	r := n.Run(t, n.Env, "status", "--json")
	if r.Code != 0 && r.Stdout == "" {
		return Status{}, errors.New(r.Stderr)
	}
	var s Status
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		return Status{}, fmt.Errorf("status --json printed %q: %w", r.Stdout, err)
	}
	return s, nil
}

// TaskRow is a row of `tasks --json`.
type TaskRow struct {
	TaskID, Agent, Handler, State string
	PID                           *int
	Since                         time.Time
	Deadline                      *time.Time
}

// Tasks asks the daemon for the tasks that have not ended.
func (n *Network) Tasks(t testing.TB) []TaskRow {
	t.Helper()
	r := n.Run(t, n.Env, "tasks", "--json")
	var rows []TaskRow
	if err := json.Unmarshal([]byte(r.Stdout), &rows); err != nil {
		t.Fatalf("tasks --json printed %q, %q: %v", r.Stdout, r.Stderr, err)
	}
	return rows
}

// ProcessOf waits until the daemon has given a task to a process, and returns that. The task may have ended since.
func (n *Network) ProcessOf(t testing.TB, taskID string) (pid int) {
	t.Helper()
	Eventually(t, CallDeadline, "task "+taskID+" is given to a process", func() bool {
		r := n.Run(t, n.Env, "events", "--json")
		for line := range strings.Lines(r.Stdout) {
			var e struct {
				Type, TaskID string
				PID          int
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("events --json printed %q: %v", line, err)
			}
			if e.Type == "task_started" && e.TaskID == taskID {
				pid = e.PID
			}
		}
		return pid != 0
	})
	return pid
}

// WaitRunning waits until the daemon works on a task in a process, and returns the process. The task must last.
func (n *Network) WaitRunning(t testing.TB, taskID string) (pid int) {
	t.Helper()
	Eventually(t, CallDeadline, "task "+taskID+" runs in a process", func() bool {
		for _, row := range n.Tasks(t) {
			if row.TaskID == taskID && row.PID != nil && row.State == "running" {
				pid = *row.PID
			}
		}
		return pid != 0
	})
	return pid
}
