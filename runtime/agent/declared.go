package agent

import (
	"log/slog"
	"slices"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
)

// The inputs and outputs of a task are compared with what the card declares. A difference is for the operator to know and not a
// reason to fail the task: cards are changed while tasks run, and the network checks inputs itself.

// checkParts warns of inputs that the card does not declare, and of required ones that are missing.
func (a *Agent) checkParts(log *slog.Logger, t *wire.Task) {
	declared := a.cfg.Card.Inputs
	if len(declared) == 0 {
		return
	}
	for _, p := range t.Parts {
		if p.PartID != "" && !slices.ContainsFunc(declared, func(in card.Input) bool { return in.ID == p.PartID }) {
			a.warn(log, "undeclared input", "a task has an input that the agent card does not declare", "part", p.PartID)
		}
	}
	for _, in := range declared {
		if in.Required && !slices.ContainsFunc(t.Parts, func(p wire.Part) bool { return p.PartID == in.ID }) {
			a.warn(log, "missing input", "a task lacks an input that the agent card requires", "part", in.ID)
		}
	}
}

// checkOutput warns of an output that the card does not declare.
func (a *Agent) checkOutput(log *slog.Logger, id string) {
	declared := a.cfg.Card.Outputs
	if id == "" || len(declared) == 0 || slices.ContainsFunc(declared, func(o card.Output) bool { return o.ID == id }) {
		return
	}
	a.warn(log, "undeclared output", "the handler gave an output that the agent card does not declare", "output", id)
}

// warn logs a warning, once a minute of each kind.
func (a *Agent) warn(log *slog.Logger, kind, text, key, id string) {
	a.mu.Lock()
	held, ok := a.throttle.allow(kind, a.cfg.Now())
	a.mu.Unlock()
	if ok {
		log.Warn(text, key, wire.CutText(id, maxLoggedID), "more_like_it", held)
	}
}
