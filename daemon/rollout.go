package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// Handlers and cards may change while the daemon runs: the plugins directories are watched, and what is different is
// carried out without losing a task.

// storeDir in the state directory holds the programs that run.
const storeDir = "handlers"

// shelf is where programs come from. look and what it calls are serialized by mu.
type shelf struct {
	mu      sync.Mutex
	scanner catalog.Scanner
	hashes  catalog.Hashes
	store   *catalog.Store // nil when programs run in place
	trouble string         // why they do
}

// openShelf prepares the store. Without one programs run in place, which is worse but works.
func (d *Daemon) openShelf() {
	store, err := catalog.OpenStore(filepath.Join(d.cfg.Settings.StateDir, storeDir))
	if err != nil {
		d.shelf.trouble = fmt.Sprintf("handlers run in place and cannot be rolled back: %s", err)
		return
	}
	d.shelf.store = store
}

// look finds out what is to be served now.
func (d *Daemon) look() plan {
	s := &d.shelf
	s.mu.Lock()
	defer s.mu.Unlock()
	found, skipped := s.scanner.Scan(d.cfg.Settings.Plugins.Dirs)
	pins, problems := catalog.ReadPins(d.pinsFile())
	d.mu.Lock()
	before := d.plan
	d.mu.Unlock()
	in := inventory{found: found, skipped: skipped, pins: pins, load: card.Load, before: before, hash: func(path string) string {
		sum, err := s.hashes.Of(path)
		if err != nil {
			return "" // said when it is to be started
		}
		return sum
	}}
	if s.store != nil {
		in.accept = s.store.Accept
	}
	p := makePlan(d.cfg.Settings, in)
	p.reasons = append(p.reasons, problems...)
	if s.trouble != "" {
		p.reasons = append(p.reasons, s.trouble)
	}
	return p
}

func (d *Daemon) pinsFile() string { return filepath.Join(d.cfg.Settings.StateDir, catalog.PinsFile) }

// used remembers that a content of a handler works, as one that it can be rolled back to.
func (d *Daemon) used(handler, content string) {
	if d.shelf.store == nil {
		return
	}
	if err := d.shelf.store.Used(handler, content); err != nil {
		d.cfg.Log.Warn("the programs of a handler could not be put in order", "handler", handler, "err", err)
	}
}

// follow carries out changes of the plugins directories until ctx ends.
func (d *Daemon) follow(ctx context.Context) {
	files := []string{d.pinsFile()}
	for _, h := range d.cfg.Settings.Handlers {
		if h.Path != "" {
			files = append(files, h.Path)
		}
	}
	for _, a := range d.cfg.Settings.Agents {
		files = append(files, a.Card)
	}
	catalog.Watch(ctx, catalog.WatchConfig{
		Dirs: d.cfg.Settings.Plugins.Dirs, Files: files, Log: d.cfg.Log, Quiet: d.cfg.Settle,
		Changed: func() { d.carryOut(d.look()) },
	})
}

// carryOut makes p the plan.
func (d *Daemon) carryOut(p plan) {
	d.mu.Lock()
	d.plan = p
	d.mu.Unlock()
	d.reconcile()
}

// RestartHandler implements control.Daemon.
func (d *Daemon) RestartHandler(ctx context.Context, name string) error {
	fleet := d.theFleet()
	if fleet == nil {
		return fmt.Errorf("restart handler %s: the daemon starts", name)
	}
	err := fleet.Restart(ctx, name)
	d.changed.broadcast()
	return noHandler(err)
}

// RollbackHandler implements control.Daemon.
func (d *Daemon) RollbackHandler(ctx context.Context, name string) (sha256 string, err error) {
	fleet := d.theFleet()
	if fleet == nil {
		return "", control.ErrNoHandler
	}
	now, known := find(fleet, name)
	if !known {
		return "", control.ErrNoHandler
	}
	if d.shelf.store == nil {
		return "", fmt.Errorf("handler %s cannot be rolled back: %s", name, d.shelf.trouble)
	}
	d.mu.Lock()
	file := d.plan.contents[name]
	d.mu.Unlock()
	previous, err := d.shelf.store.Rollback(name, file, now.SHA256)
	if err != nil {
		return "", err
	}
	d.cfg.Log.Info("handler is rolled back, on request", "handler", name, "from", now.SHA256, "to", previous)
	d.carryOut(d.look())
	err = fleet.Await(ctx, name)
	d.changed.broadcast()
	return previous, noHandler(err)
}

// noHandler is err in the words of the control API.
func noHandler(err error) error {
	if errors.Is(err, supervisor.ErrNoHandler) {
		return control.ErrNoHandler
	}
	return err
}

func (d *Daemon) theFleet() *supervisor.Fleet {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fleet
}
