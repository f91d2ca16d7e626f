package blocks

import (
	"crypto/rand"
	"time"
)

// Credentials are a JWT and the refresh token that goes with it.
type Credentials struct {
	AccessToken, RefreshToken string
	ExpiresIn                 time.Duration
	UserID                    string
	Agent                     bool
}

// ByKey returns the principal of an API key.
func (n *Network) ByKey(apiKey string) (*Principal, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	org, err := n.accounts.ownerLocked(apiKey, n.cfg.Now())
	if err != nil {
		return nil, err
	}
	return &Principal{UserID: org.UserID, OrgID: org.ID, org: org}, nil
}

// ByToken returns the principal of a JWT.
func (n *Network) ByToken(token string) (*Principal, error) {
	c, err := n.tokens.verify(token, n.cfg.Now)
	if err != nil {
		return nil, err
	}
	org := n.accounts.orgs[c.Org]
	if org == nil {
		return nil, Unauthorized("The access token belongs to an unknown organization.")
	}
	return &Principal{UserID: org.UserID, OrgID: org.ID, Agent: c.Agent, Instance: c.Instance, org: org}, nil
}

// ConsumerToken exchanges an API key for the credentials of a consumer.
func (n *Network) ConsumerToken(apiKey string) (Credentials, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.accounts.ownerLocked(apiKey, n.cfg.Now()); err != nil {
		return Credentials{}, err
	}
	return n.issueLocked(refreshToken{APIKey: apiKey})
}

// Refresh exchanges a refresh token for new credentials of the same kind; the old token becomes invalid.
func (n *Network) Refresh(apiKey, token string) (Credentials, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.accounts.ownerLocked(apiKey, n.cfg.Now()); err != nil {
		return Credentials{}, err
	}
	r, ok := n.tokens.refresh[token]
	if !ok || r.APIKey != apiKey || !n.cfg.Now().Before(r.Expires) {
		return Credentials{}, refused(401, CodeRefreshInvalid, "The refresh token is invalid, used or expired.")
	}
	if r.Agent != "" {
		if a := n.registry.agents[r.Agent]; a != nil && a.ForcedOffline {
			return Credentials{}, offline(r.Agent)
		}
	}
	delete(n.tokens.refresh, token)
	return n.issueLocked(r)
}

// issueLocked makes credentials.
func (n *Network) issueLocked(r refreshToken) (Credentials, error) {
	key := n.accounts.keys[r.APIKey]
	if key == nil { // a session without a key has no refresh token of this kind
		return Credentials{}, refused(401, CodeKeyInvalid, "The API key is invalid or was revoked.")
	}
	c, err := n.credentials(n.accounts.orgs[key.OrgID], r.Agent, r.Instance)
	if err != nil {
		return Credentials{}, err
	}
	now := n.cfg.Now()
	c.RefreshToken = "rt_" + rand.Text()
	r.Token, r.Expires = c.RefreshToken, now.Add(n.cfg.RefreshTTL)
	n.tokens.addLocked(r, now)
	n.touch()
	return c, nil
}

// credentials makes credentials that cannot be refreshed.
func (n *Network) credentials(org *Organization, agent, instance string) (Credentials, error) {
	c := Credentials{UserID: org.UserID, ExpiresIn: n.cfg.ConsumerTokenTTL, Agent: agent != ""}
	if c.Agent {
		c.ExpiresIn = n.cfg.AgentTokenTTL
	}
	var err error
	c.AccessToken, err = n.tokens.sign(org, agent, instance, n.cfg.Now(), c.ExpiresIn)
	return c, err
}

// ExpireTokens makes all JWTs that have been issued expire now. With refreshTokens, these are forgotten too, so that
// their owners have to use their API keys again.
func (n *Network) ExpireTokens(refreshTokens bool) {
	n.tokens.generation.Add(1)
	n.touch()
	if refreshTokens {
		n.mu.Lock()
		defer n.mu.Unlock()
		clear(n.tokens.refresh)
		n.tokens.byAge = nil
	}
}
