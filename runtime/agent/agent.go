// Package agent is one instance of one agent on the Blocks Network: it connects, announces itself, receives control
// messages, admits tasks, has a Dispatcher work on them, and publishes what comes of them. Every accepted task gets
// exactly one terminal event.
//
// The decisions about a single task are made in package task; here is what carries them out. Nothing that arrives on
// the control channel ever waits for the network, a handler or a disk.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
)

// The states of an agent, as Status shows them.
const (
	// StateConnecting: not reachable for tasks yet, or for the moment; the reason says what is being waited for.
	StateConnecting = "connecting"
	// StateOnline: announced in the network, which has acknowledged it, and able to take tasks.
	StateOnline = "online"
	// StateDraining: takes no more tasks; those that run may end.
	StateDraining = "draining"
	// StateOffline: stopped, or out of the network's sight because its handler is not available.
	StateOffline = "offline"
	// StateFailed: the network refused the authentication for good.
	StateFailed = "failed"
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
	Counts               Counts
}

// Counts since the agent was made.
type Counts struct {
	// Accepted = Completed + Failed + Canceled + tasks whose outcome is open.
	Accepted, Completed, Failed, Canceled int64
	// Outbox is how many terminal events the network has not acknowledged yet, those of before a restart included.
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

// Agent is one instance of one agent. Its methods are safe for concurrent use.
type Agent struct {
	cfg       Config
	name      string
	log       *slog.Logger
	startedAt time.Time
	book      *journal.Book // nil without a journal
	formerID  string        // the instance id before the restart, empty for none

	// work are the goroutines of tasks: handler calls, publishers, refusals. Run waits for them.
	work sync.WaitGroup
	// kick wakes attend; it holds at most one wake-up.
	kick chan struct{}
	// fatal closes when failure is set.
	fatal chan struct{}

	// mu guards everything below. It is taken inside the lock of a job, never around it, and never held over I/O:
	// control messages need it.
	mu      sync.Mutex
	started bool
	phase   phase
	// refuseFrom is when a draining agent begins to refuse tasks; one that is hastened does at once.
	refuseFrom time.Time
	leaving    bool // nothing is in flight any more, and nothing is taken
	hastened   bool
	// asked is why every task in flight was asked to end, CancelUnspecified before; one that is on its way in is asked too.
	asked dispatch.CancelReason
	// linger, if not nil, holds the time of the drain back until it closes.
	linger  <-chan struct{}
	failure error
	reason  string // why the agent is not connected
	// troubled is since when nothing has worked that the connection needs; zero while it works.
	troubled time.Time
	billing  wire.BillingMode
	channel  string // the control channel
	// session is that of the environment that the agent is in; sessions holds it and, after a move, the other one.
	session  *session
	sessions map[wire.BillingMode]*session
	presence *link.Presence
	// connected: the subscription stands; announced: the network has acknowledged our presence.
	connected, announced bool
	connectedAt          time.Time
	availability         dispatch.Availability
	clockOffset          time.Duration // the network's clock is ahead by this

	jobs     map[string]*job // by task id
	accepted int64           // numbers the jobs by age
	running  int             // jobs that hold a slot
	refusing int             // refusals on their way
	idle     chan struct{}   // closed when jobs and refusing are empty; nil when nobody waits
	finished memory
	// recovering are the tasks of before a restart whose outcome is not out yet, by id.
	recovering map[string]*journal.Entry
	resumed    bool  // the control channel was taken up where it was left
	resumedAt  int64 // timetoken of that moment; what is older was sent before the restart
	counts     Counts
	quiet      throttle

	shown [2]string // state and reason at the last change
}

// phase of the whole agent. It only grows.
type phase int

const (
	serving phase = iota
	draining
	stopped
)

// New returns an agent that does nothing until Run. The error is a sentence for the operator.
func New(cfg Config) (*Agent, error) {
	book, err := cfg.openBook()
	if err != nil {
		return nil, err
	}
	if cfg, err = cfg.check(); err != nil {
		return nil, err
	}
	a := &Agent{
		cfg:       cfg,
		name:      cfg.Card.AgentName,
		log:       cfg.Log.With("agent", cfg.Card.AgentName),
		startedAt: cfg.Now(),
		kick:      make(chan struct{}, 1),
		fatal:     make(chan struct{}),
		jobs:      map[string]*job{},
		sessions:  map[wire.BillingMode]*session{},
		finished:  newMemory(cfg.Timeouts.Remember),

		recovering: map[string]*journal.Entry{},
	}
	if err := a.remember(book); err != nil {
		return nil, fmt.Errorf("serve agent %s: %w", a.name, err)
	}
	a.availability, _ = cfg.Dispatcher.Availability(cfg.Handler)
	a.shown[0], a.shown[1] = a.state()
	return a, nil
}

// Status returns the state and the counters. It is cheap however many tasks there are.
func (a *Agent) Status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{
		Name: a.name, InstanceID: a.cfg.InstanceID, BillingMode: a.billing, Handler: a.cfg.Handler,
		Running: a.running, Concurrency: a.cfg.Card.Concurrency, Counts: a.counts,
	}
	s.State, s.Reason = a.state()
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

// snapshot returns the jobs, the oldest first.
func (a *Agent) snapshot() []*job {
	a.mu.Lock()
	jobs := make([]*job, 0, len(a.jobs))
	for _, j := range a.jobs {
		jobs = append(jobs, j)
	}
	a.mu.Unlock()
	slices.SortFunc(jobs, func(x, y *job) int { return int(x.number - y.number) })
	return jobs
}

// CancelTask asks a task to end on behalf of an operator; the terminal event will say that it was terminated. It returns
// when the handler was told, not when the task has ended. found is false when the agent has no such task in flight. err is
// that of ctx, or says why the handler could not be told; then its call ends after the grace.
func (a *Agent) CancelTask(ctx context.Context, taskID string) (found bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("cancel task %s: %w", taskID, err)
	}
	j := a.find(taskID)
	if j == nil {
		return false, nil
	}
	j.cancel(dispatch.CancelTerminated)
	if err := j.awaitTold(ctx); err != nil {
		return true, fmt.Errorf("cancel task %s: its handler was not told: %w", taskID, err)
	}
	return true, nil
}

