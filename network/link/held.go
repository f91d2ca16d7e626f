package link

import (
	"context"
	"sync"
)

// HeldPoll is the poll of one subscription that waits for messages, for those who learn elsewhere that nobody may hold it
// any more: by itself it ends only after minutes. Its zero value is ready.
type HeldPoll struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc // nil while there is none
}

// GiveUp ends the poll as if it had failed with err, so that the subscription begins again from its cursor. It does not wait.
func (h *HeldPoll) GiveUp(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cancel != nil {
		h.cancel(err)
	}
}

// hold returns the context of a poll, until release.
func (h *HeldPoll) hold(ctx context.Context) (polling context.Context, release func()) {
	polling, cancel := context.WithCancelCause(ctx)
	h.mu.Lock()
	h.cancel = cancel
	h.mu.Unlock()
	return polling, func() {
		h.mu.Lock()
		h.cancel = nil
		h.mu.Unlock()
		cancel(nil)
	}
}
