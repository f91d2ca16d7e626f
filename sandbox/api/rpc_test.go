package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(t testing.TB) (*Server, string) {
	t.Helper()
	n, err := blocks.New(blocks.Config{
		Playground: wire.Keyset{PublishKey: "pf", SubscribeKey: "sf"}, Network: wire.Keyset{PublishKey: "pp", SubscribeKey: "sp"},
		Organizations: []blocks.Organization{{ID: "o1", UserID: "u1", APIKey: "k1"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Register(blocks.AgentSpec{Name: "echo", OrgID: "o1", BillingMode: wire.Free, Concurrency: 1}); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Blocks: n, Origin: "127.0.0.1:1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.ConsumerToken("k1")
	if err != nil {
		t.Fatal(err)
	}
	return s, c.AccessToken
}

func post(s *Server, path, bearer, body string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, "http://h"+path, strings.NewReader(body))
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	return w
}

func TestRPCFrames(t *testing.T) {
	s, token := newServer(t)
	tests := []struct{ body, want string }{
		{`{`, `{"error":{"code":-32600,"data":{"code":"InvalidParams","message":"The request body is invalid: it ends too early."},"message":"The request body is invalid: it ends too early."},"id":null,"jsonrpc":"2.0"}`},
		{`{"id":7}`, `{"error":{"code":-32600,"data":{"code":"InvalidRequest","message":"The request has no method."},"message":"The request has no method."},"id":7,"jsonrpc":"2.0"}`},
		{`{"id":"a","method":"GetTask","params":{}}`, `{"error":{"code":-32602,"data":{"code":"InvalidParams","message":"taskId is required."},"message":"taskId is required."},"id":"a","jsonrpc":"2.0"}`},
		{`{"id":"a","method":"ListTasks"}`, `{"jsonrpc":"2.0","id":"a","result":{"tasks":[],"next":null,"totalCount":0}}`},
	}
	for _, tt := range tests {
		w := post(s, "/api/v1/rpc", token, tt.body)
		if w.Code != 200 || w.Body.String() != tt.want {
			t.Errorf("%s: %d %s", tt.body, w.Code, w.Body)
		}
	}
	if w := post(s, "/api/v1/rpc", "nonsense", `{"method":"GetTask","params":{"taskId":"t"}}`); w.Code != 401 {
		t.Errorf("bad token: %d %s", w.Code, w.Body)
	}
}

func TestPipeDuration(t *testing.T) {
	for text, ok := range map[string]bool{`1`: true, `43200`: true, `60.0`: true, `0`: false, `-1`: false, `43201`: false, `15.5`: false, `true`: false, `"5"`: false, `null`: false} {
		var p sendParams
		if err := json.Unmarshal([]byte(`{"agentName":"a","billingMode":"free","requestParts":[],"extensions":{"blocks":{"taskKind":"pipe","duration":`+text+`}}}`), &p); err != nil {
			t.Fatal(err)
		}
		if _, err := p.request(); (err == nil) != ok {
			t.Errorf("duration %s: %v", text, err)
		}
	}
}

func FuzzRPC(f *testing.F) {
	s, token := newServer(f)
	f.Add(`{"jsonrpc":"2.0","id":"r","method":"SendMessage","params":{"agentName":"echo","billingMode":"free","requestParts":[{"partId":"p","text":"x"},1]}}`)
	f.Add(`{"method":"CancelTask","params":{"taskId":1}}`)
	f.Add(`[]`)
	f.Fuzz(func(t *testing.T, body string) {
		for _, path := range []string{"/api/v1/rpc", "/api/v1/auth/agent/connect", "/api/v1/auth/agent/refresh", "/api/v1/files/request-upload", "/api/v1/files/confirm-upload", "/api/v1/auth/task-read-token"} {
			bearer := token
			if strings.Contains(path, "/agent/") {
				bearer = "k1"
			}
			w := post(s, path, bearer, body)
			if !json.Valid(w.Body.Bytes()) || w.Code >= 500 {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
			if path == "/api/v1/rpc" && w.Code != 200 {
				t.Errorf("rpc: %d %s", w.Code, w.Body)
			}
		}
	})
}

// FuzzTool throws anything at what the official tool uses.
func FuzzTool(f *testing.F) {
	s, token := newServer(f)
	f.Add("?q=tag:x -y&limit=5&cursor=3:echo", `{"agentName":"echo","card":{"identity":{}},"listing":"public","billingMode":"paid","pricePerTask":"1"}`)
	f.Add("?agentName=echo", `{"listing":null,"pricePerTask":"9999999999999999999999999999999"}`)
	f.Add("?redirect_uri=http://127.0.0.1/%zz&client_id=blocksd-sandbox", `{"email":"a@b"}`)
	f.Fuzz(func(t *testing.T, query, body string) {
		u, err := url.Parse("http://h/")
		if err != nil {
			t.Fatal(err)
		}
		u.RawQuery = strings.TrimPrefix(query, "?")
		for _, x := range []string{
			"GET /api/v1/registry/agents", "POST /api/v1/registry/agents", "PATCH /api/v1/registry/agents", "GET /api/v1/registry/suggest", "GET /api/v1/agent-status",
			"PATCH /api/v1/orgs/o1", "POST /api/auth/api-key/create", "POST /api/v1/agents/echo/invitations", "POST /api/v1/agent-invitations/accept",
			"GET /api/auth/oauth2/authorize", "POST /api/auth/oauth2/token",
		} {
			method, path, _ := strings.Cut(x, " ")
			u.Path = path
			req := httptest.NewRequest(method, "http://h/", strings.NewReader(body))
			req.URL = u
			req.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			if w.Code >= 500 || w.Code != http.StatusFound && !json.Valid(w.Body.Bytes()) {
				t.Errorf("%s?%s %s: %d %s", x, u.RawQuery, body, w.Code, w.Body)
			}
		}
	})
}