// Hasten asks every task to end now, with reason SHUTDOWN, and takes no more. It is for an operator who does not want to
// wait for the drain; the agent must be stopping or be stopped next. It does not wait.
func (a *Agent) Hasten() {
	a.mu.Lock()
	a.hastened = true
	a.announceSlots()
	a.mu.Unlock()
	a.endTasks(dispatch.CancelShutdown)
}

// state derives the state and its reason. mu is held.
func (a *Agent) state() (state, reason string) {
	handler := a.cfg.Handler
	switch {
	case a.failure != nil:
		return StateFailed, a.failure.Error()
	case a.phase == stopped:
		return StateOffline, "The agent was stopped."
	case a.phase == draining:
		return StateDraining, "The agent is stopping: it takes no more tasks and lets those that run end."
	case a.availability == dispatch.Unavailable:
		return StateOffline, fmt.Sprintf("Handler %s is not available, so the agent stays out of the network; see the state of the handler.", handler)
	case !a.connected:
		if a.reason == "" {
			return StateConnecting, "The agent has not reached the network yet."
		}
		return StateConnecting, a.reason
	case a.availability != dispatch.Available:
		return StateConnecting, fmt.Sprintf("No process of handler %s is ready, so the agent announces itself as full until one is.", handler)
	case a.ill() != nil:
		return StateConnecting, fmt.Sprintf("The agent announces itself as full: %v.", a.ill())
	case !a.announced:
		return StateConnecting, "The network has not acknowledged the agent's presence yet."
	}
	return StateOnline, ""
}

// updateLocked emits the state if it did change.
func (a *Agent) updateLocked() {
	state, reason := a.state()
	now := [2]string{state, reason}
	if now == a.shown {
		return
	}
	level := slog.LevelInfo
	switch {
	case state == StateFailed:
		level = slog.LevelError
	case state != a.shown[0]:
	case a.session == nil:
		level = slog.LevelWarn // why it does not come up
	default:
		level = slog.LevelDebug
	}
	a.shown = now
	a.emit(event.Event{Type: event.AgentState, State: state, Reason: reason, Level: level})
}

// fail records that the authentication is final. The first reason stands.
func (a *Agent) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failure != nil {
		return
	}
	a.failure = fmt.Errorf("agent %s cannot go on: %w: %w, then restart", a.name, ErrFinal, err) // err says what to do
	close(a.fatal)
	a.updateLocked()
}
