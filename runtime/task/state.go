// Package task decides what happens to one accepted task: what is published and in which order, when the handler is
// asked to end, when its call is ended, and which terminal event the task gets. It is pure: no I/O, no clock, no
// goroutines. For every order of events there is exactly one terminal event and nothing is published after it.
package task

import (
	"fmt"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// StatusWindow is the shortest time between two status texts; of those that come closer the latest is kept. A kept text
// goes out earlier when an artifact or the terminal follows it.
const StatusWindow = time.Second

// Phase is the state of a task as shown to the outside.
type Phase int

// The phases, in the order in which a task passes them. Any but the first and the last two may be skipped.
const (
	Waiting   Phase = iota // accepted; no process has it yet
	Running                // a process has it, or a pipe task lives on after its handler returned
	Canceling              // asked to end
	Ending                 // the outcome is decided and on its way to the network
	Done                   // over
)

var phaseNames = [...]string{"waiting", "running", "canceling", "ending", "done"}

func (p Phase) String() string {
	if p < 0 || int(p) >= len(phaseNames) {
		return "unknown"
	}
	return phaseNames[p]
}

// Config is what the decisions depend on.
type Config struct {
	Kind wire.TaskKind
	// Grace is how long a handler has after it was asked to end; then its call is ended.
	Grace time.Duration
	// Limit is how long the task may run from its start, 0 for no limit. A task over its limit has failed.
	Limit time.Duration
	// Expires is when the agreed time of a pipe task is over, by the same clock as Step's now; zero never. A pipe task
	// that ran its time is completed. It may be in the past.
	Expires time.Time
}

// State is the state machine of one task. It is not safe for concurrent use. Its zero value is not useful; see New.
type State struct {
	cfg   Config
	phase Phase
	pid   int

	// Why the task is to end. The first reason is the one that the handler learns; the network's terminate and expire
	// are remembered even if they come later, because the terminal event states them.
	reason              dispatch.CancelReason
	expired, terminated bool

	calling   bool // the handler's call has begun and not ended
	dispatch  bool // a process has the task
	detached  bool // the handler of a pipe task has returned, and the task lives on
	published bool // the terminal is out, or given up

	pending    *string // status text kept for the end of the window
	lastStatus time.Time
	armed      [Timers]bool
	deadline   time.Time
	outcome    wire.Terminal

	out []Action // of the Step in progress
}

// New returns the machine of a task that has been accepted. Its first event is Start, or Cancel for a task that is to end
// before it has begun; a later Start is then ignored.
func New(cfg Config) *State { return &State{cfg: cfg} }

// Phase returns the phase for display.
func (s *State) Phase() Phase { return s.phase }

// PID returns the process that has the task, 0 if none was chosen yet.
func (s *State) PID() int { return s.pid }

// Deadline returns when the task is asked to end because its time is over; zero if never. It is known after Start.
func (s *State) Deadline() time.Time { return s.deadline }

// Detached reports whether the task goes on although its handler has returned.
func (s *State) Detached() bool { return s.detached && s.phase < Canceling }

// Outcome returns the terminal event once the phase is Ending or Done.
func (s *State) Outcome() wire.Terminal { return s.outcome }

// Step takes an event that happened at now and returns what to do, in this order. The caller serialises calls and
// performs the actions of one call before those of the next.
func (s *State) Step(ev Event, now time.Time) []Action {
	s.out = nil
	switch ev := ev.(type) {
	case Start:
		s.start(now)
	case Dispatched:
		s.dispatched(ev.PID)
	case Status:
		s.status(ev.Text, now)
	case Artifact:
		s.artifact(ev.ID, now)
	case Detached:
		s.detach()
	case End:
		if s.Detached() {
			s.decide(s.verdict(ev.Failure), now)
		}
	case StreamFailed:
		if s.phase < Canceling { // a task that is to end has its outcome, and ends soon
			s.decide(wire.Terminal{State: wire.Failed, Error: publicText(&dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: ev.Reason})}, now)
		}
	case HandlerDone:
		s.handlerDone(ev.Failure, now)
	case Cancel:
		s.cancel(ev.Reason, now)
	case TimerFired:
		s.timerFired(ev.Timer, now)
	case TerminalDone:
		s.published = s.phase == Ending
		s.finish()
	}
	return s.out
}

func (s *State) do(a Action) { s.out = append(s.out, a) }

func (s *State) start(now time.Time) {
	if s.calling || s.phase != Waiting {
		return
	}
	s.calling = true
	s.do(PublishRunning{})
	s.do(CallHandler{})
	switch {
	case s.cfg.Kind == wire.Pipe:
		s.deadline = s.cfg.Expires
	case s.cfg.Limit > 0:
		s.deadline = now.Add(s.cfg.Limit)
	}
	if !s.deadline.IsZero() {
		s.arm(DeadlineTimer, s.deadline)
	}
}

func (s *State) dispatched(pid int) {
	if s.decided() || !s.calling {
		return
	}
	s.pid, s.dispatch = pid, true
	if s.phase == Waiting {
		s.phase = Running
	}
}

func (s *State) status(text string, now time.Time) {
	if s.decided() {
		return
	}
	if s.armed[StatusTimer] {
		s.pending = &text
		return
	}
	s.publishStatus(text, now)
	s.arm(StatusTimer, now.Add(StatusWindow))
}

func (s *State) publishStatus(text string, now time.Time) {
	s.pending, s.lastStatus = nil, now
	s.do(PublishStatus{text})
}

