package blocks

import (
	"log/slog"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blob"
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
	if c.OnChange == nil {
		c.OnChange = func() {}
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
