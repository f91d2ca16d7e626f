package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// EventType says what an event is about.
type EventType = wire.EventType

// The events. There may be others, which are passed on with their Raw content.
const (
	EventRequest         = wire.EventRequest         // what was sent
	EventProgress        = wire.EventProgress        // a state, a status text (Message) or streams (StreamEvent)
	EventArtifact        = wire.EventArtifact        // an output
	EventCancelRequested = wire.EventCancelRequested // somebody has asked the task to end
	EventSystem          = wire.EventSystem          // Status paused or resumed
	EventTerminal        = wire.EventTerminal        // the end, always the last
)

// State of a task.
type State = wire.TaskState

// The states. The first three are ends.
const (
	Completed = wire.Completed
	Failed    = wire.Failed
	Canceled  = wire.Canceled
	Pending   = wire.Pending
	Running   = wire.Running
)

// Event is one event of a task.
type Event struct {
	wire.Event
	// Timetoken is when the network took it, in units of 100 ns since 1970. It orders events and names them.
	Timetoken string
}

// Time is the Timetoken as a time; zero for an event without one.
func (e Event) Time() time.Time {
	n, err := strconv.ParseInt(e.Timetoken, 10, 64)
	if err != nil || n == 0 {
		return time.Time{}
	}
	return time.Unix(n/1e7, n%1e7*100)
}

// Terminal is the end of a task.
type Terminal struct {
	// State is Completed, Failed or Canceled.
	State State
	// Error says why a task failed.
	Error string
	// Reason is "terminated" for a task that was terminated.
	Reason string
	// CompletionReason is "duration_expired" for a pipe task that ran its time.
	CompletionReason string
}

func (e Event) terminal() Terminal {
	return Terminal{State: e.State, Error: e.Error, Reason: e.Reason, CompletionReason: e.CompletionReason}
}

// endOf is the terminal event of a task of which only the row says that it has ended.
func endOf(taskID string, state State) Event {
	raw, _ := json.Marshal(struct { // texts always encode
		Type   EventType `json:"type"`
		TaskID string    `json:"taskId"`
		State  State     `json:"state"`
	}{EventTerminal, taskID, state})
	return Event{Event: wire.Event{Type: EventTerminal, TaskID: taskID, State: state, Raw: raw}}
}

// JSON is the event as it was received, compact, with the member timetoken.
func (e Event) JSON() (json.RawMessage, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(e.Raw, &members); err != nil {
		return nil, fmt.Errorf("encode an event of task %s: %w", e.TaskID, err)
	}
	timetoken, err := json.Marshal(e.Timetoken)
	if err != nil {
		return nil, err
	}
	if _, taken := members["timetoken"]; taken || len(members) == 0 { // ours wins; the order of the others is lost
		members["timetoken"] = timetoken
		return json.Marshal(members)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, e.Raw); err != nil {
		return nil, err
	}
	b.Truncate(b.Len() - 1) // the closing brace
	fmt.Fprintf(&b, `,"timetoken":%s}`, timetoken)
	return b.Bytes(), nil
}
