// Package lifecycle decides what an agent is towards the network: whether it is connecting, online, draining, away or
// failed, and why; whether it announces itself as full; and whether it takes tasks. It is pure: no I/O, no clock, no
// goroutines.
package lifecycle

import (
	"fmt"
	"time"

	"github.com/blocksd/blocksd/dispatch"
)

// The states of an agent.
const (
	// Connecting: not reachable for tasks yet, or for the moment; the reason says what is being waited for.
	Connecting = "connecting"
	// Online: announced in the network, which has acknowledged it, and able to take tasks.
	Online = "online"
	// Draining: takes no more tasks; those that run may end.
	Draining = "draining"
	// Offline: stopped, or out of the network's sight because its handler is not available.
	Offline = "offline"
	// Failed: the network refused the authentication for good.
	Failed = "failed"
)

// awareAfter is how long after a reconnect the network is taken to know that the instance is there again.
const awareAfter = time.Second

// Config is what the decisions depend on.
type Config struct {
	// Handler is the name of the agent's handler.
	Handler string
	// Moved is how long nothing may work before the network is taken to be elsewhere.
	Moved time.Duration
}

// phase of the whole agent. It only grows.
type phase int

const (
	serving phase = iota
	draining
	stopped
)

// Machine is the life cycle of one agent. It is not safe for concurrent use.
type Machine struct {
	cfg Config

	phase phase
	// A draining agent refuses what is sent from closesAt on. That is at the latest open after the network has acknowledged that
	// the agent is full.
	closesAt  time.Time
	open      time.Duration
	canceling bool  // every task is asked to end now
	leaving   bool  // nothing is in flight any more, and nothing is taken
	failure   error // of the authentication, for good

	availability dispatch.Availability
	// wasReady: the handler has been available since the start, or since it was last unavailable. Until then the agent stays out
	// of the network, because tasks that wait there would be sent to it at once.
	wasReady  bool
	unhealthy error // why the journal takes no tasks; nil if it does

	// connected: the subscription stands, since connectedAt; announced: the network has acknowledged our presence.
	connected, announced bool
	connectedAt          time.Time
	reason               string // why the agent is not connected
	silence              string // since the network has stopped to answer while it holds the subscription: what that means
	// failingSince is since when nothing has worked that the connection needs; zero while it works.
	failingSince time.Time

	shown [2]string // state and reason that were emitted last
	out   []Action  // of the Step in progress
}

// New returns the machine of an agent that has not reached the network yet.
func New(cfg Config, a dispatch.Availability, unhealthy error) *Machine {
	m := &Machine{cfg: cfg, unhealthy: unhealthy}
	m.handler(a)
	m.shown[0], m.shown[1] = m.State()
	return m
}

// Step takes an event that happened at now and returns what to do, in this order.
func (m *Machine) Step(ev Event, now time.Time) []Action {
	m.out = nil
	level := Detail // of a new reason for the same state
	switch ev := ev.(type) {
	case Handler:
		m.handler(ev.Availability)
	case Journal:
		m.unhealthy = ev.Err
	case Unreachable:
		if ev.Cause == NoConnect {
			level = Warning // why it does not come up
		}
		m.unreachable(ev, now)
	case Granted:
		m.reason, m.failingSince = "", time.Time{}
	case Subscribed:
		if !m.connected {
			m.connected, m.connectedAt, m.reason, m.failingSince = true, now, "", time.Time{}
			m.do(ResendPresence{}) // the network may have forgotten it meanwhile
		}
	case Acknowledged:
		m.announced = true
	case Silence:
		m.silence = ""
		if ev.Err != nil {
			m.silence = fmt.Sprintf("The network has not answered for %v, so it may have taken the agent for lost: %v; trying again.", ev.For, ev.Err)
		}
	case Away:
		m.connected, m.announced, m.silence = false, false, ""
	case Drain:
		m.phase, m.closesAt, m.open = draining, now.Add(ev.Within), ev.Open
		m.do(AnnounceSlots{})
	case KnownFull:
		if closes := now.Add(m.open); m.phase == draining && closes.Before(m.closesAt) {
			m.closesAt = closes
		}
	case CancelNow:
		m.canceling = true
		m.do(AnnounceSlots{})
	case Idle:
		m.leaving = true
	case Refused:
		if m.failure == nil { // the first one stands
			m.failure = ev.Err
			m.do(GiveUp{})
		}
	case Stopped:
		m.phase, m.connected = stopped, false
	}
	m.emit(level)
	return m.out
}

