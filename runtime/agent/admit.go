package agent

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/admission"
)

// admit does what is decided about a StartTask. broken is not nil when it cannot be run whatever the agent's state.
func (a *Agent) admit(s *session, o order, broken *wire.StartTaskError) {
	v, number, clockOffset := a.decide(o, broken)
	if v.Action == admission.Accept {
		a.newJob(s, acceptance{o, number, a.cfg.Now()}, clockOffset).begin()
		return
	}
	a.logVerdict(o, v)
	switch v.Action {
	case admission.Repeat:
		a.answer(s, o, v.Terminal, nil)
	case admission.Refuse:
		a.refuse(s, o, v.Terminal)
	}
}

// decide decides about a StartTask. One that is accepted holds its slot from now on.
func (a *Agent) decide(o order, broken *wire.StartTaskError) (v admission.Verdict, number int64, clockOffset time.Duration) {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.checkJournalLocked()
	r := admission.Request{
		Broadcast: o.broadcast, Broken: broken, Version: o.start.Version,
		Leaving: a.life.Leaving(), Closed: a.life.Closed(a.sentLocked(o.received, now)), Running: a.tasks.running, Concurrency: a.cfg.Card.Concurrency,
	}
	r.Known, r.Outcome = a.tasks.knownLocked(o.start.Task.ID, now)
	v = admission.Decide(r)
	if v.Action == admission.Accept && a.cfg.Slots != nil && !a.cfg.Slots.TryAcquire() {
		r.DaemonFull = true
		v = admission.Decide(r)
	}
	if v.Action == admission.Accept {
		a.tasks.running++
		a.tasks.accepted++
		a.counts.Accepted++
		a.announceSlotsLocked()
	}
	return v, a.tasks.accepted, a.conn.clockOffset
}

// logVerdict says why a task is not taken.
func (a *Agent) logVerdict(o order, v admission.Verdict) {
	log := a.log.With("task", wire.CutText(o.start.Task.ID, maxLoggedID))
	switch {
	case v.Action == admission.Repeat:
		log.Info("StartTask of a task that is over: its outcome is published again if the network lacks it", "state", v.Terminal.State)
	case v.Reason != "":
		log.Warn("StartTask refused", "reason", v.Reason, "err", v.Why, "broadcast", o.broadcast)
	case v.Action == admission.Leave:
		log.Info("StartTask left alone", "why", v.Why)
	default:
		log.Warn("StartTask ignored", "why", v.Why)
	}
}
