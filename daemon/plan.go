package daemon

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// plan is what a daemon serves: which handlers run, and which agents they are. Whatever cannot be served is a reason
// and nothing more.
type plan struct {
	handlers []supervisor.HandlerConfig
	agents   []assignment
	// describe are the handlers without a card of their own: the cards that they return count.
	describe []string
	reasons  []string
}

// assignment gives an agent to a handler.
type assignment struct {
	card    card.Card
	handler string
	keyFile string
}

// makePlan decides. A card in the configuration comes first, then the card beside the handler, then what the handler
// says of itself. Two handlers with one agent name: the first in this order wins.
func makePlan(c config.Config, found []catalog.Found, load func(path string) (card.Card, error)) plan {
	var p plan
	cardBeside := map[string]string{}
	p.handlers = handlersOf(c, found, cardBeside, &p)
	names := make([]string, len(p.handlers))
	for i, h := range p.handlers {
		names[i] = h.Name
	}

	hasCard := map[string]bool{}
	claimed := map[string]string{}
	assign := func(a assignment, from string) {
		hasCard[a.handler] = true
		if other, ok := claimed[a.card.AgentName]; ok {
			p.reasons = append(p.reasons, alreadyServed(a.card.AgentName, from, other))
			return
		}
		claimed[a.card.AgentName] = a.handler
		p.agents = append(p.agents, a)
	}
	for i, a := range c.Agents {
		loaded, err := load(a.Card)
		if err != nil {
			p.reasons = append(p.reasons, fmt.Sprintf("agents[%d] is not served: %s", i, err))
			if slices.Contains(names, a.Handler) {
				hasCard[a.Handler] = true // meant to be served by this card, not by another
			}
			continue
		}
		handler, why := handlerFor(a, loaded, p.handlers)
		if why != "" {
			p.reasons = append(p.reasons, fmt.Sprintf("agent %s is not served: %s", loaded.AgentName, why))
			continue
		}
		if a.Concurrency != 0 {
			loaded.Concurrency = a.Concurrency
		}
		assign(assignment{loaded, handler, a.KeyFile}, "card "+a.Card)
	}
	for _, name := range names {
		path := cardBeside[name]
		if hasCard[name] {
			continue
		}
		if path == "" {
			p.describe = append(p.describe, name)
			continue
		}
		loaded, err := load(path)
		if err != nil {
			p.reasons = append(p.reasons, fmt.Sprintf("handler %s serves no agent: %s", name, err))
			continue
		}
		assign(assignment{card: loaded, handler: name}, "handler "+name)
	}
	return p
}

func alreadyServed(agent, from, other string) string {
	return fmt.Sprintf("%s does not serve agent %s, because handler %s does already: give it a card with another agentName", from, agent, other)
}

// handlersOf merges the handlers of the configuration with those that were found.
func handlersOf(c config.Config, found []catalog.Found, cardBeside map[string]string, p *plan) []supervisor.HandlerConfig {
	byName := map[string]catalog.Found{}
	for _, f := range found {
		byName[f.Name] = f
	}
	var out []supervisor.HandlerConfig
	configured := map[string]bool{}
	for _, h := range c.Handlers {
		configured[h.Name] = true
		hc := supervisor.HandlerConfig{Name: h.Name, Path: h.Path, Args: h.Args, Dir: h.Dir, Instances: h.Instances, SHA256: strings.ToLower(h.SHA256)}
		f, ok := byName[h.Name]
		if hc.Path == "" {
			if !ok {
				p.reasons = append(p.reasons, fmt.Sprintf("handler %s is not started: it has no path, and no plugins directory holds a program of that name", h.Name))
				continue
			}
			hc.Path = f.Path
		}
		if ok && f.Path == hc.Path {
			cardBeside[h.Name] = f.CardPath
		}
		out = append(out, hc)
	}
	for _, f := range found {
		if configured[f.Name] {
			continue
		}
		if !c.Plugins.Autoload {
			continue
		}
		out = append(out, supervisor.HandlerConfig{Name: f.Name, Path: f.Path, Instances: 1})
		cardBeside[f.Name] = f.CardPath
	}
	return out
}

// handlerFor finds the handler of a card: the one that the configuration names, else the one that runtime.handler
// names, by its file name or its path.
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
