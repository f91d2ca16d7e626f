// Package blocks is the backend core of the sandbox: organizations, agents and their instances, tasks, and the
// scheduler that brings them together over the pub/sub spaces. It knows nothing of HTTP.
//
// There are two locks, always taken in this order: that of a space, then that of the network. Observers are called under
// the first and take the second; nothing calls a space while it holds the second. What has to be published is therefore
// put into a queue, which Run works off in order.
package blocks

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Config of a Network. Zero values mean the defaults.
type Config struct {
	Log *slog.Logger
	Now func() time.Time
	// Keys of the two environments.
	Playground, Network wire.Keyset
	Organizations       []Organization
	Blobs               *blob.Store
	// State, if not nil, is what an earlier network of the same keys and organizations left.
	State *State

	// CancelBudget is how long an instance has to end a canceled task before the network does.
	CancelBudget time.Duration
	// SafetyNet is how long after the loss of its instance a running task gets the terminal failed, and how long a task
	// that was sent may stay without a sign of life.
	SafetyNet time.Duration
	// SlotFallback frees the slot of an ended task if no presence state says so.
	SlotFallback time.Duration
	// KeepFinished is how many finished tasks stay readable, and KeepFinishedFor how long.
	KeepFinished    int
	KeepFinishedFor time.Duration
	// RingSize, Lossless and MaxBytes of each environment, see pubsub.Config.
	RingSize int
	Lossless bool
	MaxBytes int64
	// DefaultBacklog is how many tasks may wait for an agent that does not say so itself.
	DefaultBacklog int
	// MaxFileBytes bounds one uploaded file.
	MaxFileBytes int64

	// Lives of the credentials.
	ConsumerTTL, AgentTTL, RefreshTTL, ControlTTL, WriteTTL, ReadTTL time.Duration

	// Enterprise has no anonymous readers of the registry and no paid agents.
	Enterprise bool
	// OnChange, if set, is called, under locks, when something changed that is worth keeping.
	OnChange func()
	// StreamRevokeDelay is how long after the end of a task the tokens of its consumers' streams still work.
	StreamRevokeDelay time.Duration

	// NoWriterRead takes from the write token of a task the right to read the task's channel; NoAgentGetTask takes from
	// an agent the right to look up its own tasks.
	NoWriterRead, NoAgentGetTask bool
}

func (c *Config) setDefaults() {
	duration := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	duration(&c.CancelBudget, 30*time.Second)
	duration(&c.SafetyNet, 60*time.Second)
	duration(&c.SlotFallback, time.Second)
	duration(&c.ConsumerTTL, 60*time.Second)
	duration(&c.AgentTTL, 15*time.Minute)
	duration(&c.RefreshTTL, 24*time.Hour)
	duration(&c.ControlTTL, 24*time.Hour)
	duration(&c.WriteTTL, 24*time.Hour)
	duration(&c.ReadTTL, time.Hour)
	duration(&c.StreamRevokeDelay, 60*time.Second) // as long as the real network may need
	duration(&c.KeepFinishedFor, 24*time.Hour)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.KeepFinished <= 0 {
		c.KeepFinished = 10_000
	}
	if c.DefaultBacklog <= 0 {
		// The live network is said to default to 10; a developer's burst should not be refused for that.
		c.DefaultBacklog = 10_000
	}
	if c.MaxFileBytes <= 0 {
		c.MaxFileBytes = wire.MaxArtifactBytes
	}
	if c.Blobs == nil {
		c.Blobs = blob.New("")
	}
}

// Environment is one of the two worlds that share nothing but the agents' names.
type Environment struct {
	Keys   wire.Keyset
	Space  *pubsub.Space
	Access *access.Manager
}

// Network is the whole backend.
type Network struct {
	cfg    Config
	log    *slog.Logger
	signer []byte // key of the JWTs
	// secrets of the access managers.
	secrets map[wire.BillingMode][]byte
	envs    map[wire.BillingMode]*Environment
	orgs    map[string]*Organization // by id; the map is fixed, the names are not

	generation atomic.Int64 // of access tokens, see ExpireTokens

	wake chan struct{} // there is work for Run

	mu        sync.Mutex    // guards all below
	freed     chan struct{} // if somebody waits: closed when an agent has an instance that takes a task
	agents    map[string]*agent
	apiKeys   map[string]*apiKey
	codes     map[string]authCode // of browser logins that are under way
	invites   map[string]*invitation
	byControl map[string]*agent
	tasks     map[string]*task
	keys      map[idempotencyKey]*task
	submitted int      // tasks so far
	finished  []string // ids of finished tasks, oldest first
	refresh   map[string]refreshToken
	refreshes []string // refresh tokens by age, for forgetting
	uploads   map[string]*upload
	sessions  map[string]*session
	files     map[string]*upload // confirmed, by file id
	work      []func()           // what Run is to do, in order, without the lock
	timers    timers
}

