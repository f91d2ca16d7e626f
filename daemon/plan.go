package daemon

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// plan is what a daemon serves: which handlers run, and which agents they are. Whatever cannot be served is a reason
// and nothing more.
type plan struct {
	handlers []supervisor.HandlerConfig
	agents   []assignment
	// describe are the handlers without a card of their own: the cards that they return count.
	describe []string
	reasons  []string

	// origin is the directory that each handler was found in, by name; those of the configuration are not in it.
	origin map[string]string
	// cards are the cards that were read, by path, and contents the checksums of the files of handlers, by name.
	cards    map[string]card.Card
	contents map[string]string
}

// assignment gives an agent to a handler.
type assignment struct {
	card    card.Card
	handler string
	keyFile string
}

func (a assignment) equal(b assignment) bool {
	return a.handler == b.handler && a.keyFile == b.keyFile && a.card.AgentName == b.card.AgentName &&
		a.card.Concurrency == b.card.Concurrency && string(a.card.Raw) == string(b.card.Raw)
}

// inventory is what a plan is made of.
type inventory struct {
	found   []catalog.Found
	skipped []catalog.Skip
	pins    catalog.Pins
	// accept takes a program into the store and says what is executed; nil runs all programs in place.
	accept func(name, file, sum string) (run, runSum string, err error)
	// hash returns the checksum of a file; "" if it cannot be read.
	hash func(path string) string
	load func(path string) (card.Card, error)
	// before is the plan that is in effect: what is unusable now but was not then goes on as it was.
	before plan
}

// makePlan decides. A card in the configuration comes first, then the card beside the handler, then what the handler
// says of itself. Two handlers with one agent name: the first in this order wins.
func makePlan(c config.Config, in inventory) plan {
	p := planner{
		config: c, in: in, cardBeside: map[string]string{},
		plan: plan{origin: map[string]string{}, cards: map[string]card.Card{}, contents: map[string]string{}},
	}
	p.findHandlers()
	for _, s := range in.skipped {
		p.reasons = append(p.reasons, s.Reason)
	}
	p.assign()
	return p.plan
}

type planner struct {
	plan
	config     config.Config
	in         inventory
	cardBeside map[string]string
}

func (p *planner) reason(format string, args ...any) {
	p.reasons = append(p.reasons, fmt.Sprintf(format, args...))
}

func (p *planner) assign() {
	c := p.config
	names := make([]string, len(p.handlers))
	limit := map[string]int{}
	for i, h := range p.handlers {
		names[i] = h.Name
		limit[h.Name] = capacity(h)
	}
	hasCard := map[string]bool{}
	claimed := map[string]string{}
	assign := func(a assignment, from string) {
		hasCard[a.handler] = true
		if other, ok := claimed[a.card.AgentName]; ok {
			p.reasons = append(p.reasons, alreadyServed(a.card.AgentName, from, other))
			return
		}
		if n := limit[a.handler]; n > 0 { // the network must not send what would only wait
			a.card.Concurrency = min(a.card.Concurrency, n)
		}
		claimed[a.card.AgentName] = a.handler
		p.agents = append(p.agents, a)
	}
	for i, a := range c.Agents {
		loaded, err := p.loadCard(a.Card)
		if err != nil {
			p.reason("agents[%d] is not served: %s", i, err)
			if slices.Contains(names, a.Handler) {
				hasCard[a.Handler] = true // meant to be served by this card, not by another
			}
			continue
		}
		handler, why := handlerFor(a, loaded, p.handlers)
		if why != "" {
			p.reason("agent %s is not served: %s", loaded.AgentName, why)
			continue
		}
		if a.Concurrency != 0 {
			loaded.Concurrency = a.Concurrency
		}
		assign(assignment{loaded, handler, a.KeyFile}, "card "+a.Card)
	}
	for _, name := range names {
		path := p.cardBeside[name]
		if hasCard[name] {
			continue
		}
		if path == "" {
			p.describe = append(p.describe, name)
			continue
		}
		loaded, err := p.loadCard(path)
		if err != nil {
			p.reason("handler %s serves no agent: %s", name, err)
			continue
		}
		assign(assignment{card: loaded, handler: name}, "handler "+name)
	}
}

// loadCard reads a card. One that has become unusable is kept as it was.
func (p *planner) loadCard(path string) (card.Card, error) {
	loaded, err := p.in.load(path)
	if err != nil {
		old, ok := p.in.before.cards[path]
		if !ok {
			return card.Card{}, err
		}
		p.reason("agent %s goes on with its earlier card: %s", old.AgentName, err)
		loaded = old
	}
	p.cards[path] = loaded
	return loaded, nil
}

