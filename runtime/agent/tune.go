package agent

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Tunables are the members of Config that may change while an agent runs. They mean what they mean there.
type Tunables struct {
	Drain, CancelGrace time.Duration
	InlineLimit        int
	ArtifactLimit      int64
}

// Tune changes them. A task that has begun keeps its grace. Zero members and an inline limit that is too large are replaced
// as in Config.
func (a *Agent) Tune(t Tunables) {
	t = t.filled()
	a.tuned.Store(&t)
}

func (t Tunables) filled() Tunables {
	if t.InlineLimit <= 0 {
		t.InlineLimit = wire.DefaultInlineLimit
	}
	t.InlineLimit = min(t.InlineLimit, wire.MaxInlineLimit)
	if t.ArtifactLimit <= 0 {
		t.ArtifactLimit = wire.MaxArtifactBytes
	}
	if t.CancelGrace <= 0 {
		t.CancelGrace = DefaultCancelGrace
	}
	return t
}

// tunables are those that count now.
func (a *Agent) tunables() Tunables { return *a.tuned.Load() }