// flush publishes the status text that is being kept, because something follows it on the wire.
func (s *State) flush(now time.Time) {
	if s.pending != nil {
		s.publishStatus(*s.pending, now)
	}
}

func (s *State) artifact(id int, now time.Time) {
	if s.decided() {
		s.do(RefuseArtifact{id})
		return
	}
	s.flush(now)
	s.do(PublishArtifact{id})
}

func (s *State) detach() {
	if s.calling && s.cfg.Kind == wire.Pipe && s.phase < Canceling {
		s.phase, s.detached = Running, true
	}
}

func (s *State) handlerDone(f *dispatch.TaskFailure, now time.Time) {
	if !s.calling {
		return
	}
	s.calling = false
	switch {
	case s.decided(): // whatever the handler says now comes too late
		s.finish()
	case s.phase != Canceling && f == nil && s.cfg.Kind == wire.Pipe:
		// A pipe task lives until its time is over or somebody ends it. It keeps its slot.
		s.phase, s.detached = Running, true
	default:
		s.decide(s.verdict(f), now)
	}
}

func (s *State) cancel(reason dispatch.CancelReason, now time.Time) {
	if s.decided() {
		return
	}
	noted := s.verdict(nil)
	s.expired = s.expired || reason == dispatch.CancelExpired
	s.terminated = s.terminated || reason == dispatch.CancelTerminated
	if s.phase == Canceling {
		if now := s.verdict(nil); now != noted {
			s.do(NoteOutcome{now})
		}
		return
	}
	s.phase, s.reason = Canceling, reason
	if s.detached || !s.calling { // nobody to ask
		s.decide(s.verdict(nil), now)
		return
	}
	s.disarm(DeadlineTimer)
	if s.dispatch {
		s.do(NotifyHandler{reason, s.cfg.Grace})
	} else {
		s.do(EndCall{}) // no process has it yet, so there is nobody to ask
	}
	s.do(NoteOutcome{s.verdict(nil)})
	s.arm(GraceTimer, now.Add(s.cfg.Grace))
}

func (s *State) timerFired(t Timer, now time.Time) {
	if t < 0 || t >= Timers || !s.armed[t] {
		return // fired while it was being stopped
	}
	s.armed[t] = false
	switch t {
	case StatusTimer:
		// After an early flush the window counts from the flush.
		switch next := s.lastStatus.Add(StatusWindow); {
		case now.Before(next):
			s.arm(StatusTimer, next)
		case s.pending != nil:
			s.publishStatus(*s.pending, now)
			s.arm(StatusTimer, now.Add(StatusWindow))
		}
	case DeadlineTimer:
		if s.cfg.Kind == wire.Pipe {
			s.cancel(dispatch.CancelExpired, now)
		} else {
			s.cancel(dispatch.CancelDeadline, now)
		}
	case GraceTimer:
		s.decide(s.verdict(nil), now)
	}
}

// verdict returns the outcome of a task whose handler ended with f, or did not end in its grace.
func (s *State) verdict(f *dispatch.TaskFailure) wire.Terminal {
	if s.phase != Canceling {
		if f == nil {
			return wire.Terminal{State: wire.Completed}
		}
		return wire.Terminal{State: wire.Failed, Error: publicText(f)}
	}
	// Asked to end: an error of the handler is how it obeyed, so it does not count.
	var reason string
	if s.terminated {
		reason = wire.ReasonTerminated
	}
	switch {
	case s.cfg.Kind == wire.Pipe && s.expired:
		return wire.Terminal{State: wire.Completed, CompletionReason: wire.ReasonDurationExpired, Reason: reason}
	case s.reason == dispatch.CancelDeadline:
		return wire.Terminal{State: wire.Failed, Error: fmt.Sprintf(
			"The task was stopped because it ran longer than the %v seconds that its agent allows.", s.cfg.Limit.Seconds())}
	}
	return wire.Terminal{State: wire.Canceled, Reason: reason}
}

// decide makes t the outcome. It is reached once.
func (s *State) decide(t wire.Terminal, now time.Time) {
	s.flush(now)
	for timer := range Timers {
		s.disarm(timer)
	}
	s.phase, s.outcome = Ending, t
	s.do(FreeSlot{})
	if s.calling {
		s.do(AbandonArtifacts{})
		s.do(EndCall{})
	}
	s.do(PublishTerminal{t})
}

func (s *State) decided() bool { return s.phase >= Ending }

func (s *State) finish() {
	if s.phase == Ending && s.published && !s.calling {
		s.phase = Done
		s.do(Finished{})
	}
}

func (s *State) arm(t Timer, at time.Time) {
	s.armed[t] = true
	s.do(SetTimer{t, at})
}

func (s *State) disarm(t Timer) {
	if s.armed[t] {
		s.armed[t] = false
		s.do(StopTimer{t})
	}
}

// publicTexts are what a consumer reads when a failure brought no text of its own.
var publicTexts = map[dispatch.FailureKind]string{
	dispatch.HandlerError:  "The agent reported an error without saying which.",
	dispatch.HandlerCrash:  "The agent's handler ended unexpectedly while it worked on the task.",
	dispatch.HandlerSilent: "The agent's handler ended the task without a result.",
	dispatch.NoProcess:     "The agent's handler is not available at the moment.",
	dispatch.CallEnded:     "The agent ended the task before it was done.",
}

func publicText(f *dispatch.TaskFailure) string {
	text := f.Public
	if text == "" {
		text = publicTexts[f.Kind]
	}
	if text == "" {
		text = "The agent could not finish the task."
	}
	return wire.CutText(text, wire.MaxTextBytes)
}
