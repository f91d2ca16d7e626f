package blocks

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// claims of our JWTs.
type claims struct {
	Org      string `json:"org"`
	Agent    string `json:"agent,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Generation counts how often all tokens were made to expire before this one was issued.
	Generation int64 `json:"gen,omitempty"`
	jwt.RegisteredClaims
}

// refreshToken is a refresh token with what it stands for, as it is kept.
type refreshToken struct {
	Token, APIKey   string
	Agent, Instance string // of an agent's credentials
	Expires         time.Time
}

// maxRefreshTokens bounds the refresh tokens that are remembered; the oldest are forgotten, which costs their owners a
// new bootstrap.
const maxRefreshTokens = 100_000

// tokens are the access and refresh tokens of the Blocks side. Access tokens are signed, not kept.
type tokens struct {
	signer     []byte       // key of the JWTs
	generation atomic.Int64 // of access tokens, see ExpireTokens

	refresh map[string]refreshToken
	byAge   []string // refresh tokens, oldest first, for forgetting

	seen seenTokens
}

func newTokens() *tokens { return &tokens{signer: newSecret(), refresh: map[string]refreshToken{}} }

// restoreLocked takes over what an earlier network kept; refresh tokens come oldest first.
func (t *tokens) restoreLocked(signer []byte, generation int64, refresh []refreshToken) {
	t.signer = signer
	t.seen.clear()
	t.generation.Store(generation)
	for _, r := range refresh {
		t.refresh[r.Token] = r
		t.byAge = append(t.byAge, r.Token)
	}
}

// keptLocked returns the refresh tokens that count, oldest first.
func (t *tokens) keptLocked() []refreshToken {
	var out []refreshToken
	for _, token := range t.byAge {
		if r, ok := t.refresh[token]; ok {
			out = append(out, r)
		}
	}
	return out
}

func newSecret() []byte {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return secret
}

// sign makes a JWT for an organization's user, or for an agent's instance.
func (t *tokens) sign(org *Organization, agent, instance string, now time.Time, life time.Duration) (string, error) {
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		Org: org.ID, Agent: agent, Instance: instance, Generation: t.generation.Load(),
		RegisteredClaims: jwt.RegisteredClaims{
			Subject: org.UserID, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(life)), ID: rand.Text(),
		},
	}).SignedString(t.signer)
	if err != nil {
		return "", fmt.Errorf("issue access token for organization %s: %w", org.ID, err)
	}
	return token, nil
}

// verify returns what a JWT says, if it is still good.
func (t *tokens) verify(token string, now func() time.Time) (claims, error) {
	c, ok := t.seen.get(token)
	if !ok {
		_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return t.signer, nil },
			jwt.WithValidMethods([]string{"HS256"}), jwt.WithTimeFunc(now), jwt.WithExpirationRequired())
		switch {
		case errors.Is(err, jwt.ErrTokenExpired):
			return claims{}, Unauthorized("The access token is expired.")
		case err != nil:
			return claims{}, Unauthorized("The access token is invalid.")
		}
		t.seen.put(token, c)
	}
	if !now().Before(c.ExpiresAt.Time) || c.Generation < t.generation.Load() {
		return claims{}, Unauthorized("The access token is expired.")
	}
	return c, nil
}

// seenTokens remembers what the last good JWTs say: who sends many requests sends them with the same one.
type seenTokens struct {
	mu  sync.Mutex // guards all
	all map[string]claims
}

// maxSeenTokens bounds them; beyond it all are forgotten.
const maxSeenTokens = 1024

func (s *seenTokens) get(token string) (claims, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.all[token]
	return c, ok
}

func (s *seenTokens) put(token string, c claims) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil || len(s.all) >= maxSeenTokens {
		s.all = map[string]claims{}
	}
	s.all[token] = c
}

func (s *seenTokens) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
}

// addLocked keeps a refresh token, and forgets those that are used, expired or too many.
func (t *tokens) addLocked(r refreshToken, now time.Time) {
	t.refresh[r.Token] = r
	t.byAge = append(t.byAge, r.Token)
	for len(t.byAge) > 0 {
		r, ok := t.refresh[t.byAge[0]]
		if ok && now.Before(r.Expires) && len(t.refresh) <= maxRefreshTokens {
			break
		}
		delete(t.refresh, t.byAge[0])
		t.byAge = t.byAge[1:]
	}
	if len(t.byAge) > 2*len(t.refresh)+64 { // used ones behind an old one that is not
		t.byAge = slices.DeleteFunc(t.byAge, func(token string) bool { _, ok := t.refresh[token]; return !ok })
	}
}
