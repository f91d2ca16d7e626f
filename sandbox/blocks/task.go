package blocks

import (
	"maps"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// task is one submitted task. The lock of the network guards it.
type task struct {
	taskRecord
	agent *agent
	env   *Environment // the agent's when the task was submitted
	files []string     // ids of its uploads
	delivery
}

// delivery is where a task is on its way to an instance.
type delivery struct {
	answered bool // the submitter has its answer, so that the task may be sent
	queued   bool
	instance *instance
	toAll    bool // sent to all instances
	sent     bool
	sentAt   time.Time
	states   int  // see slots.dispatched
	ending   bool // a terminal of the network itself is on its way
}

// taskRecord is what is kept of a task.
type taskRecord struct {
	order
	progress
}

// order is what was submitted. It never changes.
type order struct {
	ID, Owner, OrgID string
	Number           int // order of submission
	ByAgent          string
	AgentName        string           `json:"Agent"`
	Mode             wire.BillingMode // names the environment
	Channel, Inputs  string           // where its events and its input files are
	Kind             wire.TaskKind
	Duration         time.Duration
	ExpiresAtMS      int64
	HasStream        bool
	PublicKey        string
	idempotencyKey
}

// progress is how far a task has come.
type progress struct {
	Parts            []wire.Part `json:",omitzero"` // nil once it runs
	State            wire.TaskState
	Created, Updated time.Time
	CancelRequested  bool
	InstanceID       string             `json:"Instance"` // that runs it: its running event was seen
	Deadline         time.Time          // of a task that runs, zero for none
	Streams          map[string]*stream `json:",omitempty"` // that were set up, by id
}

// stream is one that a task has set up.
type stream struct {
	Requested bool   // a provider's token was issued
	Channel   string // "" for that of a shared stream, which outlives the task
	Token     string // the consumer's
}

// idempotencyKey belongs to the caller.
type idempotencyKey struct{ KeyUser, Key string }

// confirmedLocked reports whether an instance has taken the task up.
func (t *task) confirmedLocked() bool { return t.InstanceID != "" }

// anonymousLocked reports whether anyone may read a task.
func (t *task) anonymousLocked() bool {
	return !t.agent.Spec.Private && t.agent.Spec.BillingMode == wire.Free
}

// copyLocked returns a copy of what is kept of a task, which no later change reaches.
func (t *task) copyLocked() taskRecord {
	r := t.taskRecord
	r.Streams = maps.Clone(r.Streams)
	for id, s := range r.Streams {
		r.Streams[id] = new(*s)
	}
	return r
}

// taskTable holds all tasks that can be read.
type taskTable struct {
	byID      map[string]*task
	byKey     map[idempotencyKey]*task
	submitted int      // tasks so far
	finished  []string // ids of finished tasks, oldest first
}

func newTaskTable() taskTable {
	return taskTable{byID: map[string]*task{}, byKey: map[idempotencyKey]*task{}}
}

func (tt *taskTable) addLocked(t *task) {
	tt.byID[t.ID] = t
	if t.Key != "" {
		tt.byKey[t.idempotencyKey] = t
	}
}

func (tt *taskTable) removeLocked(t *task) {
	delete(tt.byID, t.ID)
	if tt.byKey[t.idempotencyKey] == t {
		delete(tt.byKey, t.idempotencyKey)
	}
}

func noTask(id string) *Error { return refused(404, CodeNoTask, "There is no task %s.", id) }
