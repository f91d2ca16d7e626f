package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// ConnectRequest registers one instance of an agent. The device, the language and the protocol versions are added.
type ConnectRequest struct {
	AgentName, InstanceID string
	BillingMode           wire.BillingMode
	Listing               string // empty: left to the registry
	ExpectedInstances     int
	Concurrency           int
	// MaxPendingBacklog and MaxRunningTimeSec are nil for the network's defaults.
	MaxPendingBacklog, MaxRunningTimeSec *int
	SDKVersion                           string
	// OnGrant, which may be nil, is called with what every connect brings, also one that a refresh of the token had to
	// fall back to, before the call that led to it returns.
	OnGrant func(Grant)
}

// Grant is what an instance needs to go online. BillingMode is the one that it connected with: the token is for the
// keyset of that.
type Grant struct {
	AgentID, ControlChannel, PAMToken string
	BillingMode                       wire.BillingMode
}

// AgentSession holds the credentials of one instance of an agent. Its methods may be called from any goroutine.
type AgentSession struct {
	client *Client
	apiKey string
	renew  flight

	mu     sync.Mutex // guards what follows
	req    ConnectRequest
	tokens tokenPair
}

// tokenPair is a credential and what renews it. renewAt is when it should be renewed, zero when that is not known.
type tokenPair struct {
	access, refresh string
	renewAt         time.Time
}

// A token is renewed when a tenth of its life is left, but not earlier than renewAhead before its end: what is begun with
// it should not meet its end.
const (
	renewShare = 10
	renewAhead = 30 * time.Second
)

func (c *Client) newTokens(access, refresh string, expiresIn float64) tokenPair {
	t := tokenPair{access: access, refresh: refresh}
	if expiresIn > 0 && expiresIn < 1e9 {
		life := time.Duration(expiresIn * float64(time.Second))
		t.renewAt = c.now().Add(life - min(life/renewShare, renewAhead))
	}
	return t
}

// NewAgentSession makes a session; nothing is sent before Connect.
func (c *Client) NewAgentSession(apiKey string, req ConnectRequest) *AgentSession {
	return &AgentSession{client: c, apiKey: apiKey, req: req}
}

// SetBillingMode changes what the next Connect says: the network refuses a mode that is not the agent's.
func (s *AgentSession) SetBillingMode(m wire.BillingMode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.req.BillingMode = m
}

func (s *AgentSession) request() ConnectRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.req
}

// Connect registers the instance and returns its channel and token. It may be called again at any time, for a new token
// or after the network has forgotten the instance; the instance id stays. Transient faults are retried a few times.
func (s *AgentSession) Connect(ctx context.Context) (Grant, error) {
	r := s.request()
	a := apiCall{op: "connect", object: "agent " + r.AgentName, method: http.MethodPost, path: "/api/v1/auth/agent/connect", bearer: s.apiKey}
	a.body = struct {
		AgentName                string           `json:"agentName"`
		InstanceID               string           `json:"instanceId"`
		BillingMode              wire.BillingMode `json:"billingMode"`
		Listing                  string           `json:"listing,omitempty"` // the API refuses null, so what is unset is left out
		ExpectedInstances        int              `json:"expectedInstances"`
		Concurrency              int              `json:"concurrency"`
		MaxPendingBacklog        *int             `json:"maxPendingBacklog,omitempty"`
		MaxRunningTimeSec        *int             `json:"maxRunningTimeSec,omitempty"`
		DeviceOS                 string           `json:"deviceOs"`
		SDKLanguage              string           `json:"sdkLanguage"`
		SDKVersion               string           `json:"sdkVersion,omitempty"`
		ProtocolVersions         []string         `json:"protocolVersions"`
		PreferredProtocolVersion string           `json:"preferredProtocolVersion"`
	}{
		r.AgentName, r.InstanceID, r.BillingMode, r.Listing, r.ExpectedInstances, r.Concurrency, r.MaxPendingBacklog, r.MaxRunningTimeSec,
		deviceOS(), "Go", r.SDKVersion, []string{wire.ProtocolVersion}, wire.ProtocolVersion,
	}
	body, err := s.client.do(ctx, a)
	if err != nil {
		return Grant{}, err
	}
	grant, tokens, err := s.client.decodeConnect(a, body)
	if err != nil {
		return Grant{}, err
	}
	grant.BillingMode = r.BillingMode
	s.mu.Lock()
	s.tokens = tokens
	s.mu.Unlock()
	if r.OnGrant != nil {
		r.OnGrant(grant)
	}
	return grant, nil
}

