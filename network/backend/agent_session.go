package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"

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
}

// Grant is what an instance needs to go online.
type Grant struct{ AgentID, ControlChannel, PAMToken string }

// AgentSession holds the credentials of one instance of an agent. Its methods may be called from any goroutine.
type AgentSession struct {
	client *Client
	apiKey string
	req    ConnectRequest
	renew  flight

	mu     sync.Mutex
	tokens tokenPair // guarded by mu
}

type tokenPair struct{ access, refresh string }

// NewAgentSession makes a session; nothing is sent before Connect.
func (c *Client) NewAgentSession(apiKey string, req ConnectRequest) *AgentSession {
	return &AgentSession{client: c, apiKey: apiKey, req: req}
}

// Connect registers the instance and returns its channel and token. It may be called again at any time, for a new token
// or after the network has forgotten the instance; the instance id stays. Transient faults are retried a few times.
func (s *AgentSession) Connect(ctx context.Context) (Grant, error) {
	r := s.req
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
	grant, tokens, err := decodeConnect(a, body)
	if err != nil {
		return Grant{}, err
	}
	s.mu.Lock()
	s.tokens = tokens
	s.mu.Unlock()
	return grant, nil
}

func decodeConnect(a apiCall, body []byte) (Grant, tokenPair, error) {
	var o struct{ AccessToken, RefreshToken, AgentID, ControlChannel, PAMToken string }
	if err := decode(a, body, &o); err != nil {
		return Grant{}, tokenPair{}, err
	}
	for name, v := range map[string]string{"accessToken": o.AccessToken, "refreshToken": o.RefreshToken, "controlChannel": o.ControlChannel} {
		if v == "" {
			return Grant{}, tokenPair{}, &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the answer has no " + name}
		}
	}
	return Grant{o.AgentID, o.ControlChannel, o.PAMToken}, tokenPair{o.AccessToken, o.RefreshToken}, nil
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

// call sends a request with the session's token; on 401 it gets a new one, once. Many callers refused at the same time
// share one refresh.
func (s *AgentSession) call(ctx context.Context, a apiCall) ([]byte, error) {
	used := s.current()
	if used.access == "" {
		return nil, fmt.Errorf("%s %s: agent %s has not connected yet", a.op, a.object, s.req.AgentName)
	}
	a.bearer = used.access
	body, err := s.client.do(ctx, a)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != http.StatusUnauthorized {
		return body, err
	}
	if s.current().access == used.access { // else another caller has renewed it meanwhile
		err := s.renew.do(ctx, func(ctx context.Context) error {
			if s.current().access != used.access {
				return nil
			}
			return s.refresh(ctx)
		})
		if err != nil {
			return nil, err
		}
	}
	a.bearer = s.current().access
	return s.client.do(ctx, a)
}

// refresh replaces the tokens, by connecting again where the refresh token is no longer known.
func (s *AgentSession) refresh(ctx context.Context) error {
	a := apiCall{
		op: "refresh the token of", object: "agent " + s.req.AgentName, method: http.MethodPost, path: "/api/v1/auth/agent/refresh",
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
	s.tokens = tokenPair{o.AccessToken, o.RefreshToken}
	s.mu.Unlock()
	return nil
}

type refreshBody struct {
	RefreshToken string `json:"refreshToken"`
}
