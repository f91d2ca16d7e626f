package daemon

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/daemon/runners"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// storeDir in the state directory holds the programs that run.
const storeDir = "handlers"

// programs reads the plugins directories, cards, pins and programs for the roster. Only the reconciler uses it, but for
// the store, which is safe for concurrent use.
type programs struct {
	stateDir string
	log      *slog.Logger
	scanner  catalog.Scanner
	runners  runners.Runners
	hashes   catalog.Hashes
	store    *catalog.Store // nil when programs run in place
	storeErr error          // why they do
	// rolledBack are the contents that handlers were rolled back to, by name, as the last survey found them. Whoever shows
	// them must not wait for the store, which may be copying a program.
	rolledBack atomic.Pointer[map[string]string]
}

// openPrograms prepares the store. Without one programs run in place, which is worse but works.
func openPrograms(stateDir string, run runners.Runners, warnUntrusted bool, log *slog.Logger) *programs {
	p := &programs{
		stateDir: stateDir, log: log, scanner: catalog.Scanner{WarnOnly: warnUntrusted}, runners: run,
	}
	p.store, p.storeErr = catalog.OpenStore(filepath.Join(stateDir, storeDir))
	return p
}

func (p *programs) pinsFile() string { return filepath.Join(p.stateDir, catalog.PinsFile) }

// survey reads what there is, has programs copied to the store, and makes the plan that follows.
func (p *programs) survey(c config.Config, before roster.Plan) roster.Plan {
	var s roster.Survey
	s.Found, s.Skipped = p.found(c)
	var problems []string
	s.Pins, problems = catalog.ReadPins(p.pinsFile())
	for _, text := range problems {
		s.Reasons = append(s.Reasons, roster.Reason{Code: roster.PinsUnusable, Object: p.pinsFile(), Detail: text})
	}
	if p.storeErr != nil {
		s.Reasons = append(s.Reasons, roster.Reason{Code: roster.StoreUnusable, Object: filepath.Join(p.stateDir, storeDir), Detail: p.storeErr.Error()})
	}
	s.Cards = map[string]roster.CardFile{}
	for _, path := range roster.CardPaths(c, s.Found, before) {
		loaded, err := card.Load(path)
		s.Cards[path] = roster.CardFile{Card: loaded, Err: err}
	}
	s.Hashes = map[string]string{}
	for _, h := range c.Handlers {
		if h.Path == "" {
			continue
		}
		if skip, found := p.scanner.Check(h.Name, h.Path); found {
			s.Skipped = append(s.Skipped, skip)
			if !skip.Used {
				continue
			}
		}
		if sum, err := p.hashes.Of(h.Path); err == nil { // else the start says it
			s.Hashes[h.Path] = sum
		}
	}
	s.Held = map[string]string{}
	if p.store != nil {
		for _, f := range s.Found {
			s.Held[f.Name] = p.store.HeldFor(f.Name, f.SHA256)
		}
	}
	plan := roster.MakePlan(c, s, before)
	rolledBack := map[string]string{}
	defer p.rolledBack.Store(&rolledBack)
	if p.store == nil || len(plan.Copies) == 0 {
		return plan
	}
	s.Stored = map[string]roster.Stored{}
	for _, want := range plan.Copies {
		program, content, err := p.store.Accept(want.Handler, want.File, want.SHA256, want.Pin)
		s.Stored[want.Handler] = roster.Stored{Program: program, Content: content, Err: err}
		if held := p.store.Held(want.Handler); held != "" {
			rolledBack[want.Handler] = held
		}
	}
	return roster.MakePlan(c, s, before)
}

// found are the projects and what the plugins directories hold. Of two with one name the project counts.
func (p *programs) found(c config.Config) (found []catalog.Found, skipped []catalog.Skip) {
	if len(c.Projects) > 0 {
		if err := p.runners.Unpack(); err != nil {
			p.log.Error("projects may not start", "err", err)
		}
		found, skipped = p.scanner.Projects(c.Projects, p.runners.All())
	}
	projects := len(found)
	plugins, more := p.scanner.Scan(c.Plugins.Dirs)
	skipped = append(skipped, more...)
	for _, f := range plugins {
		i := slices.IndexFunc(found[:projects], func(other catalog.Found) bool { return other.Name == f.Name })
		if i < 0 {
			found = append(found, f)
			continue
		}
		skipped = append(skipped, catalog.Skip{Path: f.Path, Reason: fmt.Sprintf("handler %s is not loaded because project %s has the same name and comes first", f.Path, found[i].Root)})
	}
	return found, skipped
}

// used remembers that a content of a handler works, as one that it can be rolled back to.
func (p *programs) used(handler, content string) {
	if p.store == nil {
		return
	}
	if err := p.store.Used(handler, content); err != nil {
		p.log.Warn("the store of programs could not be updated", "handler", handler, "err", err)
	}
}

// forget gives up what is kept for handlers that do not run any more.
func (p *programs) forget(handlers []string) {
	if p.store == nil {
		return
	}
	for _, h := range handlers {
		p.store.Forget(h)
	}
}

// rolledBackTo returns the content that a handler was rolled back to, "" when it runs what its file holds.
func (p *programs) rolledBackTo(handler string) string {
	if all := p.rolledBack.Load(); all != nil {
		return (*all)[handler]
	}
	return ""
}

// rollback makes the content that a handler ran before the one to run. An error has changed nothing; undo takes a change
// back.
func (p *programs) rollback(b catalog.Rollback) (previous string, undo func() error, err error) {
	if p.store == nil {
		return "", nil, fmt.Errorf("handler %s cannot be rolled back: handlers run in place and cannot be rolled back: %w", b.Handler, p.storeErr)
	}
	return p.store.Rollback(b)
}
