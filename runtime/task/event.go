package task

import (
	"fmt"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// Event is something that happened to a task.
type Event interface{ event() }

// The events.
type (
	// Start is the first event of an accepted task.
	Start struct{}
	// Dispatched says that a process has been chosen and is about to be given the task.
	Dispatched struct{ PID int }
	// Status is a status text of the handler.
	Status struct{ Text string }
	// Artifact is an output of the handler, known to the caller of Step by ID.
	Artifact struct{ ID int }
	// Detached says that the handler of a pipe task has returned its result while its call goes on: the process may still
	// use the task. The call then ends with the task, or with its process.
	Detached struct{}
	// End ends a pipe task that is detached. Failure is nil when it is completed.
	End struct{ Failure *dispatch.TaskFailure }
	// StreamFailed ends a task of which a stream has failed.
	StreamFailed struct{ Reason string }
	// HandlerDone says that the call of the handler has ended. Failure is nil when it succeeded.
	HandlerDone struct{ Failure *dispatch.TaskFailure }
	// Cancel asks the task to end, for Reason. A consumer, the network, an operator or the daemon wants it.
	Cancel struct{ Reason dispatch.CancelReason }
	// TimerFired says that a timer which SetTimer armed has run out.
	TimerFired struct{ Timer Timer }
	// TerminalDone says that everything published, the terminal event included, has been sent or given up.
	TerminalDone struct{}
)

func (Start) event()        {}
func (Dispatched) event()   {}
func (Status) event()       {}
func (Artifact) event()     {}
func (Detached) event()     {}
func (End) event()          {}
func (StreamFailed) event() {}
func (HandlerDone) event()  {}
func (Cancel) event()       {}
func (TimerFired) event()   {}
func (TerminalDone) event() {}

// Action is something that the caller of Step must do, in the order given. What is published goes through one queue
// that keeps this order; every other action takes effect at once and waits for nothing.
type Action interface{ action() }

// The actions.
type (
	// PublishRunning publishes the first event.
	PublishRunning struct{}
	// PublishStatus publishes a status text.
	PublishStatus struct{ Text string }
	// PublishArtifact publishes the artifact with this ID.
	PublishArtifact struct{ ID int }
	// RefuseArtifact answers whoever brought the artifact that the task has ended.
	RefuseArtifact struct{ ID int }
	// PublishTerminal publishes the last event. There is exactly one, and no publish follows it.
	PublishTerminal struct{ Terminal wire.Terminal }
	// CallHandler gives the task to the handler. HandlerDone must follow some time.
	CallHandler struct{}
	// NotifyHandler asks the handler to end the task within Grace.
	NotifyHandler struct {
		Reason dispatch.CancelReason
		Grace  time.Duration
	}
	// EndCall ends the call of the handler without asking it.
	EndCall struct{}
	// NoteOutcome says what the outcome is to be if the daemon ends before it is decided. It follows what notifies
	// the handler, which must not wait for it; a later one, or the terminal, takes its place.
	NoteOutcome struct{ Terminal wire.Terminal }
	// AbandonArtifacts gives up the artifacts that have not been published yet, so that they cannot delay the terminal.
	AbandonArtifacts struct{}
	// SetTimer arms a timer; it is never armed twice without a StopTimer or its TimerFired between.
	SetTimer struct {
		Timer Timer
		At    time.Time
	}
	// StopTimer disarms a timer.
	StopTimer struct{ Timer Timer }
	// FreeSlot gives the task's slot to the next one, exactly once and before the terminal is published: a network that
	// dispatches on the terminal must find the slot free.
	FreeSlot struct{}
	// Finished is the last action: the terminal is out and the handler's call has ended.
	Finished struct{}
)

func (PublishRunning) action()   {}
func (PublishStatus) action()    {}
func (PublishArtifact) action()  {}
func (RefuseArtifact) action()   {}
func (PublishTerminal) action()  {}
func (CallHandler) action()      {}
func (NotifyHandler) action()    {}
func (EndCall) action()          {}
func (NoteOutcome) action()      {}
func (AbandonArtifacts) action() {}
func (SetTimer) action()         {}
func (StopTimer) action()        {}
func (FreeSlot) action()         {}
func (Finished) action()         {}

// Timer names one of the timers of a task.
type Timer int

// The timers.
const (
	// StatusTimer ends the window in which only the latest status text is kept.
	StatusTimer Timer = iota
	// GraceTimer ends the time that a handler has after it was asked to end.
	GraceTimer
	// DeadlineTimer ends the time that a task may run.
	DeadlineTimer
	// Timers is how many there are.
	Timers
)

var timerNames = [Timers]string{"status", "grace", "deadline"}

func (t Timer) String() string {
	if t < 0 || t >= Timers {
		return fmt.Sprintf("timer %d", int(t))
	}
	return timerNames[t]
}
