// Package blocks is the backend core of the sandbox: organizations, agents and their instances, tasks, and the
// scheduler that brings them together over the pub/sub spaces. It knows nothing of HTTP.
//
// There are two locks, always taken in this order: that of a space, then that of the network. Observers are called under
// the first and take the second; nothing calls a space while it holds the second. What has to be published is therefore
// queued, and Run publishes it in the order of the queue.
package blocks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Network is the whole backend.
type Network struct {
	cfg     Config
	log     *slog.Logger
	touch   func()                      // reports a change that a Snapshot keeps
	secrets map[wire.BillingMode][]byte // of the access managers
	envs    map[wire.BillingMode]*Environment

	mu       sync.Mutex // guards all below
	accounts accounts
	tokens   *tokens
	registry registry
	tasks    taskTable
	files    fileTable
	loop     loop
	freed    chan struct{} // nil if no one waits; closed when an agent has an instance that takes a task
}

// New returns an empty network, or the one that Config.State describes.
func New(cfg Config) (*Network, error) {
	cfg.setDefaults()
	n := &Network{
		cfg: cfg, log: cfg.Log, touch: cfg.OnChange, secrets: map[wire.BillingMode][]byte{}, envs: map[wire.BillingMode]*Environment{},
		tokens: newTokens(), registry: newRegistry(), tasks: newTaskTable(), files: newFileTable(), loop: newLoop(),
	}
	var err error
	if n.accounts, err = newAccounts(cfg.Organizations, cfg.Now()); err != nil {
		return nil, err
	}
	for mode, keys := range map[wire.BillingMode]wire.Keyset{wire.Free: cfg.Playground, wire.Paid: cfg.Network} {
		if err := n.addEnvironment(mode, keys); err != nil {
			return nil, err
		}
	}
	if cfg.State != nil {
		if err := n.restore(cfg.State); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func (n *Network) addEnvironment(mode wire.BillingMode, keys wire.Keyset) error {
	if keys.PublishKey == "" || keys.SubscribeKey == "" {
		return errors.New("create network: an environment has no keys")
	}
	var secret []byte
	if n.cfg.State != nil {
		secret = n.cfg.State.Secrets[mode]
	}
	if secret == nil {
		secret = newSecret()
	}
	space, err := pubsub.New(pubsub.Config{
		SubscribeKey: keys.SubscribeKey, Now: n.cfg.Now, History: n.cfg.History,
		Observer: &observer{network: n, mode: mode}, Changed: n.touch,
	})
	if err != nil {
		return fmt.Errorf("create network: %w", err)
	}
	manager, err := access.NewManager(secret, n.cfg.Now)
	if err != nil {
		return fmt.Errorf("create network: %w", err)
	}
	manager.OnRevoke(n.touch)
	n.secrets[mode], n.envs[mode] = secret, &Environment{Keys: keys, Space: space, Access: manager}
	return nil
}

// Environment returns the environment of a billing mode.
func (n *Network) Environment(mode wire.BillingMode) *Environment { return n.envs[mode] }

// sweepInterval is how often what was forgotten by its users is looked for.
const sweepInterval = 5 * time.Second

// Run publishes what the network decides and watches its deadlines until ctx ends.
func (n *Network) Run(ctx context.Context) error {
	n.mu.Lock()
	n.loop.atLocked(n.cfg.Now().Add(sweepInterval), n.sweepLocked)
	n.mu.Unlock()
	timer := time.NewTimer(sweepInterval)
	defer timer.Stop()
	for {
		n.mu.Lock()
		work, wait := n.loop.takeLocked(n.cfg.Now(), sweepInterval)
		n.mu.Unlock()
		for _, do := range work {
			do()
		}
		if len(work) > 0 {
			if ctx.Err() != nil {
				return nil
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-n.loop.wake:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sweepLocked looks for tasks that were sent and never taken up, for those that run too long or ended long ago, and for
// uploads that were never claimed.
func (n *Network) sweepLocked() {
	now := n.cfg.Now()
	for _, a := range n.registry.agents {
		for _, t := range a.unclaimed {
			if t.sent && now.Sub(t.sentAt) >= n.cfg.SafetyNet {
				n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: "no agent instance started the task in time"})
			}
		}
		for _, i := range a.instances {
			for _, t := range i.tasks {
				if !t.Deadline.IsZero() && !now.Before(t.Deadline) {
					n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: "the task ran longer than the maxRunningTimeSec of its agent"})
				}
				if !t.confirmedLocked() && t.sent && now.Sub(t.sentAt) >= n.cfg.SafetyNet {
					n.endTaskLocked(t, wire.Terminal{State: wire.Failed, Error: "the agent instance did not start the task in time"})
				}
			}
		}
	}
	n.forgetFinishedLocked(now)
	n.removeBlobsLocked(n.files.sweepLocked(now))
	n.loop.atLocked(now.Add(sweepInterval), n.sweepLocked)
}

// ClockChanged says that the clock of the network was set.
func (n *Network) ClockChanged() { n.loop.wakeUp() }
