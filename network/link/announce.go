package link

import (
	"fmt"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
)

// This file decides when a presence sends what. It is pure: the shell in presence.go sends what it is asked to and reports
// what came of it.
//
// One request at a time: a heartbeat when it is due, else the newest state if the network has not acknowledged it. A
// heartbeat carries the state, but only the answer to a request that sets it says that it was taken.

// announceEvent is what happened.
type announceEvent interface{ announceEvent() }

type (
	// began is the first event.
	began struct{}
	// wanted: there is a state to announce, and this is the number of its newest version, from 1 on.
	wanted struct{ version uint64 }
	// slept: the time of a sleep action is over.
	slept struct{}
	// taken: the network has answered a heartbeat (version 0), or has taken this version of the state.
	taken struct{ version uint64 }
	// missed: there was no answer, or none that is good.
	missed struct{ err error }
	// leaving: nothing more is to be sent.
	leaving struct{}
)

func (began) announceEvent()   {}
func (wanted) announceEvent()  {}
func (slept) announceEvent()   {}
func (taken) announceEvent()   {}
func (missed) announceEvent()  {}
func (leaving) announceEvent() {}

// announceAction is what to do. Exactly one of sendHeartbeat, sendState, sleep and stop is the last of each step.
type announceAction interface{ announceAction() }

type (
	// sendHeartbeat sends a heartbeat with the newest state, sendState that state alone.
	sendHeartbeat struct{}
	sendState     struct{}
	// sleep waits for the time, or for whatever happens before.
	sleep struct{ until time.Time }
	// stop ends it.
	stop struct{}
	// confirm says that the network has taken a state for the first time.
	confirm struct{}
	// complain says that a request failed, and how many have in a row.
	complain struct {
		failures int
		err      error
	}
)

func (sendHeartbeat) announceAction() {}
func (sendState) announceAction()     {}
func (sleep) announceAction()         {}
func (stop) announceAction()          {}
func (confirm) announceAction()       {}
func (complain) announceAction()      {}

type announceMachine struct {
	interval, gap time.Duration // between heartbeats; the least between a request and the state after it
	backoff       retry.Backoff

	version, sent uint64    // of the state: the newest, and the newest that the network has taken
	beat          time.Time // when the next heartbeat is due
	next          time.Time // before this no state is sent
	failures      int       // in a row
	left          bool

	// sentAt is of the request under way, which is a heartbeat or not.
	sentAt    time.Time
	heartbeat bool
}

// Step decides what follows e.
func (m *announceMachine) Step(e announceEvent, now time.Time) []announceAction {
	var out []announceAction
	switch e := e.(type) {
	case began:
		m.beat = now.Add(m.interval)
	case wanted:
		m.version = max(m.version, e.version)
	case slept:
	case taken:
		m.failures, m.next = 0, m.sentAt.Add(m.gap)
		if m.heartbeat {
			m.beat = m.sentAt.Add(m.interval)
			break
		}
		if m.sent == 0 {
			out = append(out, confirm{})
		}
		m.sent = e.version
		m.version = max(m.version, e.version)
	case missed:
		m.failures++
		m.next = now.Add(m.backoff.Delay(m.failures))
		if m.heartbeat {
			m.beat = m.next
		}
		out = append(out, complain{m.failures, e.err})
	case leaving:
		m.left = true
	default:
		panic(fmt.Sprintf("unknown event %T", e))
	}
	return append(out, m.decide(now))
}

func (m *announceMachine) decide(now time.Time) announceAction {
	due := m.beat
	if m.version != m.sent && m.next.Before(due) {
		due = m.next
	}
	switch {
	case m.left:
		return stop{}
	case due.After(now):
		return sleep{due}
	}
	m.sentAt, m.heartbeat = now, !now.Before(m.beat)
	if m.heartbeat {
		return sendHeartbeat{}
	}
	return sendState{}
}
