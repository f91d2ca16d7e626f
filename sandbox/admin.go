package sandbox

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// AdminPath is where the administrator's interface begins. It is not part of a Blocks Network, and faults do
// not apply to it, so that they can always be removed.
const AdminPath = "/_sandbox/"

// Limits of the administrator's interface.
const (
	maxAdminBody = 1 << 20
	maxAdminWait = 5 * time.Minute
	adminPoll    = 5 * time.Millisecond
)

// Faults injects faults and records requests.
func (s *Sandbox) Faults() *fault.Injector { return s.faults }

// CreateKey makes an API key for an organization; a life of zero is without end.
func (s *Sandbox) CreateKey(orgID, name string, life time.Duration) (blocks.APIKey, error) {
	k, err := s.blocks.CreateKey(nil, orgID, name, life)
	if err != nil {
		return k, fmt.Errorf("create API key in the sandbox: %w", err)
	}
	return k, nil
}

// RevokeKey revokes an API key, given by itself or by its id.
func (s *Sandbox) RevokeKey(key string) error {
	if _, err := s.blocks.RevokeKey(key); err != nil {
		return fmt.Errorf("revoke API key in the sandbox: %w", err)
	}
	return nil
}

// RevokeToken revokes a PubNub token.
func (s *Sandbox) RevokeToken(token string) error {
	var last error
	for _, manager := range s.managers {
		if last = manager.Revoke(token); last == nil {
			return nil
		}
	}
	return fmt.Errorf("revoke token in the sandbox: %w", last)
}

// ExpireTokens expires all JWTs now and, with refreshTokens, forgets all refresh tokens.
func (s *Sandbox) ExpireTokens(refreshTokens bool) { s.blocks.ExpireTokens(refreshTokens) }

// SwitchEnvironment moves an agent to the keyset of another billing mode while it runs.
func (s *Sandbox) SwitchEnvironment(agentName string, mode wire.BillingMode) error {
	if err := s.blocks.SwitchEnvironment(agentName, mode); err != nil {
		return fmt.Errorf("switch environment of agent %s in the sandbox: %w", agentName, err)
	}
	return nil
}

// admin is the administrator's interface.
func (s *Sandbox) admin() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(r *http.Request) (any, error){
		"GET " + AdminPath + "{$}":                        s.adminStatus,
		"GET " + AdminPath + "faults":                     s.adminFaults,
		"POST " + AdminPath + "faults":                    s.adminAddFault,
		"DELETE " + AdminPath + "faults":                  s.adminClearFaults,
		"DELETE " + AdminPath + "faults/{id}":             s.adminRemoveFault,
		"POST " + AdminPath + "outage":                    s.adminOutage,
		"PUT " + AdminPath + "recording":                  s.adminRecording,
		"GET " + AdminPath + "requests":                   s.adminRequests,
		"PUT " + AdminPath + "clock":                      s.adminClock,
		"POST " + AdminPath + "expire":                    s.adminExpire,
		"POST " + AdminPath + "revoke":                    s.adminRevoke,
		"GET " + AdminPath + "keys":                       s.adminKeys,
		"POST " + AdminPath + "keys":                      s.adminCreateKey,
		"DELETE " + AdminPath + "keys/{id}":               s.adminRevokeKey,
		"POST " + AdminPath + "agents/{name}/offline":     s.adminOffline,
		"DELETE " + AdminPath + "agents/{name}/offline":   s.adminOnline,
		"POST " + AdminPath + "agents/{name}/environment": s.adminEnvironment,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := handle(r)
			if err != nil {
				s.adminRefuse(w, err)
				return
			}
			adminAnswer(w, http.StatusOK, v)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.adminRefuse(w, &blocks.Error{Status: http.StatusNotFound, Code: "NotFound", Message: "There is no " + r.Method + " " + r.URL.Path + " here."})
	})
	want := sha256.Sum256([]byte(s.keys.AdminToken))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			s.adminRefuse(w, blocks.Unauthorized("The administrator's interface needs the token that the sandbox prints, BLOCKSD_SANDBOX_TOKEN."))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
		mux.ServeHTTP(w, r)
	})
}

func adminAnswer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"The answer cannot be encoded.","code":"Internal"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may have disconnected
}

