package blocks

import (
	"cmp"
	"crypto/rand"
	"slices"
	"strings"
	"time"
)

// maxKeys bounds the keys of a network.
const maxKeys = 10_000

// CreateKey makes a key for an organization; a life of zero is without end. p is nil for the administrator of the
// network.
func (n *Network) CreateKey(p *Principal, orgID, name string, life time.Duration) (APIKey, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	org := n.accounts.orgs[orgID]
	switch {
	case org == nil && p == nil:
		return APIKey{}, refused(404, CodeNoOrg, "There is no organization %s.", orgID)
	case p != nil && (p.OrgID != orgID || p.IsAgent()):
		return APIKey{}, refused(403, CodeDenied, "You may not make keys for the organization %s.", orgID)
	case life < 0:
		return APIKey{}, InvalidParams("A key cannot expire before it is made.")
	case len(n.accounts.keys) >= maxKeys:
		return APIKey{}, refused(429, CodeTooMany, "There are %d API keys, as many as the sandbox keeps.", len(n.accounts.keys))
	}
	k := &apiKey{APIKey: APIKey{ID: "key_" + strings.ToLower(rand.Text()), Name: name, OrgID: orgID, Created: n.cfg.Now()}, Value: "bk_" + rand.Text()}
	if life > 0 {
		k.Expires = k.Created.Add(life)
	}
	n.accounts.keys[k.Value] = k
	n.touch()
	out := k.APIKey
	out.Secret = k.Value
	return out, nil
}

// RevokeKey makes a key worthless; it may be named by its id or be the key itself. JWTs that were had for it live on
// until they expire.
func (n *Network) RevokeKey(idOrSecret string) (APIKey, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.accounts.keys {
		if k.ID == idOrSecret || k.Value == idOrSecret {
			k.Revoked = true
			n.touch()
			return k.APIKey, nil
		}
	}
	return APIKey{}, refused(404, CodeNoKey, "There is no such API key.")
}

// Key returns what is known of a key, without the key itself.
func (n *Network) Key(secret string) (APIKey, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := n.accounts.keys[secret]; k != nil {
		return k.APIKey, true
	}
	return APIKey{}, false
}

// Keys lists all keys without their secrets, oldest first.
func (n *Network) Keys() []APIKey {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]APIKey, 0, len(n.accounts.keys))
	for _, k := range n.accounts.keys {
		out = append(out, k.APIKey)
	}
	slices.SortFunc(out, func(a, b APIKey) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return out
}
