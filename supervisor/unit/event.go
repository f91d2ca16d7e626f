package unit

import "time"

// State of a handler as users see it.
type State int

// The states.
const (
	// Starting: a process is being started, none is ready. Also the state before Start.
	Starting State = iota + 1
	// Ready: at least one process takes tasks.
	Ready
	// Unhealthy: what runs does not answer, or is being replaced.
	Unhealthy
	// Draining: everything is being stopped.
	Draining
	// BackingOff: waiting before the next start.
	BackingOff
	// Quarantined: failed too often; tried at long intervals, or at once after a Reset.
	Quarantined
	// Stopped: nothing runs and nothing will.
	Stopped
	// Idle: nothing runs because nothing is to be done; the next task starts it.
	Idle
)

var stateNames = [...]string{
	Starting: "starting", Ready: "ready", Unhealthy: "unhealthy", Draining: "draining",
	BackingOff: "backing_off", Quarantined: "quarantined", Stopped: "stopped", Idle: "idle",
}

func (s State) String() string {
	if s <= 0 || int(s) >= len(stateNames) {
		return "unknown"
	}
	return stateNames[s]
}

// EventKind names what happened.
type EventKind int

// The events. Those that begin with Process are about one process.
const (
	Start            EventKind = iota + 1 // run the handler
	Stop                                  // stop all of it, for good
	Reset                                 // the operator, or a new binary, gives it another chance
	Timer                                 // the time of the last SetTimer has come
	ProcessReady                          // it has described itself and is healthy
	ProcessUnhealthy                      // it missed its health checks
	ProcessTainted                        // it did not let go of a task
	ProcessIdle                           // a draining process holds no task any more
	ProcessExited                         // it has ended, or could not be started; Reason says why
	Drain                                 // for good too, but tasks may finish: another generation has taken over
	Used                                  // the handler has a task, after it had none
	Unused                                // the handler has no task any more
	ProcessWorn                           // it has done enough; it is to be replaced without a gap
)

// Event is something that happened. Process is the number that StartProcess gave it.
type Event struct {
	Kind    EventKind
	Process int64
	// Reason of ProcessExited.
	Reason Reason
	// Jitter in [0,1) spreads the delay of a restart; of ProcessExited and ProcessUnhealthy.
	Jitter float64
}

// ActionKind names what is to be done.
type ActionKind int

// The actions.
const (
	StartProcess ActionKind = iota + 1 // start process number Process
	DrainProcess                       // give it no more tasks, and report ProcessIdle when it holds none
	StopProcess                        // end it: ask, then signal, then kill
	KillProcess                        // end it at once
	SetTimer                           // send Timer at time At; replaces the timer before; zero At means none
)

// Action is something to do. Actions are carried out in order.
type Action struct {
	Kind    ActionKind
	Process int64
	At      time.Time
}
