package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Organization with its one user and that user's API key.
type Organization struct {
	ID, Name, UserID, APIKey string
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

// IsAgent reports whether the credentials are those of an agent instance.
func (p *Principal) IsAgent() bool { return p.Agent != "" }

// claims of our JWTs.
type claims struct {
	Org      string `json:"org"`
	Agent    string `json:"agent,omitempty"`
	Instance string `json:"instance,omitempty"`
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
	org := n.orgs[apiKey]
	if org == nil {
		return nil, refused(401, CodeKeyInvalid, "The API key is invalid or was revoked.")
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
	org := n.orgsByID[c.Org]
	if org == nil {
		return nil, Unauthorized("The access token belongs to an unknown organization.")
	}
	return &Principal{UserID: org.UserID, OrgID: org.ID, Agent: c.Agent, Instance: c.Instance, org: org}, nil
}

// ConsumerToken exchanges an API key for the credentials of a consumer.
func (n *Network) ConsumerToken(apiKey string) (Credentials, error) {
	if _, err := n.ByKey(apiKey); err != nil {
		return Credentials{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.issue(refreshToken{apiKey: apiKey})
}

// Refresh exchanges a refresh token for new credentials of the same kind; the old token is worth nothing any more.
func (n *Network) Refresh(apiKey, token string) (Credentials, error) {
	if _, err := n.ByKey(apiKey); err != nil {
		return Credentials{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
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
	org := n.orgs[r.apiKey]
	c := Credentials{UserID: org.UserID, ExpiresIn: n.cfg.ConsumerTTL, Agent: r.agent != ""}
	if c.Agent {
		c.ExpiresIn = n.cfg.AgentTTL
	}
	var err error
	c.AccessToken, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		Org: org.ID, Agent: r.agent, Instance: r.instance,
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: org.UserID, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(c.ExpiresIn)), ID: rand.Text(),
		},
	}).SignedString(n.signer)
	if err != nil {
		return Credentials{}, fmt.Errorf("issue access token for organization %s: %w", org.ID, err)
	}
	r.expires = now.Add(n.cfg.RefreshTTL)
	c.RefreshToken = "rt_" + rand.Text()
	n.refresh[c.RefreshToken] = r
	n.refreshes = append(n.refreshes, c.RefreshToken)
	n.pruneRefreshTokens(now)
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
