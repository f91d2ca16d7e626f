package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

// deployment is a server with three organizations and a clock of its own.
type deployment struct {
	*Server
	t   *testing.T
	now time.Time
	// bearers by name: k1, k2, k3 (API keys), j1, j2, j3 (consumers' JWTs), a1 (the JWT of an instance of echo).
	bearers map[string]string
}

const testCard = `{"identity":{"agentName":"NAME","displayName":"Agent NAME","description":"Says it again.","version":"1.0.0","provider":{"organization":"Test"}},` +
	`"tags":[{"id":"talk","name":"Talk"}],"capabilities":{"taskKinds":["request"]},` +
	`"io":{"inputs":[{"id":"request","description":"what","contentType":"text/plain","required":true,"example":"x"}],"outputs":[{"id":"reply","description":"that","contentType":"text/plain","guaranteed":true}]},` +
	`"runtime":{"handler":"main.go","concurrency":1}}`

func cardOf(name string) string { return strings.ReplaceAll(testCard, "NAME", name) }

func registration(name, more string) string {
	return `{"agentName":"` + name + `","card":` + cardOf(name) + `,"cliVersion":"1.0.20","protocolVersions":["2026-05-01"],"preferredProtocolVersion":"2026-05-01",` + more + `}`
}

func deploy(t *testing.T, change func(*blocks.Config, *Config)) *deployment {
	t.Helper()
	d := &deployment{t: t, now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), bearers: map[string]string{"": "", "bad": "bk_no"}}
	nc := blocks.Config{
		Now:        func() time.Time { return d.now },
		Playground: wire.Keyset{PublishKey: "pf", SubscribeKey: "sf"}, Network: wire.Keyset{PublishKey: "pp", SubscribeKey: "sp"},
		Organizations: []blocks.Organization{
			{ID: "o1", Name: "One", UserID: "u1", APIKey: "bk_1"}, {ID: "o2", Name: "Two", UserID: "u2", APIKey: "bk_2"}, {ID: "o3", Name: "Broke", UserID: "u3", APIKey: "bk_3", Broke: true},
		},
	}
	c := Config{Origin: "127.0.0.1:1", Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return d.now }, LoginOrgID: "o1"}
	if change != nil {
		change(&nc, &c)
	}
	n, err := blocks.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	c.Blocks = n
	if d.Server, err = New(c); err != nil {
		t.Fatal(err)
	}
	for _, i := range []string{"1", "2", "3"} {
		d.bearers["k"+i] = "bk_" + i
		token, err := n.ConsumerToken("bk_" + i)
		if err != nil {
			t.Fatal(err)
		}
		d.bearers["j"+i] = token.AccessToken
	}
	for _, a := range []struct{ name, more string }{
		{"echo", `"listing":"public","billingMode":"free"`},
		{"secret", `"listing":"private","billingMode":"free"`},
		{"paid", `"listing":"public","billingMode":"paid","pricePerTask":"0.050000","tcAcceptedAt":"2026-05-01T00:00:00Z"`},
	} {
		if status, body := d.do("POST", "/api/v1/registry/agents", "k1", registration(a.name, a.more)); status != 200 {
			t.Fatalf("register %s: %d %s", a.name, status, body)
		}
	}
	if status, body := d.do("POST", "/api/v1/auth/agent/connect", "k1", `{"agentName":"echo","instanceId":"AG-echo-1","billingMode":"free"}`); status != 201 {
		t.Fatalf("connect: %d %s", status, body)
	} else {
		d.bearers["a1"] = regexp.MustCompile(`"accessToken":"([^"]+)"`).FindStringSubmatch(body)[1]
	}
	return d
}

func (d *deployment) do(method, path, who, body string) (int, string) {
	status, text, _ := d.full(method, path, who, body, "application/json")
	return status, text
}

func (d *deployment) full(method, path, who, body, contentType string) (int, string, http.Header) {
	d.t.Helper()
	bearer, ok := d.bearers[who]
	if !ok {
		bearer = who
	}
	req := httptest.NewRequest(method, "http://h"+path, strings.NewReader(body))
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if body != "" {
		req.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, req)
	if got := w.Header().Get("Content-Type"); w.Body.Len() > 0 && w.Code != http.StatusFound && got != "application/json" {
		d.t.Errorf("%s %s: content type %q", method, path, got)
	}
	return w.Code, w.Body.String(), w.Header()
}

// refusal is the body of a refused request.
func refusal(code, message string) string {
	return `{"code":"` + code + `","error":"` + message + `","message":"` + message + `"}`
}

const (
	noKey   = `The API key is invalid or was revoked.`
	nobody  = `The request carries no API key and no access token.`
	noToken = `The request carries no access token.`
)
