// Package roster decides what a daemon serves: from the settings, the files that were found, what handlers say of
// themselves and what is being served now, which handlers should run and which agents they should be, with the reasons
// for what is not served. It is pure: the daemon reads the files and carries out the decision.
package roster

import (
	"maps"
	"path/filepath"
	"slices"

	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// State is what is known when a decision is taken.
type State struct {
	Plan Plan
	// Described are the cards that handlers have returned; one that has not described itself yet is not in it.
	Described map[string][]card.Card
	// GivenUp are handlers that are not expected to describe themselves any more.
	GivenUp map[string]bool
	// Late are handlers that had the time to describe themselves and have not: nobody waits for them any more.
	Late map[string]bool
	// Holders are the handlers that have had each agent's name.
	Holders map[string]string
	// Serving are the agents that have a slot, by name.
	Serving map[string]Slot
	// Running are the handlers as they were applied last, by name.
	Running map[string]supervisor.HandlerConfig
}

// Slot is an agent that is being served.
type Slot struct {
	Assignment Assignment
	// Leaving: it was asked to leave. Ended: it has left.
	Leaving, Ended bool
}

// Decision is what to do, in the order of its members.
type Decision struct {
	// Forget are agents that have left and whose slot is free again.
	Forget []string
	// Leave are agents that must leave.
	Leave []Departure
	// Start are agents to be served from now on.
	Start []Assignment
	// Handlers are all that should run. A handler ends after its agents.
	Handlers []supervisor.HandlerConfig
	// Retired are handlers that do not run any more.
	Retired []string
	// Undescribed are handlers whose cards are still expected.
	Undescribed []string
	// Holders are the handlers that have each agent's name from now on.
	Holders map[string]string
	Reasons []Reason
}

// Departure is an agent that must leave. Patient: another will take its name, so its tasks may take as long as they do.
type Departure struct {
	Agent   string
	Patient bool
}

// Decide compares what should be served with what is.
func Decide(s State) Decision {
	d := Decision{Reasons: slices.Clone(s.Plan.Reasons)}
	want := d.want(s)
	d.Holders = s.holders(want)
	d.Reasons = append(d.Reasons, contradictions(s)...)
	lingering := map[string]bool{} // handlers of agents that have a slot
	for _, name := range slices.Sorted(maps.Keys(s.Serving)) {
		slot := s.Serving[name]
		a, wanted := want[name]
		keep := wanted && a.equal(slot.Assignment)
		switch {
		case slot.Ended && (slot.Leaving || !keep):
			d.Forget = append(d.Forget, name)
			continue
		case !keep && !slot.Leaving:
			d.Leave = append(d.Leave, Departure{name, wanted})
		}
		lingering[slot.Assignment.Handler] = true
		delete(want, name)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		d.Start = append(d.Start, want[name])
	}
	d.handlers(s, lingering)
	for _, h := range slices.Sorted(slices.Values(s.Plan.Describe)) {
		if _, ok := s.Described[h]; !ok && !s.GivenUp[h] {
			d.Undescribed = append(d.Undescribed, h)
			d.Reasons = append(d.Reasons, Reason{Code: NotDescribed, Object: h})
		}
	}
	return d
}

// want returns the assignments of all agents that should be served: those of the plan, and those that handlers describe.
func (d *Decision) want(s State) map[string]Assignment {
	want := map[string]Assignment{}
	for _, a := range s.Plan.Agents {
		want[a.Card.AgentName] = a
	}
	for _, h := range s.Plan.Describe {
		if cards, described := s.Described[h]; described && len(cards) == 0 {
			d.Reasons = append(d.Reasons, Reason{Code: NoAgent, Object: h, Detail: noCard(h, s.Plan.Handlers)})
		}
	}
	claims := s.claims()
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		winner, taken := want[name]
		if !taken {
			var why Reason
			if winner, taken, why = s.elect(name, claims[name]); !taken {
				d.Reasons = append(d.Reasons, why)
				continue
			}
		}
		want[name] = winner
		for _, a := range claims[name] {
			if a.Handler != winner.Handler {
				d.Reasons = append(d.Reasons, Reason{Code: AgentTaken, Object: "handler " + a.Handler, Other: winner.Handler, Detail: name})
			}
		}
	}
	return want
}

// noCard says how a handler gets a card.
func noCard(name string, handlers []supervisor.HandlerConfig) string {
	beside := name + catalog.CardSuffix
	i := slices.IndexFunc(handlers, func(h supervisor.HandlerConfig) bool { return h.Name == name })
	if i < 0 || filepath.Base(handlers[i].Path) != name { // it has its name from the configuration, so no card belongs beside it
		return "it has no card: name one in the configuration, under agents, or have its Describe return one"
	}
	return "it has no card: blocksd card new " + shell.Word(filepath.Join(filepath.Dir(handlers[i].Path), beside)) + " makes one, or have its Describe return one"
}

// contradictions are cards in files that do not fit what the handler says it is.
func contradictions(s State) []Reason {
	var reasons []Reason
	for _, a := range s.Plan.Agents {
		cards := s.Described[a.Handler]
		if len(cards) == 0 || slices.ContainsFunc(cards, func(c card.Card) bool { return c.AgentName == a.Card.AgentName }) {
			continue
		}
		reasons = append(reasons, Reason{Code: CardContradicted, Object: a.Card.AgentName, Other: a.Handler, Detail: cards[0].AgentName})
	}
	return reasons
}

// handlers are those of the plan and, as they are, those of agents that have not left yet.
func (d *Decision) handlers(s State, lingering map[string]bool) {
	d.Handlers = slices.Clone(s.Plan.Handlers)
	planned := map[string]bool{}
	for _, h := range d.Handlers {
		planned[h.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(s.Running)) {
		switch {
		case planned[name]:
		case lingering[name]:
			d.Handlers = append(d.Handlers, s.Running[name])
		default:
			d.Retired = append(d.Retired, name)
		}
	}
}
