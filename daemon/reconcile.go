package daemon

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// What is served follows from the settings, the files and what handlers say of themselves. Whatever changes one of these
// leaves a note in the inbox; one goroutine, reconcile, has the roster decide and carries the decision out.

// inbox is what has come in for the reconciler.
type inbox struct {
	wake chan struct{} // capacity 1
	// asked are requests to look at the files; each is answered when what they say has been carried out.
	asked chan chan<- struct{}
	// over closes when the reconciler has ended.
	over chan struct{}

	mu        sync.Mutex // guards what follows
	files     bool       // have changed
	described map[string][]card.Card
	used      []usedContent
}

func newInbox() *inbox {
	return &inbox{
		wake: make(chan struct{}, 1), asked: make(chan chan<- struct{}), over: make(chan struct{}),
		files: true, described: map[string][]card.Card{},
	}
}

// notify makes the reconciler look. It never blocks.
func (b *inbox) notify() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// filesChanged says that the plugins directories, cards or pins may be different.
func (b *inbox) filesChanged() {
	b.mu.Lock()
	b.files = true
	b.mu.Unlock()
	b.notify()
}

// describe takes the cards that a handler returns.
func (b *inbox) describe(handler string, cards []card.Card) {
	b.mu.Lock()
	b.described[handler] = cards
	b.mu.Unlock()
	b.notify()
}

// use takes the news that a content of a handler works. The supervisor calls it with a lock held that tasks of the handler
// may need, so the store is told later.
func (b *inbox) use(handler, content string) {
	b.mu.Lock()
	b.used = append(b.used, usedContent{handler, content})
	b.mu.Unlock()
	b.notify()
}

// usedContent is a content of a handler that has got ready.
type usedContent struct{ handler, content string }

// take returns what there is: whether the files have changed and which contents have got ready since the last time, and all
// descriptions.
func (b *inbox) take() (files bool, described map[string][]card.Card, used []usedContent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	files, b.files = b.files, false
	used, b.used = b.used, nil
	return files, maps.Clone(b.described), used
}

// retain drops the descriptions of handlers that do not run any more.
func (b *inbox) retain(running map[string]supervisor.HandlerConfig) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.described, func(h string, _ []card.Card) bool { _, runs := running[h]; return !runs })
}

var errStopping = errors.New("the daemon stops")

// await has the files looked at, and returns when what they say has been carried out.
func (b *inbox) await(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case b.asked <- done:
	case <-b.over:
		return errStopping
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-b.over:
		return errStopping
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reconciler is what the goroutine of reconcile remembers from one decision to the next.
type reconciler struct {
	d       *Daemon
	plan    roster.Plan
	running map[string]supervisor.HandlerConfig
	// givenUp are handlers that got into quarantine before they had described themselves.
	givenUp map[string]bool
	final   bool
}

// reconcile keeps what is served as the roster decides, until ctx ends; agents that it starts end with ctx.
func (d *Daemon) reconcile(ctx context.Context) {
	r := reconciler{d: d, running: map[string]supervisor.HandlerConfig{}, givenUp: map[string]bool{}}
	handlers := d.events.Follow(event.HandlerState)
	defer handlers.Close()
	defer close(d.inbox.over)
	for {
		r.pass(ctx)
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return
			case <-d.inbox.wake:
				due = true
			case <-handlers.Wake():
				due = r.giveUp(handlers)
			case done := <-d.inbox.asked:
				d.inbox.filesChanged()
				r.pass(ctx)
				close(done)
			}
		}
	}
}

// giveUp stops waiting for the cards of handlers that do not come up, so that they do not keep the daemon from being
// ready. When they do come up later, their cards still count. It reports whether there is one.
func (r *reconciler) giveUp(handlers *event.Reader) (found bool) {
	for item, ok := handlers.TryNext(); ok; item, ok = handlers.TryNext() {
		found = r.quarantined(item.Handler, item.State) || found
		if item.Missed > 0 {
			found = r.giveUpAll(nil) || found
		}
	}
	return found
}

// giveUpAll does the same for handlers that are in quarantine already.
func (r *reconciler) giveUpAll(described map[string][]card.Card) (found bool) {
	if !slices.ContainsFunc(r.plan.Describe, func(h string) bool { _, ok := described[h]; return !ok }) {
		return false
	}
	for _, h := range r.d.fleet.Status() {
		found = r.quarantined(h.Name, h.State) || found
	}
	return found
}

func (r *reconciler) quarantined(handler, state string) (isNew bool) {
	if state != unit.Quarantined.String() || !slices.Contains(r.plan.Describe, handler) || r.givenUp[handler] {
		return false
	}
	r.givenUp[handler] = true
	return true
}

// pass decides and carries out.
func (r *reconciler) pass(ctx context.Context) {
	d := r.d
	files, described, used := d.inbox.take()
	for _, u := range used {
		d.programs.used(u.handler, u.content)
	}
	if files {
		r.plan = d.programs.survey(d.settings(), r.plan)
	}
	if files {
		r.giveUpAll(described)
	}
	maps.DeleteFunc(r.givenUp, func(h string, _ bool) bool { return !slices.Contains(r.plan.Describe, h) })
	decision := roster.Decide(roster.State{
		Plan: r.plan, Described: described, GivenUp: r.givenUp, Serving: d.served.forRoster(), Running: r.running,
	})
	started, departed := d.served.apply(decision, r.plan, d.events)
	for _, s := range departed {
		d.cfg.Log.Info("agent leaves, because it was removed or its card has changed", "agent", s.name(), "handler", s.assignment.Handler)
	}
	for _, s := range started {
		d.agents.Go(func() {
			d.serve(ctx, s)
			s.end()
			d.inbox.notify()
		})
	}
	running := map[string]supervisor.HandlerConfig{}
	for _, h := range decision.Handlers {
		running[h.Name] = h
	}
	d.inbox.retain(running)
	if err := d.fleet.Apply(decision.Handlers); err != nil {
		d.cfg.Log.Error("the handlers could not be changed", "err", err)
	} else {
		r.running = running
		d.programs.forget(decision.Retired)
	}
	if !r.final && len(decision.Undescribed) == 0 && d.served.allFinal() {
		r.final = true
		close(d.final)
	}
}

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
	if r.Code == roster.NotDescribed { // every such handler begins like that
		level = slog.LevelDebug
	}
	events.Emit(event.Event{Type: event.Notice, State: state, Reason: r.Text(), Level: level})
}

// watchFiles has changes of the plugins directories, cards and pins looked at, until ctx ends.
func (d *Daemon) watchFiles(ctx context.Context) {
	c := d.settings()
	files := []string{d.programs.pinsFile()}
	for _, h := range c.Handlers {
		if h.Path != "" {
			files = append(files, h.Path)
		}
	}
	for _, a := range c.Agents {
		files = append(files, a.Card)
	}
	catalog.Watch(ctx, catalog.WatchConfig{
		Dirs: c.Plugins.Dirs, Files: files, Log: d.cfg.Log, Quiet: d.cfg.Settle, Changed: d.inbox.filesChanged,
	})
}
