package access

import (
	"time"
)

// watch is a token by which polls are being held.
type watch struct {
	expires time.Time
	ended   chan struct{}
	polls   int
}

// Watch returns a channel that is closed when the token permits nothing any more: at its revocation, or at the first
// Expire after its time. Its holder must then look at it again, and also once right after the call, because of what
// happened before. stop ends the watch. A token that was not issued here gets a channel that is never closed.
func (m *Manager) Watch(token string) (ended <-chan struct{}, stop func()) {
	p, err := m.permission(token)
	if err != nil {
		return nil, func() {}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.watched[token]
	if w == nil {
		w = &watch{expires: p.expires, ended: make(chan struct{})}
		m.watched[token] = w
		if len(m.watched) == 1 || p.expires.Before(m.soonest) {
			m.soonest = p.expires
		}
	}
	w.polls++
	return w.ended, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if w.polls--; w.polls == 0 && m.watched[token] == w {
			delete(m.watched, token)
		}
	}
}

// Expire ends the watches of tokens whose time is over. It has to be called regularly, because only the caller knows
// how fast the clock of the manager runs.
func (m *Manager) Expire() {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.watched) == 0 || now.Before(m.soonest) {
		return
	}
	m.soonest = now.Add(MaxTTL)
	for token, w := range m.watched {
		switch {
		case !now.Before(w.expires):
			m.endLocked(token)
		case w.expires.Before(m.soonest):
			m.soonest = w.expires
		}
	}
}

// endLocked closes the watch of a token.
func (m *Manager) endLocked(token string) {
	if w := m.watched[token]; w != nil {
		close(w.ended)
		delete(m.watched, token)
	}
}
