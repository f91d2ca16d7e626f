package supervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/supervisor/rollout"
)

// Restart replaces the processes of a handler by new ones without losing a task, or tries at once if it is not ready, in
// quarantine too. It waits for the outcome until ctx ends; the error is one sentence.
func (f *Fleet) Restart(ctx context.Context, name string) error {
	h := f.get(name)
	if h == nil {
		return fmt.Errorf("%w called %q", ErrNoHandler, name)
	}
	h.mu.Lock()
	if !h.rollout.Accepts() {
		h.mu.Unlock()
		return fmt.Errorf("handler %s cannot be restarted: it is being stopped", name)
	}
	h.stepLocked(rollout.Event{Kind: rollout.Restart})
	generation := h.rollout.Target()
	failures := h.rollout.Failures(generation)
	h.mu.Unlock()
	return h.await(ctx, generation, failures)
}

// Await waits until a handler runs what was asked for last, or for the reason why it does not.
func (f *Fleet) Await(ctx context.Context, name string) error {
	h := f.get(name)
	if h == nil {
		return fmt.Errorf("%w called %q", ErrNoHandler, name)
	}
	h.mu.Lock()
	generation := h.rollout.Target()
	h.mu.Unlock()
	return h.await(ctx, generation, 0)
}

// await returns when a generation takes the tasks, or has failed more often than it had. The error is one sentence.
func (h *handler) await(ctx context.Context, generation int64, failures int) error {
	events := h.fleet.config.Events.Follow(event.HandlerState, event.ProcessExited, event.Rollout)
	defer events.Close()
	for {
		if done, err := h.outcome(generation, failures); done {
			return err
		}
		if _, err := events.Next(ctx); err != nil {
			return fmt.Errorf("handler %s is not ready yet: %w", h.name, context.Cause(ctx))
		}
	}
}

// outcome is false while it is not known what becomes of the generation.
func (h *handler) outcome(generation int64, failures int) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch h.rollout.Outcome(generation, failures) {
	case rollout.Runs:
		return true, nil
	case rollout.GivenUp:
		return true, errors.New(h.notice)
	case rollout.Failed:
		return true, errors.New(h.currentLocked().reason)
	case rollout.Superseded:
		return true, fmt.Errorf("handler %s was changed again meanwhile", h.name)
	case rollout.Ending:
		return true, fmt.Errorf("handler %s is being stopped", h.name)
	}
	return false, nil
}
