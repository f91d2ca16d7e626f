package backend_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

func TestFetchCDM(t *testing.T) {
	w := newWorld(t)
	if w.cdm.PubNubOrigin != w.sb.Addr() || w.cdm.BaseURL != w.sb.URL() || w.cdm.Keyset(wire.Free) == w.cdm.Keyset(wire.Paid) {
		t.Errorf("%+v", w.cdm)
	}
	if got := w.faults.requests("/cdm")[0].header; got.Get("Blocks-Protocol-Version") != "" || got.Get("Authorization") != "" {
		t.Errorf("sent %v", got)
	}
	for _, address := range []string{"file:///etc/passwd", "nonsense", w.sb.URL() + "/api/v1/unknown", "http://127.0.0.1:1/x"} {
		if _, err := backend.FetchCDM(within(t), nil, address); err == nil {
			t.Errorf("%s: fetched", address)
		}
	}
}

func TestRegistry(t *testing.T) {
	w := newWorld(t)
	a, err := w.api.Agent(within(t), w.sb.APIKey(), "secret")
	if err != nil || a.BillingMode != wire.Paid || a.Listing != "private" || a.DisplayName != "Test" || len(a.Card) == 0 {
		t.Errorf("%+v, %v", a, err)
	}
	h := w.faults.requests("/registry/")[0].header
	if h.Get("Blocks-Protocol-Version") != wire.ProtocolVersion || h.Get("Authorization") != "Bearer "+w.sb.APIKey() {
		t.Errorf("sent %v", h)
	}
	for _, bearer := range []string{"", w.sb.APIKey()} {
		name := map[string]string{"": "secret"}[bearer] + "x"
		if _, err := w.api.Agent(within(t), bearer, name); !errors.Is(err, backend.ErrNotFound) {
			t.Errorf("agent %s: %v", name, err)
		}
	}
	w.faults.set(times(2, "/registry/", func() *http.Response { return answer(503, ``) }, nil, false))
	if _, err := w.api.Agent(within(t), "", "echo"); err != nil {
		t.Errorf("after two 503: %v", err)
	}
}

func TestConnect(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	if _, err := s.UploadOutput(within(t), file("x")); err == nil {
		t.Error("uploads without a connection")
	}
	first, err := s.Connect(within(t))
	if err != nil || first.ControlChannel == "" || first.PAMToken == "" || first.AgentID == "" {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := s.Connect(within(t))
	if err != nil || again.ControlChannel != first.ControlChannel {
		t.Errorf("%+v, %v", again, err)
	}
	var body map[string]any
	_ = json.Unmarshal(w.faults.requests("/connect")[0].body, &body)
	if body["sdkLanguage"] != "Go" || body["preferredProtocolVersion"] != wire.ProtocolVersion || body["instanceId"] != "AG-echo-1" {
		t.Errorf("sent %v", body)
	}
	for name, v := range body {
		if v == nil {
			t.Errorf("sent %s as null, which the API refuses", name)
		}
	}
}

func TestFinalCodes(t *testing.T) {
	w := newWorld(t)
	_, err := w.api.NewAgentSession("bk_wrong", backend.ConnectRequest{AgentName: "echo", InstanceID: "AG-echo-1", BillingMode: wire.Free}).Connect(within(t))
	e, ok := errors.AsType[*backend.Error](err)
	if !ok || !e.Final() || strings.Contains(err.Error(), "bk_wrong") {
		t.Errorf("wrong key: %v", err)
	}
	w.faults.set(times(1, "/connect", func() *http.Response { return answer(403, `{"code":"AGENT_FORCED_OFFLINE","error":"no"}`) }, nil, false))
	_, err = w.session().Connect(within(t))
	if e, ok := errors.AsType[*backend.Error](err); !ok || !e.Final() {
		t.Errorf("forced offline: %v", err)
	}
}

func TestAgentTokenIsRenewedOnce(t *testing.T) {
	for name, code := range map[string]string{"by refresh": "", "by connecting again": `{"code":"REFRESH_TOKEN_INVALID","error":"unknown"}`} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *sandbox.Config) { c.AgentTokenTTL = time.Minute })
			s := w.session()
			if _, err := s.Connect(within(t)); err != nil {
				t.Fatal(err)
			}
			w.clock.advance(2 * time.Minute)
			w.faults.forget()
			if code != "" {
				w.faults.set(times(1, "/refresh", func() *http.Response { return answer(401, code) }, nil, false))
			}
			var calls sync.WaitGroup
			for range 10 {
				calls.Go(func() {
					u := file("x")
					u.TaskID = "unknown"
					_, err := s.UploadOutput(within(t), u)
					if e, ok := errors.AsType[*backend.Error](err); !ok || e.Status == http.StatusUnauthorized || e.Status == 0 {
						t.Errorf("%v", err)
					}
				})
			}
			calls.Wait()
			connects := 0
			if code != "" {
				connects = 1
			}
			if got := len(w.faults.requests("/refresh")); got != 1 {
				t.Errorf("%d refreshes", got)
			}
			if got := len(w.faults.requests("/connect")); got != connects {
				t.Errorf("%d connects", got)
			}
		})
	}
}

