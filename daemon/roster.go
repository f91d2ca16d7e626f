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

// start serves one more agent, unless its name is taken or the daemon stops.
func (d *Daemon) start(a assignment) {
	s := newServed(a)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopping {
		return
	}
	name := a.card.AgentName
	if other, ok := d.served[name]; ok {
		if other.handler != a.handler { // else a new process of the same handler
			reason := alreadyServed(name, "handler "+a.handler, other.handler)
			if !slices.Contains(d.reasons, reason) {
				d.reasons = append(d.reasons, reason)
				d.cfg.Log.Warn("not served", "reason", reason)
			}
		}
		return
	}
	for _, w := range a.card.Warnings() {
		d.cfg.Log.Warn("card of an agent", "agent", name, "pointer", w.Pointer, "reason", w.Message)
	}
	d.served[name] = s
	d.starting = append(d.starting, s)
	d.changed.broadcast()
}

// launch runs the agents as they are found, until ctx ends.
func (d *Daemon) launch(ctx context.Context) {
	for {
		changed := d.changed.wait()
		d.mu.Lock()
		todo := d.starting
		d.starting = nil
		d.mu.Unlock()
		for _, s := range todo {
			d.agents.Go(func() { d.serve(ctx, s) })
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// described takes the cards that a handler returns. They count only where no file says what it serves.
func (d *Daemon) described(handler string, cards []card.Card) {
	d.mu.Lock()
	_, counts := d.waiting[handler]
	first := d.waiting[handler]
	d.waiting[handler] = false
	if !counts {
		delete(d.waiting, handler)
	}
	if counts && first && len(cards) == 0 {
		reason := fmt.Sprintf("handler %s serves no agent: put a card beside it as %s%s, or have its Describe return one", handler, handler, catalog.CardSuffix)
		d.reasons = append(d.reasons, reason)
		d.cfg.Log.Warn("not served", "reason", reason)
	}
	d.mu.Unlock()
	if counts {
		for _, c := range cards {
			d.start(assignment{card: c, handler: handler})
		}
	}
	d.changed.broadcast()
	d.checkFinal()
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
