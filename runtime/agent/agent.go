// Package agent is one instance of one agent on the Blocks Network: it connects, announces itself, receives control
// messages, admits tasks, has a Dispatcher work on them, and publishes what comes of them. Every accepted task gets
// exactly one terminal event.
//
// The decisions are made elsewhere, in pure packages: about the agent as a whole in lifecycle, about a StartTask in
// admission, about a single task in task. Here is what carries them out. Nothing that arrives on the control channel ever
// waits for the network, a handler or a disk.
//
// The files, from the top downwards: agent.go, config.go and status.go are what others see; run.go, drain.go and
// maintenance.go the life of an agent; presence.go, environment.go and resume.go its connection to the network; receive.go,
// admit.go, refuse.go and recover.go what comes in; job.go, call.go, port.go, artifact.go and publish.go a task; channel.go
// and deliver.go how its events reach the network; tasks.go and state.go what all of them share; the rest are parts that
// know nothing of the others.
//
// Time is that of Config.Now, which stands for the clock of the machine: only tests of wrong clocks set it. Pauses and
// deadlines run by package time, which the other tests control with synctest.
package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/runtime/lifecycle"
)

// Agent is one instance of one agent. Its methods are safe for concurrent use.
type Agent struct {
	cfg       Config
	log       *slog.Logger
	startedAt time.Time
	journal   *journal.AgentJournal // nil without a journal
	formerID  string                // the instance id before the restart, empty for none

	// tuned holds what Tune has changed.
	tuned atomic.Pointer[Tunables]
	// traffic counts the streams of its tasks.
	traffic traffic

	// work are the goroutines of tasks: handler calls, publishers, refusals. Run waits for them.
	work sync.WaitGroup
	// wakeup wakes runPresence; it holds at most one wake-up.
	wakeup chan struct{}
	// fatal closes when the agent has failed for good.
	fatal chan struct{}

	// mu guards everything below. It is taken inside the lock of a job, never around it, and never held over I/O:
	// control messages need it.
	mu       sync.Mutex
	started  bool
	life     *lifecycle.Machine
	tasks    taskTable
	conn     connection
	counts   Counts
	outbox   undelivered // as many as counts.Outbox
	throttle throttle
}

// New returns an agent that does nothing until Run. The error is a sentence for the operator.
func New(cfg Config) (*Agent, error) {
	record, err := cfg.openJournal()
	if err != nil {
		return nil, err
	}
	if cfg, err = cfg.check(); err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, log: cfg.Log.With("agent", cfg.Card.AgentName), startedAt: cfg.Now(),
		outbox: undelivered{}, wakeup: make(chan struct{}, 1), fatal: make(chan struct{}),
		tasks: taskTable{jobs: map[string]*job{}, recovering: map[string]*journal.Entry{}, finished: newRecentOutcomes(cfg.Timeouts.Remember)},
		conn:  connection{sessions: map[wire.BillingMode]*session{}},
	}
	a.Tune(Tunables{Drain: cfg.Drain, CancelGrace: cfg.CancelGrace, InlineLimit: cfg.InlineLimit, ArtifactLimit: cfg.ArtifactLimit})
	if err := a.restore(record); err != nil {
		return nil, fmt.Errorf("serve agent %s: %w", a.name(), err)
	}
	availability, _ := cfg.Dispatcher.Availability(cfg.Handler)
	_, unhealthy := a.health()
	a.life = lifecycle.New(lifecycle.Config{Handler: cfg.Handler, Moved: cfg.Timeouts.Moved}, availability, unhealthy)
	return a, nil
}

// CancelTask asks a task to end on behalf of an operator; the terminal event will say that it was terminated. It returns
// when the handler was notified, not when the task has ended. found is false when the agent has no such task in flight.
// err is that of ctx, or says why the handler could not be notified; then its call ends after the grace.
func (a *Agent) CancelTask(ctx context.Context, taskID string) (found bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("cancel task %s: %w", taskID, err)
	}
	j := a.find(taskID)
	if j == nil {
		return false, nil
	}
	j.cancel(dispatch.CancelTerminated)
	if err := j.awaitCancelAck(ctx); err != nil {
		return true, fmt.Errorf("the task is canceled without its handler, after the grace of %v: %w", a.tunables().CancelGrace, err)
	}
	return true, nil
}

// CancelNow asks every task to end now, with reason SHUTDOWN, and takes no more. It is for an operator who does not want
// to wait for the drain; the agent must be stopping or be stopped next. It does not wait.
func (a *Agent) CancelNow() {
	a.mu.Lock()
	a.checkJournalLocked()
	a.stepLocked(lifecycle.CancelNow{})
	a.mu.Unlock()
	a.cancelAll(dispatch.CancelShutdown)
}

// HoldDrain lets running tasks go on for as long as they take when the agent drains, until the channel closes; from then
// on Config.Drain counts. It is for an agent that gives way to another while the daemon goes on, and to be called before
// the end of Run's context.
func (a *Agent) HoldDrain(until <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tasks.drainHold = until
}
