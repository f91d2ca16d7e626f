package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/supervisor"
)

// inbox is what has come in for the reconciler.
type inbox struct {
	wake chan struct{} // capacity 1
	// asked are requests to look at the files; each is answered when what they say has been carried out.
	asked chan chan<- struct{}
	// assigned are what operators say; each is answered when it has been carried out.
	assigned chan assignment
	// over closes when the reconciler has ended.
	over chan struct{}

	mu        sync.Mutex // guards what follows
	files     bool       // have changed
	described map[string][]card.Card
	used      []usedContent
}

func newInbox() *inbox {
	return &inbox{
		wake: make(chan struct{}, 1), asked: make(chan chan<- struct{}), assigned: make(chan assignment), over: make(chan struct{}),
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

// describes reports whether a handler has said that it is an agent.
func (b *inbox) describes(handler, agent string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.described[handler], func(c card.Card) bool { return c.AgentName == agent })
}

// use takes the news that a content of a handler works. The supervisor calls it with a lock held that tasks of the handler
// may need, so the reconciler records it in the store later.
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
