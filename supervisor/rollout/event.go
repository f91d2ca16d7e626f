package rollout

import "github.com/blocksd/blocksd/supervisor/unit"

// Program is what a generation runs.
type Program struct {
	// ID is the same for the same content in the same configuration, and for nothing else.
	ID int64
	// Content is the checksum of what is executed. A generation of another content has another number.
	Content   string
	Policy    unit.Policy
	Instances int
}

// EventKind names what happened.
type EventKind int

// The events.
const (
	Start   EventKind = iota + 1 // run the handler
	Stop                         // end all of it for good, its tasks too
	Remove                       // let the tasks finish, then end for good; a Deploy takes it back
	Deploy                       // Program is what is to run from now on
	Restart                      // replace the processes, or try at once if there are none
	Used                         // the handler has a task, after it had none
	Unused                       // the handler has no task any more
	OfUnit                       // Unit happened to Generation: a timer, or something about one of its processes
)

// Event is something that happened.
type Event struct {
	Kind EventKind
	// Program of Deploy.
	Program Program
	// Generation and Unit of OfUnit.
	Generation int64
	Unit       unit.Event
}

// ActionKind names what is to be done.
type ActionKind int

// The actions.
const (
	// NewGeneration: Generation exists from now on and is to run Program. One of TakeOver, GiveUp and Supersede follows.
	NewGeneration ActionKind = iota + 1
	// TakeOver: Generation takes the tasks from now on; the one before retires.
	TakeOver
	// GiveUp: Generation has failed and retires; the current one stays.
	GiveUp
	// Supersede: Generation retires before it has taken over, because of what was asked for meanwhile.
	Supersede
	// Quarantine: Generation is the current one, and has failed too often.
	Quarantine
	// ForUnit: Unit is to be done for Generation.
	ForUnit
	// Forget: Generation is retired and has no process any more. No action names it again.
	Forget
)

// Action is something to do. Actions are carried out in order.
type Action struct {
	Kind       ActionKind
	Generation int64
	// Program of NewGeneration.
	Program Program
	// Unit of ForUnit.
	Unit unit.Action
}

// Outcome says what has become of the start of a generation.
type Outcome int

// The outcomes.
const (
	Pending    Outcome = iota + 1 // it may still get ready
	Runs                          // it takes the tasks
	Failed                        // it has failed, and is tried again
	GivenUp                       // it has failed, and the one before stays
	Superseded                    // something else was asked for meanwhile
	Ending                        // the handler is being stopped or removed
)