func (m *Machine) do(a Action) { m.out = append(m.out, a) }

func (m *Machine) handler(a dispatch.Availability) {
	m.availability = a
	m.wasReady = a == dispatch.Available || m.wasReady && a == dispatch.Recovering
}

func (m *Machine) unreachable(ev Unreachable, now time.Time) {
	if ev.Cause != Unusable {
		if m.failingSince.IsZero() {
			m.failingSince = now
		}
		if ev.Unknown || now.Sub(m.failingSince) >= m.cfg.Moved {
			m.do(LookElsewhere{})
		}
	}
	m.reason = fmt.Sprintf(causeTexts[ev.Cause], ev.Err)
	if ev.Cause == Lost || ev.Cause == Denied {
		m.connected = false
		m.do(MarkUncertain{})
	}
}

// emit adds the state to what is to be done if it is not what was emitted last.
func (m *Machine) emit(level Level) {
	state, reason := m.State()
	if now := [2]string{state, reason}; now != m.shown {
		switch {
		case state == Failed:
			level = Error
		case state != m.shown[0]:
			level = Info
		}
		m.shown = now
		m.do(EmitState{State: state, Reason: reason, Level: level})
	}
}

// State returns the state and a sentence that explains it, which may be empty.
func (m *Machine) State() (state, reason string) {
	switch {
	case m.failure != nil:
		return Failed, m.failure.Error()
	case m.phase == stopped:
		return Offline, "The agent was stopped."
	case m.phase == draining:
		return Draining, "The agent is stopping: it takes no more tasks and lets those that run end."
	case m.availability == dispatch.Unavailable:
		return Offline, fmt.Sprintf("Handler %s is not available, so the agent stays out of the network; see the state of the handler.", m.cfg.Handler)
	case !m.connected:
		if m.reason == "" && !m.wasReady {
			return Connecting, fmt.Sprintf("No process of handler %s is ready yet, so the agent is not in the network until one is.", m.cfg.Handler)
		}
		if m.reason == "" {
			return Connecting, "The agent has not reached the network yet."
		}
		return Connecting, m.reason
	case m.silence != "":
		return Connecting, m.silence
	case m.availability != dispatch.Available:
		return Connecting, fmt.Sprintf("No process of handler %s is ready, so the agent announces itself as full until one is.", m.cfg.Handler)
	case m.unhealthy != nil:
		return Connecting, fmt.Sprintf("The agent announces itself as full: %v.", m.unhealthy)
	case !m.announced:
		return Connecting, "The network has not acknowledged the agent's presence yet."
	}
	return Online, ""
}

// Full reports whether the agent announces itself as full however many slots are free, so that the network sends nothing.
func (m *Machine) Full() bool {
	return m.availability != dispatch.Available || m.phase != serving || m.canceling || m.failure != nil || m.unhealthy != nil
}

// Closed says why the agent takes no tasks that were sent at a time, empty if it does. A draining agent still takes what the
// network sent before it knew, whenever that comes.
func (m *Machine) Closed(sent time.Time) string {
	switch {
	case m.phase != serving && !sent.Before(m.closesAt), m.canceling, m.failure != nil:
		return "the agent is stopping"
	case m.unhealthy != nil:
		return m.unhealthy.Error()
	}
	return ""
}

// Present reports whether the agent is to be in the network. It comes when its handler is ready, and stays while that one
// recovers. One whose handler is unavailable stays away, unless it is busy: then it stays, as full, until its tasks are over.
func (m *Machine) Present(busy bool) bool { return m.wasReady || busy }

// Aware reports whether the network is taken to know that the agent is there. Until then it may still end a task because
// it had taken the agent for lost.
func (m *Machine) Aware(now time.Time) bool {
	return m.connected && now.Sub(m.connectedAt) >= awareAfter
}

// Unhealthy is what the last Journal event said.
func (m *Machine) Unhealthy() error { return m.unhealthy }

// Leaving reports whether the agent is about to leave the network for good.
func (m *Machine) Leaving() bool { return m.leaving }

// Failure is the final refusal of the authentication, nil if there was none.
func (m *Machine) Failure() error { return m.failure }