func (c *Client) decodeConnect(a apiCall, body []byte) (Grant, tokenPair, error) {
	var o struct{ AccessToken, RefreshToken, AgentID, ControlChannel, PAMToken string }
	if err := decode(a, body, &o); err != nil {
		return Grant{}, tokenPair{}, err
	}
	for name, v := range map[string]string{"accessToken": o.AccessToken, "refreshToken": o.RefreshToken, "controlChannel": o.ControlChannel} {
		if v == "" {
			return Grant{}, tokenPair{}, &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the answer has no " + name}
		}
	}
	return Grant{AgentID: o.AgentID, ControlChannel: o.ControlChannel, PAMToken: o.PAMToken}, c.newTokens(o.AccessToken, o.RefreshToken, lifetime(body)), nil
}

// lifetime reads expiresIn, in seconds; 0 if there is none or it is not a number.
func lifetime(body []byte) float64 {
	var o struct{ ExpiresIn json.RawMessage }
	var v float64
	if json.Unmarshal(body, &o) != nil || json.Unmarshal(o.ExpiresIn, &v) != nil {
		return 0
	}
	return v
}

func deviceOS() string {
	switch runtime.GOOS {
	case "linux", "darwin", "windows":
		return runtime.GOOS
	}
	return "unknown"
}

func (s *AgentSession) current() tokenPair {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

// call sends a request with the session's token. A token near its end is renewed first; on 401 there is a new one, once.
// Many callers that need a new one at the same time share one refresh. There is no timer: a session that sends nothing
// needs no token.
func (s *AgentSession) call(ctx context.Context, a apiCall) ([]byte, error) {
	used := s.current()
	if used.access == "" {
		return nil, fmt.Errorf("%s %s: agent %s has not connected yet", a.op, a.object, s.request().AgentName)
	}
	if !used.renewAt.IsZero() && !s.client.now().Before(used.renewAt) {
		switch err := s.replace(ctx, used); {
		case err == nil:
			used = s.current()
		case isFinal(err):
			return nil, err
		default: // the old one may still do
			s.client.log.Info("could not renew a token ahead of its end", "agent", s.request().AgentName, "err", err)
		}
	}
	a.bearer = used.access
	body, err := s.client.do(ctx, a)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != http.StatusUnauthorized {
		return body, err
	}
	if err := s.replace(ctx, used); err != nil {
		return nil, err
	}
	a.bearer = s.current().access
	return s.client.do(ctx, a)
}

// replace gets new tokens unless another caller has replaced the used ones meanwhile.
func (s *AgentSession) replace(ctx context.Context, used tokenPair) error {
	if s.current().access != used.access {
		return nil
	}
	return s.renew.do(ctx, func(ctx context.Context) error {
		if s.current().access != used.access {
			return nil
		}
		return s.refresh(ctx)
	})
}

// Verify asks the network whether it still takes this session, by renewing its tokens. An error that is Final says that it
// does not.
func (s *AgentSession) Verify(ctx context.Context) error {
	return s.replace(ctx, s.current())
}

func isFinal(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Final()
}

// refresh replaces the tokens, by connecting again where the refresh token is no longer known.
func (s *AgentSession) refresh(ctx context.Context) error {
	a := apiCall{
		op: "refresh the token of", object: "agent " + s.request().AgentName, method: http.MethodPost, path: "/api/v1/auth/agent/refresh",
		bearer: s.apiKey, body: refreshBody{s.current().refresh},
	}
	body, err := s.client.do(ctx, a)
	if e, ok := errors.AsType[*Error](err); ok && e.Code == codeRefreshInvalid {
		_, err := s.Connect(ctx)
		return err
	}
	if err != nil {
		return err
	}
	var o struct{ AccessToken, RefreshToken string }
	if err := decode(a, body, &o); err != nil {
		return err
	}
	if o.AccessToken == "" || o.RefreshToken == "" {
		return &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the answer has no accessToken or no refreshToken"}
	}
	s.mu.Lock()
	s.tokens = s.client.newTokens(o.AccessToken, o.RefreshToken, lifetime(body))
	s.mu.Unlock()
	return nil
}

type refreshBody struct {
	RefreshToken string `json:"refreshToken"`
}
