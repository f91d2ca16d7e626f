package blocks

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Organization with its one user and that user's first API key.
type Organization struct {
	ID, Name, UserID, APIKey string
	// Slug names it in invitations and Email its user; both are derived where they are empty.
	Slug, Email string
	// Broke says that it cannot pay for tasks.
	Broke bool
}

// Principal is who makes a request.
type Principal struct {
	UserID, OrgID string
	// Agent and Instance are set for the credentials of an agent instance.
	Agent, Instance string

	org *Organization
}

// OwnOrganization reports whether the principal belongs to an organization.
func (p *Principal) OwnOrganization(id string) bool { return p != nil && p.OrgID == id }

// IsAgent reports whether the credentials are those of an agent instance.
func (p *Principal) IsAgent() bool { return p.Agent != "" }

// claims of our JWTs.
type claims struct {
	Org      string `json:"org"`
	Agent    string `json:"agent,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Generation counts how often all tokens were made to expire before this one was issued.
	Generation int64 `json:"gen,omitempty"`
	jwt.RegisteredClaims
}

// Credentials are a JWT and the refresh token that goes with it.
type Credentials struct {
	AccessToken, RefreshToken string
	ExpiresIn                 time.Duration
	UserID                    string
	Agent                     bool
}

// refreshToken is what a refresh token stands for.
type refreshToken struct {
	apiKey          string
	agent, instance string
	expires         time.Time
}

// maxRefreshTokens bounds the refresh tokens that are remembered; the oldest are forgotten, which costs their owners a
// new bootstrap.
const maxRefreshTokens = 100_000

// ByKey returns the principal of an API key.
func (n *Network) ByKey(apiKey string) (*Principal, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	org, err := n.keyOwner(apiKey)
	if err != nil {
		return nil, err
	}
	return &Principal{UserID: org.UserID, OrgID: org.ID, org: org}, nil
}

// ByToken returns the principal of a JWT.
func (n *Network) ByToken(token string) (*Principal, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return n.signer, nil },
		jwt.WithValidMethods([]string{"HS256"}), jwt.WithTimeFunc(n.cfg.Now), jwt.WithExpirationRequired())
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, Unauthorized("The access token is expired.")
	case err != nil:
		return nil, Unauthorized("The access token is invalid.")
	}
	if c.Generation < n.generation.Load() {
		return nil, Unauthorized("The access token is expired.")
	}
	org := n.orgs[c.Org]
	if org == nil {
		return nil, Unauthorized("The access token belongs to an unknown organization.")
	}
	return &Principal{UserID: org.UserID, OrgID: org.ID, Agent: c.Agent, Instance: c.Instance, org: org}, nil
}

// ConsumerToken exchanges an API key for the credentials of a consumer.
func (n *Network) ConsumerToken(apiKey string) (Credentials, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.keyOwner(apiKey); err != nil {
		return Credentials{}, err
	}
	return n.issue(refreshToken{apiKey: apiKey})
}

// Refresh exchanges a refresh token for new credentials of the same kind; the old token is worth nothing any more.
func (n *Network) Refresh(apiKey, token string) (Credentials, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.keyOwner(apiKey); err != nil {
		return Credentials{}, err
	}
	r, ok := n.refresh[token]
	if !ok || r.apiKey != apiKey || !n.cfg.Now().Before(r.expires) {
		return Credentials{}, refused(401, CodeRefreshInvalid, "The refresh token is invalid, used or expired.")
	}
	if r.agent != "" {
		if a := n.agents[r.agent]; a != nil && a.forcedOffline {
			return Credentials{}, offline(r.agent)
		}
	}
	delete(n.refresh, token)
	return n.issue(r)
}

// issue makes credentials. The lock is held.
func (n *Network) issue(r refreshToken) (Credentials, error) {
	now := n.cfg.Now()
	key := n.apiKeys[r.apiKey]
	if key == nil { // a session without a key has no refresh token of this kind
		return Credentials{}, refused(401, CodeKeyInvalid, "The API key is invalid or was revoked.")
	}
	c, err := n.accessToken(key.org, r.agent, r.instance)
	if err != nil {
		return Credentials{}, err
	}
	r.expires = now.Add(n.cfg.RefreshTTL)
	c.RefreshToken = "rt_" + rand.Text()
	n.refresh[c.RefreshToken] = r
	n.touch()
	n.refreshes = append(n.refreshes, c.RefreshToken)
	n.pruneRefreshTokens(now)
	return c, nil
}

// accessToken makes a JWT for a user, or for an agent's instance.
func (n *Network) accessToken(org *Organization, agent, instance string) (Credentials, error) {
	now := n.cfg.Now()
	c := Credentials{UserID: org.UserID, ExpiresIn: n.cfg.ConsumerTTL, Agent: agent != ""}
	if c.Agent {
		c.ExpiresIn = n.cfg.AgentTTL
	}
	var err error
	c.AccessToken, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		Org: org.ID, Agent: agent, Instance: instance, Generation: n.generation.Load(),
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: org.UserID, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(c.ExpiresIn)), ID: rand.Text(),
		},
	}).SignedString(n.signer)
	if err != nil {
		return Credentials{}, fmt.Errorf("issue access token for organization %s: %w", org.ID, err)
	}
	return c, nil
}

func offline(agent string) *Error {
	return refused(403, CodeForcedOffline, "The agent %s has been taken offline by an administrator.", agent)
}

// pruneRefreshTokens forgets what is used, expired or too much. The lock is held.
func (n *Network) pruneRefreshTokens(now time.Time) {
	for len(n.refreshes) > 0 {
		r, ok := n.refresh[n.refreshes[0]]
		if ok && now.Before(r.expires) && len(n.refresh) <= maxRefreshTokens {
			break
		}
		delete(n.refresh, n.refreshes[0])
		n.refreshes = n.refreshes[1:]
	}
	if len(n.refreshes) > 2*len(n.refresh)+64 { // used ones behind an old one that is not
		n.refreshes = slices.DeleteFunc(n.refreshes, func(token string) bool { _, ok := n.refresh[token]; return !ok })
	}
}
