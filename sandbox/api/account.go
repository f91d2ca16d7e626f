package api

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/blocksd/blocksd/sandbox/blocks"
)

// keyLife is the lifetime of a key that is created by a browser login.
const keyLife = 90 * 24 * time.Hour

// cliConfig says what kind of deployment this is. An ordinary one has no such page.
func (s *Server) cliConfig(w http.ResponseWriter, r *http.Request) {
	if !s.cfg.Enterprise {
		notFound(w, r)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"enterprise": true, "productName": "Blocks sandbox", "dashboardBaseUrl": "http://" + s.origin, "oauthClientId": clientID,
	})
}

func (s *Server) pricingLimits(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{
		"minPricePerTask": blocks.MinPricePerTask, "maxPricePerTask": blocks.MaxPricePerTask,
		"minPricePerMinute": blocks.MinPricePerMinute, "maxPricePerMinute": blocks.MaxPricePerMinute,
		"maxFreeTasksAllowed": blocks.MaxFreeTasks, "maxFreeMinutesAllowed": blocks.MaxFreeMinutes,
	})
}

// publishContext says for which organization the caller would register an agent, and when its API key ends, if it does.
func (s *Server) publishContext(w http.ResponseWriter, r *http.Request) {
	p, err := s.identified(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	o := s.blocks.Own(p)
	body := map[string]any{"orgId": o.ID, "orgName": o.Name, "agentCount": o.AgentCount}
	if k, ok := s.blocks.Key(bearer(r)); ok && !k.Expires.IsZero() {
		body["keyId"], body["keyExpiresAt"] = k.ID, k.Expires.UTC().Format(time.RFC3339)
	}
	answer(w, http.StatusOK, body)
}

type orgBody struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Slug string `json:"slug"`
}

func (s *Server) orgs(w http.ResponseWriter, r *http.Request) {
	p, err := s.identified(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	o := s.blocks.Own(p)
	answer(w, http.StatusOK, map[string]any{"orgs": []orgBody{{o.ID, o.Name, o.Slug}}, "billingEnabled": !s.cfg.Enterprise})
}

func (s *Server) renameOrg(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Name string `json:"name"`
	}
	p, err := s.identified(r)
	if err == nil {
		err = read(r, &req)
	}
	var o blocks.Org
	if err == nil {
		o, err = s.blocks.RenameOrg(p, r.PathValue("id"), req.Name)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, orgBody{o.ID, o.Name, o.Slug})
}

// authorize is the page of a browser login. It asks no one: the sandbox serves its own machine only, so it sends
// the browser back at once. It redirects to loopback addresses only, where no one else gets the code.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	switch {
	case err != nil || back.Scheme != "http" || back.User != nil || !loopback(back.Hostname()):
		s.refuse(w, r, blocks.InvalidParams("redirect_uri must be an http address of this machine."))
		return
	case q.Get("client_id") != clientID:
		s.refuse(w, r, blocks.InvalidParams("client_id must be %s.", clientID))
		return
	}
	v := url.Values{}
	if state := q.Get("state"); state != "" {
		v.Set("state", state)
	}
	var problem string
	switch {
	case q.Get("response_type") != "code":
		problem = "unsupported_response_type"
	case q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256":
		problem = "invalid_request"
	default:
		code, err := s.blocks.Authorize(s.cfg.LoginOrgID, clientID, q.Get("redirect_uri"), q.Get("code_challenge"))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		v.Set("code", code)
	}
	if problem != "" {
		v.Set("error", problem)
	}
	back.RawQuery = v.Encode()
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, back.String(), http.StatusFound)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// oauthToken ends a browser login. Its errors have the form of OAuth.
func (s *Server) oauthToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	refuse := func(code, text string) {
		w.Header().Del(affinityHeader)
		answer(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": text})
	}
	if err := r.ParseForm(); err != nil {
		refuse("invalid_request", "The form cannot be read.")
		return
	}
	f := r.PostForm
	if f.Get("grant_type") != "authorization_code" {
		refuse("unsupported_grant_type", "grant_type must be authorization_code.")
		return
	}
	c, err := s.blocks.Redeem(f.Get("code"), f.Get("client_id"), f.Get("redirect_uri"), f.Get("code_verifier"))
	var e *blocks.Error
	if errors.As(err, &e) {
		refuse(e.Code, e.Message)
		return
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"access_token": c.AccessToken, "refresh_token": c.RefreshToken, "token_type": "Bearer", "expires_in": int(c.ExpiresIn / time.Second),
		"id_token": c.AccessToken, "scope": "openid profile email offline_access",
	})
}

// createKey makes an API key for an organization of the caller.
func (s *Server) createKey(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Name  string `json:"name"`
		OrgID string `json:"orgId"`
	}
	p, err := s.identified(r)
	if err == nil {
		err = read(r, &req)
	}
	var k blocks.APIKey
	if err == nil {
		k, err = s.blocks.CreateKey(p, req.OrgID, cut(req.Name), keyLife)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"apiKey": k.Secret, "keyId": k.ID, "expiresAt": k.Expires.UTC().Format(time.RFC3339)})
}
