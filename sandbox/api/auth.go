package api

import (
	"net/http"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

// tokens is the part of an answer that all kinds of credentials share.
type tokens struct {
	AccessToken  string `json:"accessToken"`
	RefreshToken string `json:"refreshToken"`
	ExpiresIn    int    `json:"expiresIn"`
	UserID       string `json:"userId,omitempty"`
}

func tokensOf(c blocks.Credentials) tokens {
	t := tokens{AccessToken: c.AccessToken, RefreshToken: c.RefreshToken, ExpiresIn: int(c.ExpiresIn / time.Second)}
	if !c.Agent {
		t.UserID = c.UserID
	}
	return t
}

// connect registers an instance.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) {
	var req struct {
		AgentName         string           `json:"agentName"`
		InstanceID        string           `json:"instanceId"`
		BillingMode       wire.BillingMode `json:"billingMode"`
		Concurrency       *int             `json:"concurrency"`
		MaxPendingBacklog *int             `json:"maxPendingBacklog"`
		ExpectedInstances *int             `json:"expectedInstances"`
		MaxRunningTimeSec *int             `json:"maxRunningTimeSec"`
		SDKLanguage       string           `json:"sdkLanguage"`
		SDKVersion        string           `json:"sdkVersion"`
		CLIVersion        string           `json:"cliVersion"`
		DeviceOS          string           `json:"deviceOs"`
		Preferred         string           `json:"preferredProtocolVersion"`
		Protocols         []string         `json:"protocolVersions"`
	}
	p, err := s.blocks.ByKey(bearer(r))
	if err == nil {
		err = read(r, &req)
	}
	var c blocks.Connection
	if err == nil {
		c, err = s.blocks.Connect(p, blocks.ConnectRequest{
			AgentName: req.AgentName, InstanceID: req.InstanceID, BillingMode: req.BillingMode,
			Concurrency: req.Concurrency, MaxPendingBacklog: req.MaxPendingBacklog,
			ExpectedInstances: req.ExpectedInstances, MaxRunningTimeSec: req.MaxRunningTimeSec,
			Build: blocks.Build{
				SDKLanguage: cut(req.SDKLanguage), SDKVersion: cut(req.SDKVersion), CLIVersion: cut(req.CLIVersion), DeviceOS: cut(req.DeviceOS),
				PreferredProtocol: cut(req.Preferred), Protocols: req.Protocols[:min(len(req.Protocols), maxProtocols)],
			},
		})
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusCreated, struct {
		AgentName      string `json:"agentName"`
		Name           string `json:"name"`
		AgentID        string `json:"agentId"`
		ControlChannel string `json:"controlChannel"`
		PAMToken       string `json:"pamToken"`
		tokens
	}{c.AgentName, c.DisplayName, c.AgentID, c.ControlChannel, c.PAMToken, tokensOf(c.Credentials)})
}

// maxProtocols is how many protocol versions of an instance are kept.
const maxProtocols = 8

// cut shortens what a client says about itself.
func cut(s string) string { return wire.CutText(s, 128) }

// refresh serves both kinds of refresh token.
func (s *Server) refresh(w http.ResponseWriter, r *http.Request) {
	var req struct {
		RefreshToken string `json:"refreshToken"`
	}
	if err := read(r, &req); err != nil {
		s.refuse(w, r, err)
		return
	}
	c, err := s.blocks.Refresh(bearer(r), req.RefreshToken)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, tokensOf(c))
}

func (s *Server) consumerToken(w http.ResponseWriter, r *http.Request) {
	var req struct {
		APIKey string `json:"apiKey"`
	}
	if err := read(r, &req); err != nil {
		s.refuse(w, r, err)
		return
	}
	c, err := s.blocks.ConsumerToken(req.APIKey)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, tokensOf(c))
}

type readTokenRequest struct {
	TaskID string `json:"taskId"`
	Role   string `json:"role"`
}

func (s *Server) taskReadToken(w http.ResponseWriter, r *http.Request) {
	var req readTokenRequest
	p, err := s.byToken(r)
	if err == nil {
		err = read(r, &req)
	}
	if err == nil && req.Role != "" && req.Role != "consumer" && req.Role != "provider" {
		err = blocks.InvalidParams("The role must be consumer or provider, not %q.", req.Role)
	}
	s.readToken(w, r, p, req, err)
}

func (s *Server) anonReadToken(w http.ResponseWriter, r *http.Request) {
	var req readTokenRequest
	err := read(r, &req)
	req.Role = ""
	s.readToken(w, r, nil, req, err)
}

func (s *Server) readToken(w http.ResponseWriter, r *http.Request, p *blocks.Principal, req readTokenRequest, err error) {
	var t blocks.ReadToken
	if err == nil {
		t, err = s.blocks.TaskReadToken(p, req.TaskID, req.Role == "provider")
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, struct {
		PAMToken   string `json:"pamToken"`
		Channel    string `json:"channel"`
		TTLMinutes int    `json:"ttlMinutes"`
	}{t.Token, t.Channel, int(t.TTL / time.Minute)})
}
