// Package admission decides what becomes of a StartTask: whether an agent takes the task, answers it, or leaves it alone.
// It is pure: no I/O, no clock, no goroutines.
package admission

import (
	"fmt"

	"github.com/blocksd/blocksd/network/wire"
)

// Known is what an agent already knows about a task.
type Known int

// What may be known.
const (
	Unknown    Known = iota // never seen, or long ago
	InFlight                // accepted and not over
	Recovering              // lost by a restart; its outcome is on its way to the network
	Over                    // has an outcome
)

// Request is all that a decision depends on.
type Request struct {
	// Broadcast: every instance of the agent was sent the message, so another one may take the task.
	Broadcast bool
	// Broken says why the task cannot be run whatever the state of the agent; nil if it can. Version is what the message
	// says of its protocol version.
	Broken  *wire.StartTaskError
	Version string

	Known Known
	// Outcome of a task that is over.
	Outcome wire.Terminal

	// Leaving: the agent is about to leave the network, and what it took now it would not end.
	Leaving bool
	// Closed says why the agent takes no tasks at all; empty if it does.
	Closed string
	// Running tasks hold a slot of Concurrency.
	Running, Concurrency int
	// DaemonFull: all slots that the agents of the daemon share are taken. Whoever has to take one to know it asks for a
	// decision first, and for another one if there is none.
	DaemonFull bool
}

// Action is what to do with a StartTask.
type Action int

// The actions.
const (
	// Accept takes the task; it holds a slot from now on.
	Accept Action = iota + 1
	// Ignore does nothing: the task is being dealt with.
	Ignore
	// Repeat publishes Verdict.Terminal, the outcome of before, where the network lacks it.
	Repeat
	// Refuse publishes Verdict.Terminal, which is the task's outcome from now on.
	Refuse
	// Leave does nothing, so that the network gives the task to another instance.
	Leave
)

var actionNames = [...]string{Accept: "accept", Ignore: "ignore", Repeat: "repeat", Refuse: "refuse", Leave: "leave"}

func (a Action) String() string {
	if a < Accept || int(a) >= len(actionNames) {
		return "unknown"
	}
	return actionNames[a]
}

// Verdict is a decision.
type Verdict struct {
	Action   Action
	Terminal wire.Terminal // of Repeat and Refuse
	// Reason is the word of the protocol for what stands in the way; empty where nothing of it does.
	Reason string
	// Why is for the log; empty with Accept and Repeat.
	Why string
}

// maxVersion bounds the foreign version text that an answer repeats.
const maxVersion = 64

// Decide decides about a StartTask.
//
// Duplicates come first, even of a broken message: a second message about a task that is running or has its outcome must
// never lead to a second, different outcome.
func Decide(r Request) Verdict {
	switch r.Known {
	case InFlight:
		return Verdict{Action: Ignore, Why: "the task is running already"}
	case Recovering:
		return Verdict{Action: Ignore, Why: "the task was lost by a restart, and its outcome is on its way"}
	case Over:
		return Verdict{Action: Repeat, Terminal: r.Outcome}
	}
	if r.Leaving {
		return Verdict{Action: Leave, Why: "this instance is leaving; the network gives the task to another one"}
	}
	if r.Broken != nil {
		return decideBroken(r)
	}
	why := r.full()
	if why == "" {
		return Verdict{Action: Accept}
	}
	v := Verdict{Action: Leave, Reason: wire.ReasonAtCapacity, Why: why}
	if !r.Broadcast {
		v.Action, v.Terminal = Refuse, wire.Terminal{State: wire.Failed, Error: v.Reason}
	}
	return v
}

// decideBroken answers a message that no instance can run even if it is a broadcast; a version that this instance does
// not speak another one may.
func decideBroken(r Request) Verdict {
	v := Verdict{Action: Refuse, Reason: r.Broken.Reason, Why: r.Broken.Detail}
	if r.Broadcast && v.Reason != wire.ReasonInvalidStartTask {
		v.Action = Leave
		return v
	}
	v.Terminal = wire.Terminal{State: wire.Failed, Error: v.Reason}
	if v.Reason == wire.ReasonUnsupportedVersion {
		v.Terminal.Version = wire.CutText(r.Version, maxVersion)
	}
	return v
}

// full says why there is no slot for the task, empty if there is one.
//
// An agent that is closed answers as if it were full: consumers know that word as "not begun here, safe to send again",
// which a sentence of our own would not say to a program.
func (r Request) full() string {
	switch {
	case r.Closed != "":
		return r.Closed
	case r.Running >= r.Concurrency:
		return fmt.Sprintf("all %d slots of the agent are taken", r.Concurrency)
	case r.DaemonFull:
		return "all slots of the daemon are taken"
	}
	return ""
}
