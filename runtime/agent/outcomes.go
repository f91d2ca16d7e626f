package agent

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Bounds of recentOutcomes. At high rates it reaches back less than its time.
const (
	maxRemembered      = 1 << 16
	maxRememberedBytes = 8 << 20
)

// recentOutcomes knows the outcomes of tasks that ended recently. It is not safe for concurrent use.
type recentOutcomes struct {
	keep     time.Duration
	outcomes map[string]remembered
	order    []string // ids from oldest to newest, starting at first
	first    int
	bytes    int
}

type remembered struct {
	terminal wire.Terminal
	at       time.Time
}

func newRecentOutcomes(keep time.Duration) recentOutcomes {
	return recentOutcomes{keep: keep, outcomes: map[string]remembered{}}
}

// recall returns the outcome of a task.
func (m *recentOutcomes) recall(id string, now time.Time) (wire.Terminal, bool) {
	m.forget(now)
	r, ok := m.outcomes[id]
	return r.terminal, ok
}

// store records an outcome. The first one of a task stands.
func (m *recentOutcomes) store(id string, t wire.Terminal, now time.Time) {
	if _, known := m.outcomes[id]; known {
		return
	}
	m.outcomes[id] = remembered{t, now}
	m.order = append(m.order, id)
	m.bytes += size(id, t)
	m.forget(now)
}

func size(id string, t wire.Terminal) int {
	return len(id) + len(t.Error) + len(t.Reason) + len(t.CompletionReason) + len(t.Version)
}

// forget drops what is too old or too much.
func (m *recentOutcomes) forget(now time.Time) {
	for m.first < len(m.order) {
		id := m.order[m.first]
		r := m.outcomes[id]
		if now.Sub(r.at) < m.keep && len(m.outcomes) <= maxRemembered && m.bytes <= maxRememberedBytes {
			break
		}
		delete(m.outcomes, id)
		m.bytes -= size(id, r.terminal)
		m.order[m.first] = ""
		m.first++
	}
	if m.first > len(m.order)/2 { // move up rarely, so that each entry is moved a bounded number of times
		m.order = append(m.order[:0:0], m.order[m.first:]...)
		m.first = 0
	}
}
