package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/network/link"
)

// keptAfter is how many attempts to fetch the deployment document fail before the kept one is used: most failures pass at
// once, and a kept document may be out of date.
const keptAfter = 3

// documentBackoff is the pause between attempts to fetch the document. unchangedBackoff is that before the document is
// fetched again for agents that cannot reach the network although it says that they look in the right place.
var (
	documentBackoff  = retry.Backoff{First: 250 * time.Millisecond, Max: 15 * time.Second}
	unchangedBackoff = retry.Backoff{First: 15 * time.Second, Max: 5 * time.Minute}
)

// locator knows where the network is, and notices when it has moved.
type locator struct {
	where deployment.Config
	kept  keptDocument
	log   *slog.Logger
	// waiting is called with the reason while there is no document yet; moved when the network is elsewhere than it was.
	waiting func(reason string)
	moved   func()

	// known closes when the network is known.
	known chan struct{}
	// suspected holds a value when an agent suspects that the network has moved.
	suspected chan struct{}

	mu  sync.Mutex // guards what follows
	now located
}

// located is a deployment with a client of its API, and what the connections of agents share; both are nil before the
// network is known.
type located struct {
	deployment.Deployment
	client *backend.Client
	shared *link.Shared
}

func (l *locator) get() located {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// deployment is where the network is; false as long as that is not known.
func (l *locator) deployment() (deployment.Deployment, bool) {
	now := l.get()
	return now.Deployment, now.client != nil
}

// suspect says that the network may have moved. It never blocks.
func (l *locator) suspect() {
	select {
	case l.suspected <- struct{}{}:
	default:
	}
}

// run finds the network and follows it until ctx ends.
func (l *locator) run(ctx context.Context) {
	if l.find(ctx) {
		l.follow(ctx)
	}
}

// find fetches the deployment document, however long it takes: agents show why they wait. A kept document stands in for
// one that cannot be fetched, until it can. It reports false when ctx has ended.
func (l *locator) find(ctx context.Context) bool {
	for n := 1; ; n++ {
		found, err := l.where.Fetch(ctx, nil) // bounded by its own deadline
		if err == nil {
			err = l.use(ctx, found)
		}
		if err == nil {
			l.kept.save(l.where.URL(), found.CDM)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if l.get().client == nil && n >= keptAfter {
			if document, ok := l.kept.load(l.where.URL()); ok && l.use(ctx, l.where.Resolve(document)) == nil {
				l.log.Warn("the deployment document cannot be fetched, going on with the last good one", "err", err)
			}
		}
		if l.get().client == nil {
			l.log.Warn("the deployment document cannot be fetched, trying again", "err", err)
			l.waiting(fmt.Sprintf("the network cannot be reached, trying again: %s", err))
		}
		if retry.Pause(ctx, documentBackoff.Delay(n)) != nil {
			return false
		}
	}
}

// follow looks at the document again when agents suspect that the network has moved, until ctx ends.
func (l *locator) follow(ctx context.Context) {
	for unchanged := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-l.suspected:
		}
		found, err := l.where.Fetch(ctx, nil)
		if err == nil && found == l.get().Deployment {
			unchanged++ // nobody can say what else to try
		} else {
			unchanged = 1
			if err == nil {
				if err = l.use(ctx, found); err == nil {
					l.kept.save(l.where.URL(), found.CDM)
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			l.log.Warn("the network may have moved, but its deployment document is of no use", "err", err)
		}
		if retry.Pause(ctx, unchangedBackoff.Delay(unchanged)) != nil {
			return
		}
	}
}

// use makes found the deployment that counts.
func (l *locator) use(ctx context.Context, found deployment.Deployment) error {
	old := l.get()
	if old.client != nil && old.Deployment == found {
		return nil
	}
	client, err := found.NewBackend(nil, l.log)
	if err != nil {
		return err
	}
	shared := link.NewShared(ctx, found.Origin, found.Secure)
	l.mu.Lock()
	l.now = located{found, client, shared}
	l.mu.Unlock()
	if old.client == nil {
		close(l.known)
		return nil
	}
	old.client.Close()
	old.shared.Close()
	l.log.Warn("the deployment document has changed, so all agents connect anew")
	l.moved()
	return nil
}

// close frees the connections.
func (l *locator) close() {
	if now := l.get(); now.client != nil {
		now.client.Close()
		now.shared.Close()
	}
}
