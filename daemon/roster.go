package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Which agents are served: those of the plan, and those that handlers describe while the daemon runs.

// wanted decides which agents are to be served, and why others are not. mu is held.
func (d *Daemon) wanted() (want map[string]assignment, reasons []string) {
	want = map[string]assignment{}
	limit := map[string]int{}
	for _, h := range d.plan.handlers {
		limit[h.Name] = capacity(h)
	}
	for _, a := range d.plan.agents {
		want[a.card.AgentName] = a
	}
	claims := map[string][]assignment{} // of handlers that describe themselves, by agent
	for _, h := range d.plan.describe {
		for _, c := range d.descriptions[h] {
			if n := limit[h]; n > 0 {
				c.Concurrency = min(c.Concurrency, n)
			}
			claims[c.AgentName] = append(claims[c.AgentName], assignment{card: c, handler: h})
		}
		if cards, ok := d.descriptions[h]; ok && len(cards) == 0 {
			reasons = append(reasons, fmt.Sprintf("handler %s serves no agent: put a card beside it as %s%s, or have its Describe return one", h, h, catalog.CardSuffix))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		// A file comes first, then who serves it already, then the order of the handlers.
		winner, taken := want[name]
		if s := d.served[name]; !taken && s != nil {
			for _, a := range claims[name] {
				if a.handler == s.handler && !taken {
					winner, taken = a, true
				}
			}
		}
		if !taken {
			winner = claims[name][0]
		}
		want[name] = winner
		for _, a := range claims[name] {
			if a.handler != winner.handler {
				reasons = append(reasons, alreadyServed(name, "handler "+a.handler, winner.handler))
			}
		}
	}
	return want, append(reasons, d.contradictions()...)
}

// contradictions are cards in files that do not fit what the handler says it is. mu is held.
func (d *Daemon) contradictions() []string {
	var reasons []string
	for _, a := range d.plan.agents {
		cards := d.descriptions[a.handler]
		if len(cards) == 0 || slices.ContainsFunc(cards, func(c card.Card) bool { return c.AgentName == a.card.AgentName }) {
			continue
		}
		reasons = append(reasons, fmt.Sprintf("the card of agent %s contradicts its handler %s, which says that it is agent %s; the card counts: check that it lies beside the right program",
			a.card.AgentName, a.handler, cards[0].AgentName))
	}
	return reasons
}

// reconcile starts and ends agents and handlers so that they are those that are wanted. A card that has changed takes
// effect when the tasks that were taken under the old one are over; a handler ends after its agents.
func (d *Daemon) reconcile() {
	d.applying.Lock()
	defer d.applying.Unlock()
	d.mu.Lock()
	if d.stopping || d.fleet == nil {
		d.mu.Unlock()
		return
	}
	want, reasons := d.wanted()
	d.setReasons(append(slices.Clone(d.plan.reasons), reasons...))
	for name, s := range d.served {
		a, ok := want[name]
		switch {
		case ok && a.equal(s.assignment):
		case s.over:
			d.forget(s)
		case !s.leaving:
			s.leaving = true
			d.cfg.Log.Info("agent leaves, because it was removed or its card has changed", "agent", name, "handler", s.handler)
			s.leave(ok)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if d.served[name] == nil {
			d.start(want[name])
		}
	}
	for _, h := range d.plan.describe {
		if _, known := d.waiting[h]; !known {
			_, described := d.descriptions[h]
			d.waiting[h] = !described
			if !described {
				d.awaiting = append(d.awaiting, h)
			}
		}
	}
	maps.DeleteFunc(d.waiting, func(h string, _ bool) bool { return !slices.Contains(d.plan.describe, h) })
	handlers := slices.Clone(d.plan.handlers)
	for _, name := range slices.Sorted(maps.Keys(d.served)) { // those of agents that have not left yet
		h := d.served[name].handler
		if old, ok := d.applied[h]; ok && !slices.ContainsFunc(handlers, func(c supervisor.HandlerConfig) bool { return c.Name == h }) {
			handlers = append(handlers, old)
		}
	}
	gone := d.applied
	d.applied = map[string]supervisor.HandlerConfig{}
	for _, h := range handlers {
		d.applied[h.Name] = h
		delete(gone, h.Name)
	}
	for h := range gone {
		delete(d.descriptions, h)
	}
	fleet := d.fleet
	d.mu.Unlock()
	if err := fleet.Apply(handlers); err != nil {
		d.cfg.Log.Error("the handlers could not be changed", "err", err)
	}
	if d.shelf.store != nil {
		for h := range gone {
			d.shelf.store.Forget(h)
		}
	}
	d.changed.broadcast()
	d.checkFinal()
}

// setReasons replaces the reasons of the status and logs those that are new. mu is held.
func (d *Daemon) setReasons(reasons []string) {
	for _, r := range reasons {
		if !slices.Contains(d.reasons, r) {
			d.cfg.Log.Warn("not served", "reason", r)
		}
	}
	d.reasons = reasons
}

// start serves one more agent. mu is held.
func (d *Daemon) start(a assignment) {
	for _, w := range a.card.Warnings() {
		d.cfg.Log.Warn("card of an agent", "agent", a.card.AgentName, "pointer", w.Pointer, "reason", w.Message)
	}
	s := newServed(a)
	d.served[a.card.AgentName] = s
	d.starting = append(d.starting, s)
}

// launch runs the agents as they are found, until ctx ends.
func (d *Daemon) launch(ctx context.Context) {
	for {
		changed := d.changed.wait()
		d.mu.Lock()
		todo, awaiting := d.starting, d.awaiting
		d.starting, d.awaiting = nil, nil
		d.mu.Unlock()
		for _, h := range awaiting {
			d.agents.Go(func() { d.awaitDescription(ctx, h) })
		}
		for _, s := range todo {
			d.agents.Go(func() { d.attend(ctx, s) })
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// attend serves an agent until ctx ends or it has to leave.
func (d *Daemon) attend(ctx context.Context, s *served) {
	d.serve(ctx, s)
	d.mu.Lock()
	s.over = true
	if s.leaving && d.served[s.card.AgentName] == s {
		d.forget(s)
	}
	d.mu.Unlock()
	d.reconcile()
}

// forget takes an agent that is gone out of those that are served; its tasks still count. mu is held.
func (d *Daemon) forget(s *served) {
	delete(d.served, s.card.AgentName)
	d.gone = d.gone.Plus(s.status().Counts)
}

// described takes the cards that a handler returns. They count only where no file says what it serves.
func (d *Daemon) described(handler string, cards []card.Card) {
	d.mu.Lock()
	d.descriptions[handler] = cards
	if d.waiting[handler] {
		d.waiting[handler] = false
	}
	d.mu.Unlock()
	d.reconcile()
}

// awaitDescription stops waiting for the cards of a handler that does not come up, so that it does not keep the daemon
// from being ready. When it does come up later, its cards still count.
func (d *Daemon) awaitDescription(ctx context.Context, handler string) {
	for {
		_, changed := d.fleet.Availability(handler)
		// Not every handler that is unavailable is hopeless: before its first start it is merely stopped.
		hopeless := slices.ContainsFunc(d.fleet.Status(), func(h supervisor.HandlerStatus) bool {
			return h.Name == handler && h.State == unit.Quarantined.String()
		})
		d.mu.Lock()
		waiting := d.waiting[handler]
		if waiting && hopeless {
			d.waiting[handler] = false
		}
		d.mu.Unlock()
		if !waiting || hopeless {
			d.changed.broadcast()
			d.checkFinal()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// undescribed lists the handlers whose cards are still expected. mu is held.
func (d *Daemon) undescribed() []string {
	var out []string
	for _, h := range slices.Sorted(maps.Keys(d.waiting)) {
		if d.waiting[h] {
			out = append(out, h)
		}
	}
	return out
}

// checkFinal begins the end when the network has refused every agent for good.
func (d *Daemon) checkFinal() {
	d.mu.Lock()
	final := d.planned && !d.stopping && len(d.served) > 0 && len(d.undescribed()) == 0
	for _, s := range d.served {
		final = final && s.isFinal()
	}
	d.mu.Unlock()
	if final {
		d.finalOnce.Do(func() { close(d.final) })
	}
}

// everyone returns the served agents in order of their names.
func (d *Daemon) everyone() []*served {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]*served, 0, len(d.served))
	for _, name := range slices.Sorted(maps.Keys(d.served)) {
		all = append(all, d.served[name])
	}
	return all
}
