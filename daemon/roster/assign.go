package roster

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
)

// assign gives the agents of the cards in files to the handlers.
func (p *planner) assign() {
	hasCard := map[string]bool{}
	claimed := map[string]string{}
	limits := capacities(p.Handlers)
	assign := func(a Assignment, from string) {
		hasCard[a.Handler] = true
		if other, ok := claimed[a.Card.AgentName]; ok {
			p.reason(Reason{Code: AgentTaken, Object: from, Other: other, Detail: a.Card.AgentName})
			return
		}
		claimed[a.Card.AgentName] = a.Handler
		p.Agents = append(p.Agents, limits.apply(a))
	}
	for i, a := range p.config.Agents {
		loaded, err := p.loadCard(a.Card)
		if err != nil {
			p.reason(Reason{Code: CardUnusable, Object: fmt.Sprintf("agents[%d]", i), Detail: err.Error()})
			hasCard[a.Handler] = true // meant to be served by this card, not by another
			continue
		}
		handler, why := handlerFor(a, loaded, p.Handlers)
		if why != "" {
			p.reason(Reason{Code: AgentUnassigned, Object: loaded.AgentName, Detail: why})
			continue
		}
		if a.Concurrency != 0 {
			loaded.Concurrency = a.Concurrency
		}
		assign(Assignment{loaded, handler, a.KeyFile}, "card "+a.Card)
	}
	var beside []Assignment
	for _, h := range p.Handlers {
		path := p.cardBeside[h.Name]
		switch {
		case hasCard[h.Name]:
		case path == "":
			p.Describe = append(p.Describe, h.Name)
		default:
			loaded, err := p.loadCard(path)
			if err != nil {
				p.reason(Reason{Code: NoAgent, Object: h.Name, Detail: err.Error()})
				continue
			}
			beside = append(beside, Assignment{Card: loaded, Handler: h.Name})
		}
	}
	// The handler that is named like the agent comes first, as in elect.
	slices.SortStableFunc(beside, func(a, b Assignment) int {
		return cmp.Compare(namedLikeAgent(a), namedLikeAgent(b))
	})
	for _, a := range beside {
		assign(a, "handler "+a.Handler)
	}
}

// namedLikeAgent is 0 for a handler with the name of its agent, else 1.
func namedLikeAgent(a Assignment) int {
	if a.Handler == a.Card.AgentName {
		return 0
	}
	return 1
}

// loadCard returns a card. One that has become unusable is kept as it was.
func (p *planner) loadCard(path string) (card.Card, error) {
	f, ok := p.survey.Cards[path]
	if !ok {
		f.Err = fmt.Errorf("agent card %s has not been read", path)
	}
	if f.Err != nil {
		old, ok := p.before.cards[path]
		if !ok {
			return card.Card{}, f.Err
		}
		p.reason(Reason{Code: CardKept, Object: old.AgentName, Detail: f.Err.Error()})
		f.Card = old
	}
	p.cards[path] = f.Card
	return f.Card, nil
}

// limits is how many tasks each handler takes at once; one that takes any number is not in it.
type limits map[string]int

func capacities(handlers []supervisor.HandlerConfig) limits {
	out := limits{}
	for _, h := range handlers {
		n := h.Concurrency
		if all := h.ProcessConcurrency * max(h.Instances, 1); all > 0 && (n == 0 || all < n) {
			n = all
		}
		if n > 0 {
			out[h.Name] = n
		}
	}
	return out
}

// apply lowers the concurrency that is announced, so that the network does not send what would only wait.
func (l limits) apply(a Assignment) Assignment {
	if n, ok := l[a.Handler]; ok {
		a.Card.Concurrency = min(a.Card.Concurrency, n)
	}
	return a
}

// handlerFor finds the handler of a card: the one that the configuration names, else the one that runtime.handler
// names, by its path or its file name.
func handlerFor(a config.Agent, c card.Card, handlers []supervisor.HandlerConfig) (name, why string) {
	if a.Handler != "" {
		if slices.ContainsFunc(handlers, func(h supervisor.HandlerConfig) bool { return h.Name == a.Handler }) {
			return a.Handler, ""
		}
		return "", fmt.Sprintf("there is no handler %q", a.Handler)
	}
	path := filepath.Join(filepath.Dir(a.Card), c.Handler)
	for _, h := range handlers {
		if h.Path == path {
			return h.Name, ""
		}
	}
	for _, h := range handlers {
		if h.Name == filepath.Base(c.Handler) {
			return h.Name, ""
		}
	}
	return "", fmt.Sprintf("its runtime.handler %q names no handler: name one with the key handler of this agent", c.Handler)
}