// TestAgentTokenIsRenewedAhead: an upload never starts with a token that is about to end, a failure to renew it does not
// keep a token from being used that is still good, and what a connect in place of a refresh brings is not thrown away.
func TestAgentTokenIsRenewedAhead(t *testing.T) {
	w := newWorld(t, func(c *sandbox.Config) { c.AgentTokenTTL = time.Minute })
	now := &clock{}
	api, err := backend.New(backend.Config{BaseURL: w.cdm.BaseURL, HTTP: &http.Client{Transport: w.faults}, Now: now.now})
	if err != nil {
		t.Fatal(err)
	}
	var grants []backend.Grant
	s := api.NewAgentSession(w.sb.APIKey(), backend.ConnectRequest{
		AgentName: "echo", InstanceID: "AG-echo-1", BillingMode: wire.Free, OnGrant: func(g backend.Grant) { grants = append(grants, g) },
	})
	if _, err := s.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	upload := func() {
		t.Helper()
		w.faults.forget()
		u := file("x")
		u.TaskID = "unknown"
		_, err := s.UploadOutput(within(t), u)
		if e, ok := errors.AsType[*backend.Error](err); !ok || e.Status == http.StatusUnauthorized || e.Status == 0 {
			t.Errorf("%v", err)
		}
	}
	upload()
	if n := len(w.faults.requests("/refresh")); n != 0 {
		t.Errorf("a new token was refreshed %d times", n)
	}
	now.advance(55 * time.Second)
	w.faults.set(times(100, "/refresh", func() *http.Response { return answer(400, `{}`) }, nil, false))
	upload()
	if n := len(w.faults.requests("/request-upload")); n != 1 {
		t.Errorf("%d uploads were requested with the old token, which is still good", n)
	}
	w.faults.set(times(1, "/refresh", func() *http.Response { return answer(401, `{"code":"REFRESH_TOKEN_INVALID","error":"unknown"}`) }, nil, false))
	upload()
	if n := len(w.faults.requests("/refresh")); n != 1 || len(grants) != 2 || grants[1].PAMToken == "" || grants[1].BillingMode != wire.Free {
		t.Errorf("%d refreshes, grants %d", n, len(grants))
	}
	upload()
	if n := len(w.faults.requests("/refresh")); n != 0 {
		t.Errorf("the new token was refreshed %d times", n)
	}
}

func TestConsumerTokenLife(t *testing.T) {
	w := newWorld(t, func(c *sandbox.Config) { c.ConsumerTokenTTL = time.Minute })
	now := &clock{}
	api, err := backend.New(backend.Config{BaseURL: w.cdm.BaseURL, HTTP: &http.Client{Transport: w.faults}, Now: now.now})
	if err != nil {
		t.Fatal(err)
	}
	c := api.NewConsumer(w.sb.APIKey())
	id, err := c.UserID(within(t))
	if err != nil || id == "" {
		t.Fatal(id, err)
	}
	h := w.faults.requests("/consumer-token")[0].header
	if h.Get("Blocks-Protocol-Version") != "" || h.Get("Authorization") != "" {
		t.Errorf("sent %v", h)
	}
	now.advance(40 * time.Second)
	_, _ = c.UserID(within(t))
	if got := len(w.faults.requests("/refresh")); got != 0 {
		t.Error("renewed too early")
	}
	now.advance(9 * time.Second) // past four fifths
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() {
			if _, err := c.UserID(within(t)); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	refreshes := w.faults.requests("/refresh")
	if len(refreshes) != 1 || refreshes[0].header.Get("Authorization") != "Bearer "+w.sb.APIKey() || refreshes[0].header.Get("Blocks-Protocol-Version") != "" {
		t.Errorf("%d refreshes", len(refreshes))
	}

	// A renewal ahead of time that fails does not matter; a refused token does and is renewed, anew if need be.
	now.advance(50 * time.Second)
	w.faults.set(times(100, "/refresh", func() *http.Response { return answer(503, ``) }, nil, false))
	if _, err := c.UserID(within(t)); err != nil {
		t.Errorf("renewal ahead of time failed: %v", err)
	}
	w.clock.advance(10 * time.Minute)
	w.faults.set(times(1, "/refresh", func() *http.Response { return answer(401, `{"code":"REFRESH_TOKEN_INVALID"}`) }, nil, false))
	if _, _, err := c.ListTasks(within(t), backend.ListFilter{}); err != nil {
		t.Errorf("with an expired token: %v", err)
	}
	if _, err := api.NewConsumer("bk_wrong").UserID(within(t)); err == nil || strings.Contains(err.Error(), "bk_wrong") {
		t.Errorf("wrong key: %v", err)
	}
}