// capacity is how many tasks a handler takes at once, 0 for any number.
func capacity(h supervisor.HandlerConfig) int {
	n := h.Concurrency
	if all := h.ProcessConcurrency * max(h.Instances, 1); all > 0 && (n == 0 || all < n) {
		n = all
	}
	return n
}

func alreadyServed(agent, from, other string) string {
	return fmt.Sprintf("%s does not serve agent %s, because handler %s does already: give it a card with another agentName", from, agent, other)
}

// findHandlers merges the handlers of the configuration with those that were found.
func (p *planner) findHandlers() {
	byName := map[string]catalog.Found{}
	for _, f := range p.in.found {
		byName[f.Name] = f
	}
	configured := map[string]bool{}
	for _, h := range p.config.Handlers {
		configured[h.Name] = true
		f, ok := byName[h.Name]
		switch {
		case h.Path == "" && ok:
			p.add(h, f)
		case h.Path != "":
			if ok && f.Path == h.Path {
				p.cardBeside[h.Name] = f.CardPath
			}
			// In place: what lies beside it may matter.
			p.add(h, catalog.Found{Name: h.Name, Path: h.Path, SHA256: p.in.hash(h.Path)})
		case !p.keep(h.Name):
			p.reason("handler %s is not started: it has no path, and no plugins directory holds a program of that name", h.Name)
		}
	}
	for _, f := range p.in.found {
		if !configured[f.Name] && p.config.Plugins.Autoload {
			p.add(config.Handler{Name: f.Name}, f)
		}
	}
	// What was found before and cannot be used now, but is not gone either, goes on.
	for _, name := range slices.Sorted(maps.Keys(p.in.before.origin)) {
		if _, ok := byName[name]; !ok && !configured[name] && p.config.Plugins.Autoload {
			p.keep(name)
		}
	}
}

// add plans a handler, if it may run.
func (p *planner) add(h config.Handler, f catalog.Found) {
	hc := supervisor.HandlerConfig{
		Name: h.Name, Path: f.Path, Args: h.Args, Dir: h.Dir, Instances: max(h.Instances, 1), Content: f.SHA256, SHA256: strings.ToLower(h.SHA256),
		Restart:     unit.Policy{MaxRestarts: h.MaxRestarts, Window: h.RestartWindow, MaxDelay: h.RestartDelay, IdleTimeout: h.IdleTimeout, RecycleAge: h.RecycleAge},
		Concurrency: h.Concurrency, ProcessConcurrency: h.ProcessConcurrency, RecycleTasks: h.RecycleTasks, Idempotent: h.Idempotent,
	}
	isolate(p.config.Isolation, h, &hc)
	if hc.SHA256 == "" {
		hc.SHA256 = p.in.pins[h.Name]
	}
	if hc.SHA256 == "" && p.config.Plugins.RequireChecksums {
		p.reason("handler %s is not loaded because its checksum is not known and plugins.require_checksums is set: check the file, then blocksd handler pin %s", h.Name, h.Name)
		p.keep(h.Name)
		return
	}
	// A file with the wrong checksum is not even copied; that it is wrong is found again when it is to be started. The
	// store is private, so a handler of another user runs in place.
	if f.Kind.Copied() && p.in.accept != nil && h.User == "" && (hc.SHA256 == "" || hc.SHA256 == f.SHA256) {
		run, sum, err := p.in.accept(h.Name, f.Path, f.SHA256)
		if err != nil {
			p.reason("%s", err)
			p.keep(h.Name)
			return
		}
		hc.Program, hc.Content = run, sum
	}
	p.handlers = append(p.handlers, hc)
	p.contents[h.Name] = f.SHA256
	if f.Dir != "" {
		p.origin[h.Name] = f.Dir
	}
	if f.CardPath != "" {
		p.cardBeside[h.Name] = f.CardPath
	}
}

// keep plans a handler as it was, if its file is still there in some form, and says whether it did.
func (p *planner) keep(name string) bool {
	before := p.in.before
	i := slices.IndexFunc(before.handlers, func(h supervisor.HandlerConfig) bool { return h.Name == name })
	if i < 0 {
		return false
	}
	dir := before.origin[name]
	there := slices.ContainsFunc(p.in.found, func(f catalog.Found) bool { return f.Name == name }) ||
		slices.ContainsFunc(p.in.skipped, func(s catalog.Skip) bool { return s.Name == name || s.Name == "" && s.Path == dir })
	if !there {
		return false
	}
	h := before.handlers[i]
	p.handlers = append(p.handlers, h)
	p.contents[name] = before.contents[name]
	p.origin[name] = dir
	beside := filepath.Join(dir, name+catalog.CardSuffix)
	if _, ok := before.cards[beside]; ok {
		p.cardBeside[name] = beside
	}
	return true
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
