// Package event has what happens in a daemon, as typed events, and the one bus that carries them. Whoever wants to know
// reads the bus: the log, readiness, what waits for a state. Commands stay calls: an event asks nobody to do anything.
package event

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Type says what happened. Its text is part of the daemon's interface (blocksd events --json).
type Type uint8

// The types. Those of tasks come first; see class.
const (
	// TaskAccepted: a task holds a slot, and its end is owed. Agent, TaskID, Duration since it arrived.
	TaskAccepted Type = iota + 1
	// TaskStarted: a handler process was given the task. Agent, Handler, TaskID, PID.
	TaskStarted
	// TaskEnded: the outcome is decided and durable. Agent, Handler, TaskID, State (completed, failed or canceled),
	// Reason, Duration since the acceptance.
	TaskEnded
	// TaskRefused: a task was answered without having been begun. Agent, TaskID, Reason.
	TaskRefused
	// StreamOpened and StreamClosed: a live stream of a task. Agent, TaskID, State.
	StreamOpened
	StreamClosed

	// AgentState: an agent went to another state, or has another reason for it. Agent, State, Reason.
	AgentState
	// HandlerState: a handler went to another state, has another reason for it, or has other processes that take tasks.
	// Handler, State, Reason.
	HandlerState
	// ProcessStarted: a handler process is ready. Handler, PID, Duration of its start.
	ProcessStarted
	// ProcessExited: a handler process is gone. Handler, PID, Reason; Level error when nobody asked for it.
	ProcessExited
	// Rollout: another program of a handler is being started, has taken over, or was given up. Handler, State (starting, done
	// or rejected), Reason.
	Rollout
	// ConfigReloaded: State applied or rejected, Reason.
	ConfigReloaded
	// Drain: the daemon drains, is drained, or serves again. State.
	Drain
	// Notice: something that an operator should read. Reason, and what it is about.
	Notice

	afterLast
)

var typeNames = [afterLast]string{
	TaskAccepted: "task_accepted", TaskStarted: "task_started", TaskEnded: "task_ended", TaskRefused: "task_refused",
	StreamOpened: "stream_opened", StreamClosed: "stream_closed",
	AgentState: "agent_state", HandlerState: "handler_state", ProcessStarted: "process_started", ProcessExited: "process_exited",
	Rollout: "rollout", ConfigReloaded: "config_reloaded", Drain: "drain", Notice: "notice",
}

// Types returns all types.
func Types() []Type {
	all := make([]Type, 0, afterLast-1)
	for t := TaskAccepted; t < afterLast; t++ {
		all = append(all, t)
	}
	return all
}

func (t Type) String() string {
	if t == 0 || t >= afterLast {
		return fmt.Sprintf("unknown(%d)", uint8(t))
	}
	return typeNames[t]
}

// ParseType is the reverse of String.
func ParseType(s string) (Type, bool) {
	i := slices.Index(typeNames[1:], s)
	return Type(i + 1), i >= 0
}

// class parts the types by how often they come, so that a flood of tasks never pushes a change of state out of the bus.
type class int

const (
	ofTasks class = iota
	ofStates
	classes
)

func (t Type) class() class {
	if t < AgentState {
		return ofTasks
	}
	return ofStates
}

// Event is one thing that happened. Which members are set depends on Type.
type Event struct {
	// Seq numbers the events of a bus from 1 on, without gaps; Time is when the event was emitted. The bus sets both.
	Seq  uint64
	Time time.Time

	Type    Type
	Agent   string
	Handler string
	TaskID  string
	PID     int
	// State is a word, Reason a sentence for people.
	State, Reason string
	Duration      time.Duration

	// Trace of a TaskAccepted, where tasks are traced; else nil. It must not be changed.
	Trace *Trace

	// Level is how loud the log says it; the zero value is info.
	Level slog.Level
	// Details are further facts for the log.
	Details []slog.Attr
}

// Trace says where a task is in a trace: its own span, the one of its handler, and the caller's, which is zero when the
// trace begins with the task.
type Trace struct {
	ID                    [16]byte
	Task, Handler, Parent [8]byte
}