func (s *Sandbox) adminRefuse(w http.ResponseWriter, err error) {
	var e *blocks.Error
	if !errors.As(err, &e) {
		e = blocks.InvalidParams("%v", err)
	}
	adminAnswer(w, e.Status, map[string]string{"error": e.Message, "code": e.Code})
}

// adminDecode reads the body of an administrator's request; an unknown member is a mistake.
func adminDecode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return blocks.InvalidParams("The request body is invalid: %s.", blocks.DescribeJSONError(err))
	}
	return nil
}

type done struct {
	Done bool `json:"done"`
}

func (s *Sandbox) adminStatus(*http.Request) (any, error) {
	type space struct {
		SubscribeKey string `json:"subscribeKey"`
		Channels     int    `json:"channels"`
		Messages     int    `json:"messages"`
		Members      int    `json:"members"`
		Bytes        int64  `json:"bytes"`
	}
	spaces := []space{}
	for _, sp := range s.spaces {
		st := sp.Stats()
		spaces = append(spaces, space{sp.SubscribeKey(), st.Channels, st.Messages, st.Members, st.Bytes})
	}
	st := s.blocks.Stats()
	return map[string]any{
		"version": s.cfg.Version, "url": s.URL(), "agents": st.Agents, "instances": st.Instances, "tasks": st.Tasks, "running": st.Running,
		"queued": st.Queued, "faults": len(s.faults.Rules()), "recording": s.faults.Recording(), "skew": fault.Duration(s.skew.Load()),
		"spaces": spaces, "time": s.now().UTC(),
	}, nil
}

func (s *Sandbox) adminFaults(*http.Request) (any, error) {
	return map[string]any{"faults": s.faults.Rules(), "endpoints": s.faults.Endpoints()}, nil
}

func (s *Sandbox) adminAddFault(r *http.Request) (any, error) {
	var rule fault.Rule
	if err := adminDecode(r, &rule); err != nil {
		return nil, err
	}
	id, err := s.faults.Add(rule)
	if err != nil {
		return nil, err
	}
	return map[string]string{"id": id}, nil
}

func (s *Sandbox) adminClearFaults(*http.Request) (any, error) {
	s.faults.Clear()
	return done{true}, nil
}

func (s *Sandbox) adminRemoveFault(r *http.Request) (any, error) {
	id := r.PathValue("id")
	if !s.faults.Remove(id) {
		return nil, &blocks.Error{Status: http.StatusNotFound, Code: "FaultNotFound", Message: "There is no fault " + id + "."}
	}
	return done{true}, nil
}

func (s *Sandbox) adminOutage(r *http.Request) (any, error) {
	req := struct {
		Side string `json:"side"`
	}{fault.SidePubNub}
	if err := adminDecode(r, &req); err != nil {
		return nil, err
	}
	if req.Side != fault.SidePubNub && req.Side != fault.SideBlocks {
		return nil, blocks.InvalidParams("side must be pubnub or blocks, not %q.", req.Side)
	}
	id, err := s.faults.Outage(req.Side)
	if err != nil {
		return nil, err
	}
	return map[string]string{"id": id}, nil
}

func (s *Sandbox) adminRecording(r *http.Request) (any, error) {
	req := struct {
		On    bool `json:"on"`
		Limit int  `json:"limit"`
	}{On: true}
	if err := adminDecode(r, &req); err != nil {
		return nil, err
	}
	s.faults.Record(req.On, req.Limit)
	return done{true}, nil
}