// New returns an empty network.
func New(cfg Config) (*Network, error) {
	cfg.setDefaults()
	n := &Network{
		cfg: cfg, log: cfg.Log, signer: make([]byte, 32), envs: map[wire.BillingMode]*Environment{}, orgs: map[string]*Organization{},
		wake: make(chan struct{}, 1), agents: map[string]*agent{}, apiKeys: map[string]*apiKey{}, codes: map[string]authCode{}, invites: map[string]*invitation{}, byControl: map[string]*agent{}, tasks: map[string]*task{},
		keys: map[idempotencyKey]*task{}, refresh: map[string]refreshToken{},
		uploads: map[string]*upload{}, sessions: map[string]*session{}, files: map[string]*upload{},
	}
	secrets := map[wire.BillingMode][]byte{}
	if cfg.State != nil {
		n.signer, secrets = cfg.State.Signer, cfg.State.Secrets
	} else {
		_, _ = rand.Read(n.signer) // never fails
	}
	n.secrets = map[wire.BillingMode][]byte{}
	for _, org := range cfg.Organizations {
		if org.ID == "" || org.UserID == "" || org.APIKey == "" || n.apiKeys[org.APIKey] != nil || n.orgs[org.ID] != nil {
			return nil, fmt.Errorf("create network: organization %q lacks an id, a user or a key of its own", org.ID)
		}
		if org.Slug == "" {
			org.Slug = strings.ToLower(strings.ReplaceAll(cmp.Or(org.Name, org.ID), " ", "-"))
		}
		if org.Email == "" {
			org.Email = org.UserID + "@sandbox.invalid"
		}
		n.orgs[org.ID] = &org
		n.apiKeys[org.APIKey] = &apiKey{id: "key_" + org.ID, name: "first", secret: org.APIKey, org: &org, created: cfg.Now()}
	}
	for mode, keys := range map[wire.BillingMode]wire.Keyset{wire.Free: cfg.Playground, wire.Paid: cfg.Network} {
		if keys.PublishKey == "" || keys.SubscribeKey == "" {
			return nil, errors.New("create network: an environment has no keys")
		}
		env := &Environment{Keys: keys}
		var err error
		env.Space, err = pubsub.New(pubsub.Config{
			SubscribeKey: keys.SubscribeKey, Now: cfg.Now, RingSize: cfg.RingSize, Lossless: cfg.Lossless, MaxBytes: cfg.MaxBytes,
			Observer: &observer{network: n, mode: mode}, Changed: n.touch,
		})
		if err != nil {
			return nil, fmt.Errorf("create network: %w", err)
		}
		secret := secrets[mode]
		if secret == nil {
			secret = make([]byte, 32)
			_, _ = rand.Read(secret) // never fails
		}
		n.secrets[mode] = secret
		if env.Access, err = access.NewManager(secret, cfg.Now); err != nil {
			return nil, fmt.Errorf("create network: %w", err)
		}
		env.Access.OnRevoke(n.touch)
		n.envs[mode] = env
	}
	if cfg.State != nil {
		if err := n.restore(cfg.State); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// Environment returns the environment of a billing mode.
func (n *Network) Environment(mode wire.BillingMode) *Environment { return n.envs[mode] }

// sweepInterval is how often what was forgotten by its users is looked for.
const sweepInterval = 5 * time.Second

// Run publishes what the network decides and watches its deadlines until ctx ends.
func (n *Network) Run(ctx context.Context) error {
	n.mu.Lock()
	n.at(n.cfg.Now().Add(sweepInterval), n.sweep)
	n.mu.Unlock()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n.mu.Lock()
		now := n.cfg.Now()
		for len(n.timers) > 0 && !n.timers[0].when.After(now) {
			heap.Pop(&n.timers).(*deadline).do()
		}
		work := n.work
		n.work = nil
		wait := sweepInterval
		if len(n.timers) > 0 {
			wait = n.timers[0].when.Sub(now)
		}
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
		case <-n.wake:
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// touch says that something changed that is worth keeping.
func (n *Network) touch() {
	if n.cfg.OnChange != nil {
		n.cfg.OnChange()
	}
}

// push queues work for Run. The lock is held.
func (n *Network) push(do func()) {
	n.work = append(n.work, do)
	n.signal()
}

func (n *Network) signal() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// at has do called, under the lock, at a time. The lock is held.
func (n *Network) at(when time.Time, do func()) {
	heap.Push(&n.timers, &deadline{when: when, do: do})
	if n.timers[0].when.Equal(when) {
		n.signal()
	}
}

type deadline struct {
	when time.Time
	do   func()
}

// timers is a heap of deadlines.
type timers []*deadline

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].when.Before(t[j].when) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(*deadline)) }
func (t *timers) Pop() any {
	old := *t
	d := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	return d
}

// sweep looks for tasks that were sent and never taken up, for those that run too long or ended long ago, and for uploads
// that nobody claimed. The lock is held.
func (n *Network) sweep() {
	now := n.cfg.Now()
	for _, a := range n.agents {
		for _, t := range a.unclaimed {
			if t.sent && now.Sub(t.sentAt) >= n.cfg.SafetyNet {
				n.endTask(t, wire.Terminal{State: wire.Failed, Error: "no agent instance started the task in time"})
			}
		}
		for _, i := range a.instances {
			for _, t := range i.tasks {
				if !t.deadline.IsZero() && !now.Before(t.deadline) {
					n.endTask(t, wire.Terminal{State: wire.Failed, Error: "the task ran longer than the maxRunningTimeSec of its agent"})
				}
				if !t.confirmed && t.sent && now.Sub(t.sentAt) >= n.cfg.SafetyNet {
					n.endTask(t, wire.Terminal{State: wire.Failed, Error: "the agent instance did not start the task in time"})
				}
			}
		}
	}
	n.forgetFinished(now)
	n.sweepUploads(now)
	n.at(now.Add(sweepInterval), n.sweep)
}

// ClockChanged says that the clock of the network was set.
func (n *Network) ClockChanged() { n.signal() }

// Stats says what there is.
type Stats struct{ Agents, Instances, Tasks, Running, Queued int }

// Stats returns the current numbers; instances are those that are online.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	st := Stats{Agents: len(n.agents), Tasks: len(n.tasks)}
	for _, a := range n.agents {
		st.Instances += len(a.ready)
		st.Queued += a.queue.waiting
		for _, i := range a.instances {
			for _, t := range i.tasks {
				if t.confirmed {
					st.Running++
				}
			}
		}
	}
	return st
}
