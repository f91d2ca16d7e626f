package roster

import (
	"cmp"
	"maps"
	"slices"
)

// A handler that describes itself says which agents it is, and is believed as long as nobody else has been that agent: a name
// that another handler had goes to it only if an operator says so, by the name of its file, a card in a file, or a command.

// maxHeld is how many names one handler holds at most beside those that it says it is now, so that one that says something
// else each time cannot make them grow.
const maxHeld = 256

// claims are the agents that handlers describe themselves as, by the agents' names.
func (s State) claims() map[string][]Assignment {
	claims, limits := map[string][]Assignment{}, capacities(s.Plan.Handlers)
	for _, h := range s.Plan.Describe {
		for _, c := range s.Described[h] {
			claims[c.AgentName] = append(claims[c.AgentName], limits.apply(Assignment{Card: c, Handler: h}))
		}
	}
	return claims
}

// elect chooses among handlers that describe themselves as the same agent: the one that is named like the agent, else the
// one that has had the name, else, if nobody has, the first by name. It returns nobody if an operator has to choose, and if a
// handler that comes first has not said yet what it is: so the choice is the same whichever of them is faster.
func (s State) elect(agent string, claims []Assignment) (winner Assignment, ok bool, why Reason) {
	holder, held := s.Holders[agent]
	for _, wanted := range []string{agent, holder} {
		if i := slices.IndexFunc(claims, func(a Assignment) bool { return a.Handler == wanted }); i >= 0 {
			return claims[i], true, Reason{}
		}
	}
	first := slices.MinFunc(claims, func(a, b Assignment) int { return cmp.Compare(a.Handler, b.Handler) })
	for _, h := range slices.Sorted(slices.Values(s.Plan.Describe)) {
		comesFirst := h == agent || h == holder || !held && h < first.Handler
		if _, described := s.Described[h]; comesFirst && !described && !s.GivenUp[h] && !s.Late[h] {
			return Assignment{}, false, Reason{Code: AgentWaits, Object: first.Handler, Other: h, Detail: agent}
		}
	}
	if held {
		return Assignment{}, false, Reason{Code: AgentHeld, Object: first.Handler, Other: holder, Detail: agent}
	}
	return first, true, Reason{}
}

// holders are the names that handlers have now, with those that they had.
func (s State) holders(want map[string]Assignment) map[string]string {
	holders := maps.Clone(s.Holders)
	if holders == nil {
		holders = map[string]string{}
	}
	for name, a := range want {
		holders[name] = a.Handler
	}
	idle := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(holders)) {
		h := holders[name]
		if _, used := want[name]; used {
			continue
		}
		if idle[h]++; idle[h] > maxHeld {
			delete(holders, name)
		}
	}
	return holders
}
