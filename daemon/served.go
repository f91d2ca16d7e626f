package daemon

import (
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/runtime/agent"
)

// served is what the daemon serves, as the reconciler has decided.
type served struct {
	mu    sync.Mutex // guards what follows; slots have a lock of their own, taken inside
	plan  roster.Plan
	slots map[string]*agentSlot // by agent
	// retired are the counts of agents that are not served any more.
	retired agent.Counts
	reasons []roster.Reason
	// decided: there has been a decision.
	decided bool
}

// all returns the agents in order of their names.
func (s *served) all() []*agentSlot {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*agentSlot, 0, len(s.slots))
	for _, name := range slices.Sorted(maps.Keys(s.slots)) {
		all = append(all, s.slots[name])
	}
	return all
}

func (s *served) forRoster() map[string]roster.Slot {
	out := map[string]roster.Slot{}
	for _, slot := range s.all() {
		out[slot.name()] = slot.forRoster()
	}
	return out
}

// allFinal reports whether the network has refused every agent for good.
func (s *served) allFinal() bool {
	all := s.all()
	return len(all) > 0 && !slices.ContainsFunc(all, func(s *agentSlot) bool { return !s.isFinal() })
}

// apply makes the slots those of a decision, and says what is different in it.
func (s *served) apply(d roster.Decision, plan roster.Plan, events *event.Bus) (started, departed []*agentSlot) {
	var forgotten []*agentSlot
	s.mu.Lock()
	for _, name := range d.Forget {
		forgotten = append(forgotten, s.slots[name])
		s.retired = s.retired.Plus(s.slots[name].status().Counts)
		delete(s.slots, name)
	}
	for _, l := range d.Leave {
		slot := s.slots[l.Agent]
		departed = append(departed, slot)
		slot.leave(l.Patient)
	}
	for _, a := range d.Start {
		slot := newAgentSlot(a, events)
		s.slots[a.Card.AgentName] = slot
		started = append(started, slot)
	}
	before, first := s.reasons, !s.decided
	s.plan, s.reasons, s.decided = plan, d.Reasons, true
	s.mu.Unlock()

	for _, s := range started {
		s.emitState()
	}
	for _, s := range forgotten {
		s.emit(agent.StateOffline, "the agent is not served any more")
	}
	for _, r := range d.Reasons {
		if !slices.Contains(before, r) {
			emitReason(events, r, "raised", slog.LevelWarn)
		}
	}
	for _, r := range before {
		if !slices.Contains(d.Reasons, r) {
			emitReason(events, r, "cleared", slog.LevelInfo)
		}
	}
	if first {
		events.Emit(event.Event{Type: event.Notice, State: "decided", Reason: "what is served has been decided", Level: slog.LevelDebug})
	}
	return started, departed
}

func emitReason(events *event.Bus, r roster.Reason, state string, level slog.Level) {
	if r.Code == roster.NotDescribed || r.Code == roster.AgentWaits { // every such handler begins like that
		level = slog.LevelDebug
	}
	events.Emit(event.Event{Type: event.Notice, State: state, Reason: r.Text(), Level: level})
}
