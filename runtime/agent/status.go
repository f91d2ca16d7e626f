package agent

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/lifecycle"
)

// The states of an agent, as Status shows them; see package lifecycle for what they mean.
const (
	StateConnecting = lifecycle.Connecting
	StateOnline     = lifecycle.Online
	StateDraining   = lifecycle.Draining
	StateOffline    = lifecycle.Offline
	StateFailed     = lifecycle.Failed
)

// Status of an agent at one moment.
type Status struct {
	Name string
	// State is one of the State constants; Reason explains it in one sentence, and may be empty.
	State, Reason string
	InstanceID    string
	// BillingMode is empty until the registry has answered.
	BillingMode wire.BillingMode
	Handler     string
	// Running tasks hold a slot of Concurrency.
	Running, Concurrency int
	// Streams are those that tasks have now; the bytes are those of all since the agent was made.
	Streams                         int
	StreamsInbound, StreamsOutbound int64
	Counts                          Counts
}

// Counts since the agent was made.
type Counts struct {
	// Accepted = Completed + Failed + Canceled + tasks whose outcome is open.
	Accepted, Completed, Failed, Canceled int64
	// Outbox is how many terminal events the network has not acknowledged yet, those from before a restart included.
	Outbox int64
	// Undelivered terminal events were given up: refused for good, or not sent when their time or the agent ended.
	Undelivered int64
	// Refused tasks were not accepted.
	Refused int64
	// Ignored messages on the control channel were malformed or unknown.
	Ignored int64
}

// Plus adds counts up.
func (c Counts) Plus(o Counts) Counts {
	return Counts{
		Accepted: c.Accepted + o.Accepted, Completed: c.Completed + o.Completed, Failed: c.Failed + o.Failed, Canceled: c.Canceled + o.Canceled,
		Outbox: c.Outbox + o.Outbox, Undelivered: c.Undelivered + o.Undelivered, Refused: c.Refused + o.Refused, Ignored: c.Ignored + o.Ignored,
	}
}

// TaskInfo is one task in flight.
type TaskInfo struct {
	TaskID, Agent, Handler string
	// PID is nil until a process was chosen.
	PID *int
	// State is waiting, running, canceling or ending.
	State string
	// Since is when the task was accepted.
	Since time.Time
	// Deadline is when it is asked to end because its time is over; zero if never.
	Deadline time.Time
}

// Status returns the state and the counters. It is cheap however many tasks there are.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checkJournalLocked()
	s := Status{
		Name: a.name(), InstanceID: a.cfg.InstanceID, Handler: a.cfg.Handler,
		Running: a.tasks.running, Concurrency: a.cfg.Card.Concurrency, Counts: a.counts,
		Streams: int(a.traffic.open.Load()), StreamsInbound: a.traffic.inbound.Load(), StreamsOutbound: a.traffic.outbound.Load(),
	}
	if a.conn.session != nil {
		s.BillingMode = a.conn.session.mode
	}
	s.State, s.Reason = a.life.State()
	return s
}

// Tasks returns the tasks in flight, the oldest first.
func (a *Agent) Tasks() []TaskInfo {
	jobs := a.snapshot()
	infos := make([]TaskInfo, len(jobs))
	for i, j := range jobs {
		infos[i] = j.info()
	}
	return infos
}

func (j *job) info() TaskInfo {
	j.mu.Lock()
	defer j.mu.Unlock()
	info := TaskInfo{
		TaskID: j.task.ID, Agent: j.agent.name(), Handler: j.agent.cfg.Handler, State: j.machine.Phase().String(),
		Since: j.since, Deadline: j.machine.Deadline(),
	}
	if pid := j.machine.PID(); pid != 0 {
		info.PID = &pid
	}
	return info
}
