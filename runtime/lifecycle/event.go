package lifecycle

import (
	"time"

	"github.com/blocksd/blocksd/dispatch"
)

// Event is something that happened to an agent.
type Event interface{ event() }

// The events.
type (
	// Handler says how able the handler is to take tasks.
	Handler struct{ Availability dispatch.Availability }
	// Journal says why the journal takes no tasks; a nil Err means that it does.
	Journal struct{ Err error }
	// Unreachable says that something failed which the connection needs. It will be tried again.
	Unreachable struct {
		Cause Cause
		Err   error
		// Unknown: the network does not know us, so it may be elsewhere by now.
		Unknown bool
	}
	// Granted says that the network has let the agent in.
	Granted struct{}
	// Subscribed says that the subscription to the control channel stands.
	Subscribed struct{}
	// Acknowledged says that the network has acknowledged the agent's presence.
	Acknowledged struct{}
	// Silence says that the network has not answered to the agent's presence for so long that it may take the agent for lost;
	// a nil Err means that it answers again.
	Silence struct {
		For time.Duration
		Err error
	}
	// Away says that the agent has left the control channel.
	Away struct{}
	// Drain begins the end: the agent is full from now on. It takes what is sent until the network has known that for the time
	// Open, but nothing that is sent after the time Within.
	Drain struct{ Open, Within time.Duration }
	// KnownFull says that the network has acknowledged that the agent is full.
	KnownFull struct{}
	// CancelNow says that every task is asked to end at once.
	CancelNow struct{}
	// Idle says that a draining agent has nothing in flight any more.
	Idle struct{}
	// Refused says that the network refused the authentication for good.
	Refused struct{ Err error }
	// Stopped is the last event.
	Stopped struct{}
)

func (Handler) event()      {}
func (Journal) event()      {}
func (Unreachable) event()  {}
func (Granted) event()      {}
func (Subscribed) event()   {}
func (Acknowledged) event() {}
func (Silence) event()      {}
func (Away) event()         {}
func (Drain) event()        {}
func (KnownFull) event()    {}
func (CancelNow) event()    {}
func (Idle) event()         {}
func (Refused) event()      {}
func (Stopped) event()      {}

// Cause says what it is that failed.
type Cause int

// The causes.
const (
	NoConnect Cause = iota // the network could not be asked to let us in
	Lost                   // the subscription failed
	Denied                 // the subscription was denied
	NoToken                // it was denied, and there is no new token
	Unusable               // the network's messaging is one that we cannot use
	causes
)

var causeTexts = [causes]string{
	NoConnect: "Could not %v; trying again.",
	Lost:      "The connection to the network is lost: %v; trying again.",
	Denied:    "The network denied the subscription: %v; connecting again for a new token.",
	NoToken:   "The network denied the subscription, and there is no new token: %v; trying again.",
	Unusable:  "The agent cannot use the network's messaging: %v.",
}

// Action is something that the caller of Step must do, in the order given. None of them waits.
type Action interface{ action() }

// Level says how much a change concerns an operator.
type Level int

// The levels.
const (
	Detail Level = iota
	Info
	Warning
	Error
)

func (l Level) String() string { return [...]string{"detail", "info", "warning", "error"}[l] }

// The actions.
type (
	// EmitState says that the agent has another state, or another reason for it.
	EmitState struct {
		State, Reason string
		Level         Level
	}
	// AnnounceSlots announces in the network how many slots are taken, because Full may have changed.
	AnnounceSlots struct{}
	// ResendPresence announces it again.
	ResendPresence struct{}
	// MarkUncertain notes that the network may take us for lost, and may end the tasks in flight by itself.
	MarkUncertain struct{}
	// LookElsewhere says that the network may have moved.
	LookElsewhere struct{}
	// GiveUp says that the agent has to end.
	GiveUp struct{}
)

func (EmitState) action()      {}
func (AnnounceSlots) action()  {}
func (ResendPresence) action() {}
func (MarkUncertain) action()  {}
func (LookElsewhere) action()  {}
func (GiveUp) action()         {}
