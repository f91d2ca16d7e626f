package agent

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/lifecycle"
)

// The state of the agent as a whole, and what follows when it changes.

func (a *Agent) name() string { return a.cfg.Card.AgentName }

// originURL is where PubNub is, for a program that is no part of the daemon.
func (a *Agent) originURL() string {
	if a.cfg.Secure {
		return "https://" + a.cfg.Origin
	}
	return "http://" + a.cfg.Origin
}

// step gives the life cycle an event and does what it answers.
func (a *Agent) step(ev lifecycle.Event) {
	a.mu.Lock()
	moved := a.stepLocked(ev)
	a.mu.Unlock()
	if moved && a.cfg.OnMoved != nil {
		a.cfg.OnMoved()
	}
}

// stepLocked does what needs the lock, and reports whether the network may have moved.
func (a *Agent) stepLocked(ev lifecycle.Event) (moved bool) {
	for _, action := range a.life.Step(ev, a.cfg.Now()) {
		switch act := action.(type) {
		case lifecycle.EmitState:
			a.emitState(act)
		case lifecycle.AnnounceSlots:
			a.announceSlotsLocked()
		case lifecycle.ResendPresence:
			if a.conn.presence != nil {
				a.conn.presence.Resync()
			}
		case lifecycle.MarkUncertain:
			for _, j := range a.tasks.jobs {
				j.uncertain.raise()
			}
		case lifecycle.LookElsewhere:
			moved = true
		case lifecycle.GiveUp:
			close(a.fatal)
		}
	}
	return moved
}

// fail records that the authentication is final. The first reason stands.
func (a *Agent) fail(err error) {
	// err says what to do
	a.step(lifecycle.Refused{Err: fmt.Errorf("agent %s cannot go on: %w: %w, then restart", a.name(), ErrFinal, err)})
}

// health says why the journal takes no tasks, nil if it does; the channel closes when that changes, and is nil when it
// never does.
func (a *Agent) health() (changed <-chan struct{}, why error) {
	if a.journal == nil {
		return nil, nil
	}
	return a.cfg.Journal.Health()
}

// checkJournalLocked gives the life cycle what the journal says now.
func (a *Agent) checkJournalLocked() {
	if _, why := a.health(); why != a.life.Unhealthy() {
		a.stepLocked(lifecycle.Journal{Err: why})
	}
}

// unreachable notes that something failed without which the agent is not connected.
func (a *Agent) unreachable(cause lifecycle.Cause, err error) {
	s := status(err) // of PubNub, which answers like this to keys that it does not know
	a.step(lifecycle.Unreachable{Cause: cause, Err: err, Unknown: s == http.StatusBadRequest || s == http.StatusNotFound})
}

// announceSlotsLocked announces how many slots are taken. It does not wait; holding the lock keeps the order, so that the
// latest number is the last one sent.
func (a *Agent) announceSlotsLocked() {
	if a.conn.presence == nil {
		return
	}
	concurrency := a.cfg.Card.Concurrency
	active := a.tasks.running
	var taken func()
	if a.life.Full() {
		active = concurrency // the network must send nothing now
		taken = func() { a.step(lifecycle.KnownFull{}) }
	}
	announced := wire.NewPresenceState(a.cfg.InstanceID, active, concurrency, a.startedAt)
	for _, s := range a.conn.sessions {
		announced.ActiveStreams += int(s.streams.active.Load())
	}
	a.conn.presence.SetLater(func() []byte {
		state, _ := json.Marshal(announced) // numbers and texts, so it cannot fail
		return state
	}, taken)
}

// wake makes runPresence look again. It never blocks.
func (a *Agent) wake() {
	select {
	case a.wakeup <- struct{}{}:
	default:
	}
}
