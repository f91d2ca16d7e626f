package blocks

import (
	"cmp"
	"crypto/rand"
	"slices"
	"strings"
	"time"
)

// apiKey is one key of an organization. The lock guards what may change: expires and revoked.
type apiKey struct {
	id, name, secret string
	org              *Organization
	created          time.Time
	expires          time.Time // zero: never
	revoked          bool
}

// APIKey is a key as its owner sees it.
type APIKey struct {
	ID, Name, OrgID string
	// Secret is the key itself, only set in the answer to its creation.
	Secret           string
	Created, Expires time.Time
	Revoked          bool
}

func (k *apiKey) public() APIKey {
	return APIKey{ID: k.id, Name: k.name, OrgID: k.org.ID, Created: k.created, Expires: k.expires, Revoked: k.revoked}
}

// maxKeys bounds the keys of a network.
const maxKeys = 10_000

// keyOwner returns whose key it is. The lock is held.
func (n *Network) keyOwner(secret string) (*Organization, error) {
	k := n.apiKeys[secret]
	if k == nil || k.revoked || !k.expires.IsZero() && !n.cfg.Now().Before(k.expires) {
		return nil, refused(401, CodeKeyInvalid, "The API key is invalid or was revoked.")
	}
	return k.org, nil
}

// CreateKey makes a key for an organization; a life of zero is without end. p is nil for the administrator of the network.
func (n *Network) CreateKey(p *Principal, orgID, name string, life time.Duration) (APIKey, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	org := n.orgs[orgID]
	switch {
	case org == nil && p == nil:
		return APIKey{}, refused(404, CodeNoOrg, "There is no organization %s.", orgID)
	case p != nil && (p.OrgID != orgID || p.IsAgent()):
		return APIKey{}, refused(403, CodeDenied, "You may not make keys for the organization %s.", orgID)
	case life < 0:
		return APIKey{}, InvalidParams("A key cannot expire before it is made.")
	case len(n.apiKeys) >= maxKeys:
		return APIKey{}, refused(429, CodeTooMany, "There are %d API keys, as many as the sandbox keeps.", len(n.apiKeys))
	}
	k := &apiKey{id: "key_" + strings.ToLower(rand.Text()), name: name, secret: "bk_" + rand.Text(), org: org, created: n.cfg.Now()}
	if life > 0 {
		k.expires = k.created.Add(life)
	}
	n.apiKeys[k.secret] = k
	n.touch()
	out := k.public()
	out.Secret = k.secret
	return out, nil
}

// RevokeKey makes a key worthless; it may be named by its id or be the key itself. JWTs that were had for it live on until
// they expire.
func (n *Network) RevokeKey(idOrSecret string) (APIKey, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, k := range n.apiKeys {
		if k.id == idOrSecret || k.secret == idOrSecret {
			k.revoked = true
			n.touch()
			return k.public(), nil
		}
	}
	return APIKey{}, refused(404, CodeNoKey, "There is no such API key.")
}

// Keys lists all keys without their secrets, oldest first.
func (n *Network) Keys() []APIKey {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]APIKey, 0, len(n.apiKeys))
	for _, k := range n.apiKeys {
		out = append(out, k.public())
	}
	slices.SortFunc(out, func(a, b APIKey) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return out
}

// ExpireTokens makes all JWTs that have been issued expire now. With refreshTokens, these are forgotten too, so that their
// owners have to begin anew with their API keys.
func (n *Network) ExpireTokens(refreshTokens bool) {
	n.generation.Add(1)
	n.touch()
	if refreshTokens {
		n.mu.Lock()
		defer n.mu.Unlock()
		clear(n.refresh)
		n.refreshes = nil
	}
}
