package blocks

import (
	"log/slog"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/switches"
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

	// OnChange, if set, is called, under locks, when something changed that a Snapshot keeps.
	OnChange func()
	switches.Blocks
	switches.History // of each environment

	// DefaultBacklog is how many tasks may wait for an agent whose card has no maxPendingBacklog.
	DefaultBacklog int
	// Lives of the credentials that no switch sets.
	RefreshTTL, WriteTTL, ReadTTL time.Duration
}

func (c *Config) setDefaults() {
	switches.SetDefaults(c.Blocks.Table())
	for ttl, fallback := range map[*time.Duration]time.Duration{&c.RefreshTTL: 24 * time.Hour, &c.WriteTTL: 24 * time.Hour, &c.ReadTTL: time.Hour} {
		if *ttl <= 0 {
			*ttl = fallback
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnChange == nil {
		c.OnChange = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.DefaultBacklog <= 0 {
		// The live network's default is said to be 10, which would refuse a developer's burst.
		c.DefaultBacklog = 10_000
	}
	if c.Blobs == nil {
		c.Blobs = blob.New("")
	}
}