// adminRequests lists recorded requests: those after a number, of an endpoint, on a channel, with a text; it waits
// until there are enough of them if the query says so.
func (s *Sandbox) adminRequests(r *http.Request) (any, error) {
	q := r.URL.Query()
	number := func(name string, fallback int64) (int64, error) {
		text := q.Get(name)
		if text == "" {
			return fallback, nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return 0, blocks.InvalidParams("%s must be a number, not %q.", name, text)
		}
		return n, nil
	}
	after, err := number("after", 0)
	if err != nil {
		return nil, err
	}
	count, err := number("count", 0)
	if err != nil {
		return nil, err
	}
	var limit time.Duration
	if text := q.Get("wait"); text != "" {
		if limit, err = time.ParseDuration(text); err != nil || limit < 0 || limit > maxAdminWait {
			return nil, blocks.InvalidParams("wait must be a duration of at most %s, not %q.", maxAdminWait, text)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	tick := time.NewTicker(adminPoll)
	defer tick.Stop()
	for {
		found := slices.DeleteFunc(s.faults.Requests(after), func(e fault.Request) bool {
			return q.Get("endpoint") != "" && q.Get("endpoint") != e.Endpoint && q.Get("endpoint") != e.Side ||
				q.Get("channel") != "" && !slices.Contains(e.Channels, q.Get("channel")) || q.Get("rpc") != "" && q.Get("rpc") != e.RPC ||
				q.Get("contains") != "" && !strings.Contains(e.Path+"\n"+e.Body, q.Get("contains"))
		})
		if int64(len(found)) >= max(count, 1) || limit == 0 || ctx.Err() != nil {
			return map[string]any{"requests": found}, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func (s *Sandbox) adminClock(r *http.Request) (any, error) {
	var req struct {
		Skew string `json:"skew"`
	}
	if err := adminDecode(r, &req); err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(req.Skew)
	if err != nil {
		return nil, blocks.InvalidParams("skew must be a duration such as 90s or -2m, not %q.", req.Skew)
	}
	s.SetSkew(d)
	return done{true}, nil
}

func (s *Sandbox) adminExpire(r *http.Request) (any, error) {
	var req struct {
		RefreshTokens bool `json:"refreshTokens"`
	}
	if err := adminDecode(r, &req); err != nil {
		return nil, err
	}
	s.ExpireTokens(req.RefreshTokens)
	return done{true}, nil
}

func (s *Sandbox) adminRevoke(r *http.Request) (any, error) {
	var req struct {
		Token string `json:"token"`
	}
	if err := adminDecode(r, &req); err != nil {
		return nil, err
	}
	if err := s.RevokeToken(req.Token); err != nil {
		return nil, err
	}
	return done{true}, nil
}

// keyBody is an API key as the administrator sees it.
type keyBody struct {
	ID      string     `json:"id"`
	Name    string     `json:"name"`
	OrgID   string     `json:"orgId"`
	Secret  string     `json:"apiKey,omitempty"`
	Created time.Time  `json:"createdAt"`
	Expires *time.Time `json:"expiresAt"`
	Revoked bool       `json:"revoked"`
}

func keyOf(k blocks.APIKey) keyBody {
	b := keyBody{k.ID, k.Name, k.OrgID, k.Secret, k.Created.UTC(), nil, k.Revoked}
	if !k.Expires.IsZero() {
		t := k.Expires.UTC()
		b.Expires = &t
	}
	return b
}

func (s *Sandbox) adminKeys(*http.Request) (any, error) {
	out := []keyBody{}
	for _, k := range s.blocks.Keys() {
		out = append(out, keyOf(k))
	}
	return map[string]any{"keys": out}, nil
}

func (s *Sandbox) adminCreateKey(r *http.Request) (any, error) {
	var req struct {
		OrgID     string         `json:"orgId"`
		Name      string         `json:"name"`
		ExpiresIn fault.Duration `json:"expiresIn"`
	}
	if err := adminDecode(r, &req); err != nil {
		return nil, err
	}
	if req.OrgID == "" {
		req.OrgID = s.keys.Orgs[0].ID
	}
	k, err := s.blocks.CreateKey(nil, req.OrgID, req.Name, time.Duration(req.ExpiresIn))
	if err != nil {
		return nil, err
	}
	return keyOf(k), nil
}

func (s *Sandbox) adminRevokeKey(r *http.Request) (any, error) {
	k, err := s.blocks.RevokeKey(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return keyOf(k), nil
}

func (s *Sandbox) adminOffline(r *http.Request) (any, error) {
	return done{true}, s.blocks.ForceOffline(r.PathValue("name"), true)
}

func (s *Sandbox) adminOnline(r *http.Request) (any, error) {
	return done{true}, s.blocks.ForceOffline(r.PathValue("name"), false)
}

func (s *Sandbox) adminEnvironment(r *http.Request) (any, error) {
	var req struct {
		BillingMode wire.BillingMode `json:"billingMode"`
	}
	if err := adminDecode(r, &req); err != nil {
		return nil, err
	}
	return done{true}, s.blocks.SwitchEnvironment(r.PathValue("name"), req.BillingMode)
}
