package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/shell"
	"github.com/blocksd/blocksd/supervisor"
	"github.com/blocksd/blocksd/supervisor/catalog"
)

// What an operator does with one handler.

// RestartHandler implements control.Daemon.
func (d *Daemon) RestartHandler(ctx context.Context, name string) error {
	return noHandler(d.fleet.Restart(ctx, name))
}

// RollbackHandler implements control.Daemon.
func (d *Daemon) RollbackHandler(ctx context.Context, name string) (sha256 string, err error) {
	// The file and its pin count as they are now.
	if err := d.inbox.await(ctx); err != nil {
		return "", fmt.Errorf("roll handler %s back: %w", name, err)
	}
	now, known := d.find(name)
	if !known {
		return "", control.ErrNoHandler
	}
	plan := d.served.currentPlan()
	if d.programs.store != nil && !plan.FromStore(name) {
		return "", fmt.Errorf("handler %s cannot be rolled back: %s", name, plan.WhyNotUsed(name))
	}
	pin, configured := plan.Pin(name)
	previous, undo, err := d.programs.rollback(catalog.Rollback{Handler: name, File: plan.Content(name), Running: now.SHA256, Pin: pin})
	switch {
	case errors.Is(err, catalog.ErrPinned):
		return "", pinned(name, now.SHA256, previous, pin, configured)
	case err != nil:
		return "", err
	}
	if err := d.rollOut(ctx, name); err != nil {
		if ctx.Err() == nil { // else it goes on trying
			err = errors.Join(fmt.Errorf("handler %s is not rolled back from %s to %s: %w", name, now.SHA256, previous, err), undo(), d.inbox.await(ctx))
		}
		return "", err
	}
	d.events.Emit(event.Event{
		Type: event.Notice, Handler: name, State: "rolled_back",
		Reason: fmt.Sprintf("an operator rolled handler %s back from %s to %s", name, now.SHA256, previous),
	})
	return previous, nil
}

// rollOut has the files looked at, and returns when what a handler should run takes its tasks.
func (d *Daemon) rollOut(ctx context.Context, name string) error {
	if err := d.inbox.await(ctx); err != nil {
		return err
	}
	return noHandler(d.fleet.Await(ctx, name))
}

// pinned says that a handler may not be rolled back from running to previous, and what to do.
func pinned(name, running, previous, pin string, configured bool) error {
	text := fmt.Sprintf("handler %s is not rolled back from %s to %s, because ", name, running, previous)
	if configured {
		return fmt.Errorf("%sthe configuration pins it to %s: write %s there as its sha256 and restart the daemon", text, pin, previous)
	}
	return fmt.Errorf("%sit is pinned to %s: blocksd handler pin %s --sha256 %s, then roll it back", text, pin, shell.Word(name), previous)
}

// currentPlan is what follows from the files as they were looked at last.
func (s *served) currentPlan() roster.Plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan
}

// find returns the status of one handler.
func (d *Daemon) find(name string) (supervisor.HandlerStatus, bool) {
	all := d.fleet.Status()
	i := slices.IndexFunc(all, func(h supervisor.HandlerStatus) bool { return h.Name == name })
	if i < 0 {
		return supervisor.HandlerStatus{}, false
	}
	return all[i], true
}

// noHandler is err in the words of the control API.
func noHandler(err error) error {
	if errors.Is(err, supervisor.ErrNoHandler) {
		return control.ErrNoHandler
	}
	return err
}
