package access

import (
	"maps"
	"time"
)

// Revoke ends a token before its time. The error is ErrForged or ErrExpired.
func (m *Manager) Revoke(token string) error {
	p, err := m.permission(token)
	if err != nil {
		return err
	}
	now := m.now()
	if !now.Before(p.expires) {
		return ErrExpired
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for other, until := range m.revoked { // what has expired need not be remembered
		if !now.Before(until) {
			delete(m.revoked, other)
		}
	}
	m.revoked[token] = p.expires
	m.endLocked(token)
	m.onRevoke()
	return nil
}

// OnRevoke has do called at every revocation. It is to be set before the manager is used.
func (m *Manager) OnRevoke(do func()) { m.onRevoke = do }

// Revoked returns the revoked tokens that have not expired, and when they do: what must be kept over a restart.
func (m *Manager) Revoked() map[string]time.Time {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.revoked)
}

// Restore makes tokens revoked that were so before.
func (m *Manager) Restore(revoked map[string]time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.Copy(m.revoked, revoked)
}
