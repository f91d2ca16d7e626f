package daemon

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// What is served follows from the settings, the files and what handlers say of themselves. A change of one of these
// puts a note in the inbox. One goroutine, reconcile, has the roster decide and carries the decision out.

// reconciler is what the goroutine of reconcile remembers from one decision to the next.
type reconciler struct {
	d       *Daemon
	plan    roster.Plan
	running map[string]supervisor.HandlerConfig
	// givenUp are handlers that got into quarantine before they had described themselves.
	givenUp map[string]bool
	// awaited says since when handlers are expected to describe themselves; late are those that have failed meanwhile.
	awaited map[string]time.Time
	late    map[string]bool
	names   *nameHolders
	final   bool
}

// reconcile keeps what is served as the roster decides, until ctx ends; agents that it starts end with ctx.
func (d *Daemon) reconcile(ctx context.Context) {
	r := reconciler{
		d: d, running: map[string]supervisor.HandlerConfig{}, givenUp: map[string]bool{},
		awaited: map[string]time.Time{}, late: map[string]bool{}, names: d.names,
	}
	handlers := d.events.Follow(event.HandlerState)
	defer handlers.Close()
	defer close(d.inbox.over)
	// Whoever comes late is noticed without anything else happening.
	patience := time.NewTimer(0)
	defer patience.Stop()
	copyAgain := time.NewTimer(copyPause)
	defer copyAgain.Stop()
	for {
		r.pass(ctx)
		patience.Stop()
		if wait := r.patience(); wait > 0 {
			patience.Reset(wait)
		}
		copyAgain.Stop()
		if r.lacksCopies() {
			copyAgain.Reset(copyPause)
		}
		for due := false; !due; {
			select {
			case <-ctx.Done():
				return
			case <-d.inbox.wake:
				due = true
			case <-handlers.Wake():
				due = r.giveUp(handlers)
			case <-patience.C:
				due = true
			case <-copyAgain.C:
				d.inbox.filesChanged() // which wakes
			case done := <-d.inbox.asked:
				d.inbox.filesChanged()
				r.pass(ctx)
				close(done)
			case a := <-d.inbox.assigned:
				a.done <- r.assign(ctx, a)
			}
		}
	}
}

// copyPause is after how long a program that the store did not take is tried again: what a full disk lacks, no change of a
// file announces.
const copyPause = 5 * time.Second

// lacksCopies reports whether the store did not take a program.
func (r *reconciler) lacksCopies() bool {
	return slices.ContainsFunc(r.plan.Reasons, func(r roster.Reason) bool { return r.Code == roster.NotCopied })
}

// giveUp stops waiting for the cards of handlers that do not come up, so that they do not keep the daemon from being
// ready. When they do come up later, their cards still count. It reports whether there is one.
func (r *reconciler) giveUp(handlers *event.Reader) (found bool) {
	for item, ok := handlers.TryNext(); ok; item, ok = handlers.TryNext() {
		found = r.quarantined(item.Handler, item.State) || r.failed(item.Handler, item.State) || found
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

// failed notes that a start of a handler has failed: nobody waits longer for what it says of itself.
func (r *reconciler) failed(handler, state string) (isNew bool) {
	if _, awaited := r.awaited[handler]; !awaited || state != unit.BackingOff.String() || r.late[handler] {
		return false
	}
	r.late[handler] = true
	return true
}

// describeTime is how long others wait for a handler to describe itself.
func (r *reconciler) describeTime() time.Duration {
	t := r.d.settings().Timeouts
	return t.HandlerHandshake + t.HandlerDescribe
}

// awaits brings up to date which handlers are expected to describe themselves, and returns those that are late.
func (r *reconciler) awaits(described map[string][]card.Card, now time.Time) map[string]bool {
	expected := func(h string) bool {
		_, ok := described[h]
		return !ok && slices.Contains(r.plan.Describe, h)
	}
	maps.DeleteFunc(r.awaited, func(h string, _ time.Time) bool { return !expected(h) })
	maps.DeleteFunc(r.late, func(h string, _ bool) bool { return !expected(h) })
	for _, h := range r.plan.Describe {
		since, known := r.awaited[h]
		switch {
		case !expected(h):
		case !known:
			r.awaited[h] = now
		case now.Sub(since) >= r.describeTime():
			r.late[h] = true
		}
	}
	return maps.Clone(r.late)
}

// patience is how long it takes until the next handler is late, 0 when none will be.
func (r *reconciler) patience() (wait time.Duration) {
	for h, since := range r.awaited {
		if left := max(time.Until(since.Add(r.describeTime())), time.Millisecond); !r.late[h] && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}

// pass decides, carries out, and returns the reasons.
func (r *reconciler) pass(ctx context.Context) []roster.Reason {
	d := r.d
	files, described, used := d.inbox.take()
	for _, u := range used {
		d.programs.used(u.handler, u.content)
	}
	if files {
		r.plan = d.programs.survey(d.settings(), r.plan)
		r.giveUpAll(described)
	}
	maps.DeleteFunc(r.givenUp, func(h string, _ bool) bool { return !slices.Contains(r.plan.Describe, h) })
	decision := roster.Decide(roster.State{
		Plan: r.plan, Described: described, GivenUp: r.givenUp, Late: r.awaits(described, time.Now()), Holders: r.names.holders, Serving: d.served.forRoster(), Running: r.running,
	})
	r.names.keep(decision.Holders) // before anybody is the agent
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
		close(d.ending.refused)
	}
	return decision.Reasons
}

// watchFiles has changes of the plugins directories, cards and pins looked at, until ctx ends. A reload may name others.
func (d *Daemon) watchFiles(ctx context.Context) {
	for ctx.Err() == nil {
		watching, stop := context.WithCancel(ctx)
		var watcher sync.WaitGroup
		watcher.Go(func() { d.watchFilesOf(watching, d.settings()) })
		select {
		case <-d.configuration.applied:
		case <-ctx.Done():
		}
		stop()
		watcher.Wait()
	}
}

func (d *Daemon) watchFilesOf(ctx context.Context, c config.Config) {
	files := []string{d.programs.pinsFile()}
	for _, h := range c.Handlers {
		if h.Path != "" {
			files = append(files, h.Path)
		}
	}
	for _, a := range c.Agents {
		files = append(files, a.Card)
	}
	var stamps []string
	for _, r := range d.programs.runners.All() {
		stamps = append(stamps, r.Installed...)
	}
	catalog.Watch(ctx, catalog.WatchConfig{
		Dirs: c.Plugins.Dirs, Trees: c.Projects, Stamps: stamps, Files: files, Log: d.cfg.Log, Quiet: d.cfg.Settle, Changed: d.inbox.filesChanged,
	})
}
