package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/supervisor"
)

// What an operator does with one handler.

// RestartHandler implements control.Daemon.
func (d *Daemon) RestartHandler(ctx context.Context, name string) error {
	return noHandler(d.fleet.Restart(ctx, name))
}

// RollbackHandler implements control.Daemon.
func (d *Daemon) RollbackHandler(ctx context.Context, name string) (sha256 string, err error) {
	now, known := d.find(name)
	if !known {
		return "", control.ErrNoHandler
	}
	previous, err := d.programs.rollback(name, d.served.fileContent(name), now.SHA256)
	if err != nil {
		return "", err
	}
	d.events.Emit(event.Event{
		Type: event.Notice, Handler: name, State: "rolled_back",
		Reason: fmt.Sprintf("an operator rolled handler %s back from %s to %s", name, now.SHA256, previous),
	})
	if err := d.inbox.await(ctx); err != nil {
		return "", fmt.Errorf("roll handler %s back: %w", name, err)
	}
	return previous, noHandler(d.fleet.Await(ctx, name))
}

// fileContent returns the checksum of what a handler's file holds, as far as that has been looked at.
func (s *served) fileContent(handler string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.plan.Content(handler)
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
