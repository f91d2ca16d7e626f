package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// virtually runs a test by a virtual clock.
func virtually(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { test(t, newVirtualWorld(t)) })
}

// token gets a consumer's token from the sandbox, as a server of an application would.
func (w *world) token() string {
	w.t.Helper()
	hc := &http.Client{Transport: w.transport}
	resp, err := hc.Post(w.sb.URL()+"/api/v1/auth/agent/consumer-token", "application/json", strings.NewReader(fmt.Sprintf(`{"apiKey":%q}`, w.sb.APIKey())))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var o struct{ AccessToken string }
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || o.AccessToken == "" {
		w.t.Fatalf("%+v, %v", o, err)
	}
	return o.AccessToken
}

// C1, C55: what is wrong is found before anything is sent, and said in a sentence that names what to change.
func TestOptionsAreCheckedFirst(t *testing.T) {
	w := newWorld(t)
	endpoint := &client.TokenEndpoint{URL: "http://tokens.example/"}
	for _, c := range []struct {
		name, says string
		change     func(*client.Options)
	}{
		{"mode", "client.Free, client.Paid", func(o *client.Options) { o.BillingMode = "cheap" }},
		{"no credential", "set Options.APIKey", func(o *client.Options) { o.APIKey = "" }},
		{"two credentials", "APIKey and TokenEndpoint are given", func(o *client.Options) { o.TokenEndpoint = endpoint }},
		{"anonymous and paid", "leave it empty", func(o *client.Options) { o.APIKey, o.Anonymous, o.BillingMode = "", "fp", client.Paid }},
		{"endpoint without an address", "TokenEndpoint.URL", func(o *client.Options) { o.APIKey, o.TokenEndpoint = "", &client.TokenEndpoint{} }},
		{"body that is no JSON", "sent as JSON", func(o *client.Options) {
			o.APIKey, o.TokenEndpoint = "", &client.TokenEndpoint{URL: "http://tokens.example/", Body: func() {}}
		}},
		{"document of another scheme", "CDMURL", func(o *client.Options) { o.CDMURL = "file:///etc/passwd" }},
		{"API of another scheme", "BackendURL", func(o *client.Options) { o.BackendURL = "ftp://x" }},
		{"origin with a scheme", "without a scheme", func(o *client.Options) { o.PubNubOrigin = "http://x" }},
		{"inline limit", "InlineLimit", func(o *client.Options) { o.InlineLimit = 1 << 20 }},
		{"inline limit that is no number", "ARTIFACT_INLINE_LIMIT_BYTES", func(o *client.Options) {
			o.Getenv = func(name string) string { return map[string]string{"ARTIFACT_INLINE_LIMIT_BYTES": "many"}[name] }
		}},
	} {
		o := w.options()
		c.change(&o)
		got, err := client.New(within(t), o)
		if err == nil {
			got.Close()
			t.Errorf("%s: taken", c.name)
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n := len(w.spy.find("/", "")); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// C3: the document is read once, and must be whole.
func TestDeploymentDocument(t *testing.T) {
	w := newWorld(t)
	w.client()
	if n := len(w.spy.find("/api/v1/cdm", "")); n != 1 {
		t.Errorf("%d requests for the document", n)
	}
	keys := func(names ...string) string {
		var b strings.Builder
		for _, n := range names {
			fmt.Fprintf(&b, `"%s":{"publishKey":"p","subscribeKey":"s"},`, n)
		}
		return b.String()
	}
	for name, document := range map[string]string{
		"no playground": `{` + keys("network") + `"api":{"baseUrl":"http://127.0.0.1:1"}}`,
		"no network":    `{` + keys("playground") + `"api":{"baseUrl":"http://127.0.0.1:1"}}`,
		"no API":        `{` + keys("playground", "network") + `"x":1}`,
	} {
		id := w.fault(fault.Rule{Path: "/api/v1/cdm", Status: 200, Body: document})
		if c, err := client.New(within(t), w.options()); err == nil {
			c.Close()
			t.Errorf("%s: taken", name)
		}
		w.sb.Faults().Remove(id)
	}
}

// C4, C5: a key is exchanged once, and the token renewed when four fifths of its minute are over, though nobody calls.
func TestKeyIsExchangedAndTokenRenewed(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		c := w.client()
		if c.UserID() != "user_1" {
			t.Errorf("user %q", c.UserID())
		}
		first := w.spy.find("/api/v1/auth/agent/consumer-token", "")
		if want := fmt.Sprintf(`{"apiKey":%q}`, w.sb.APIKey()); len(first) != 1 || first[0].body != want || first[0].bearer() != "" || first[0].Header.Get("Blocks-Protocol-Version") != "" {
			t.Errorf("%+v", first)
		}
		if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
			t.Fatal(err)
		}
		old := w.spy.rpc("ListTasks")[0].bearer()
		if old == "" || old == w.sb.APIKey() || w.spy.rpc("ListTasks")[0].Header.Get("Blocks-Protocol-Version") != "2026-05-01" {
			t.Errorf("bearer %q", old)
		}
		time.Sleep(47 * time.Second)
		synctest.Wait()
		if n := len(w.spy.find("/api/v1/auth/agent/refresh", "")); n != 0 {
			t.Error("renewed too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		renewals := w.spy.find("/api/v1/auth/agent/refresh", `"refreshToken":`)
		if len(renewals) != 1 || renewals[0].bearer() != w.sb.APIKey() {
			t.Fatalf("%d renewals", len(renewals))
		}
		w.spy.forget()
		time.Sleep(10 * time.Minute)
		if n := len(w.spy.find("/api/v1/auth/agent/refresh", "")); n < 11 || n > 13 {
			t.Errorf("%d renewals in ten minutes", n)
		}
		if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
			t.Fatal(err)
		}
		if got := w.spy.rpc("ListTasks")[0].bearer(); got == old {
			t.Error("the old token is still in use")
		}
		if n := len(w.spy.find("/api/v1/auth/agent/consumer-token", "")); n != 0 {
			t.Errorf("the key was exchanged %d times more", n)
		}
	})
}

// C6: a refresh token that is not known any more is no concern of the caller.
func TestLostRefreshToken(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	w.sb.ExpireTokens(true)
	if _, _, err := c.Tasks(within(t), client.TaskFilter{}); err != nil {
		t.Fatal(err)
	}
	if n := len(w.spy.find("/api/v1/auth/agent/consumer-token", "")); n != 2 {
		t.Errorf("the key was exchanged %d times", n)
	}
}

// C7: tokens from a server of the application.
func TestTokenEndpoint(t *testing.T) {
	for _, c := range []struct {
		name     string
		endpoint client.TokenEndpoint
		body     string
	}{
		{"plain", client.TokenEndpoint{URL: "http://tokens.example/get"}, `{}`},
		{"with body and headers", client.TokenEndpoint{
			URL: "http://tokens.example/get", Header: http.Header{"cookie": {"session=1"}, "Content-Type": {"application/x-own"}}, Body: map[string]any{"session": "s1"},
		}, `{"session":"s1"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtually(t, func(t *testing.T, w *world) {
				calls := 0
				w.front(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.Host != "tokens.example" {
						return false
					}
					calls++
					user := `,"userId":"user_1"`
					if calls > 1 {
						user = "" // kept from the first one
					}
					fmt.Fprintf(rw, `{"token":%q,"expiresIn":60%s}`, w.token(), user)
					return true
				})
				o := w.options()
				o.APIKey, o.TokenEndpoint = "", &c.endpoint
				cl := w.clientOf(o)
				if _, _, err := cl.Tasks(t.Context(), client.TaskFilter{}); err != nil { // brings an affinity, perhaps
					t.Fatal(err)
				}
				time.Sleep(50 * time.Second)
				if _, _, err := cl.Tasks(t.Context(), client.TaskFilter{}); err != nil {
					t.Fatal(err)
				}
				sent := w.spy.find("/get", "")
				if len(sent) != 2 || cl.UserID() != "user_1" {
					t.Fatalf("%d requests, user %q", len(sent), cl.UserID())
				}
				for _, r := range sent {
					wantType := "application/json"
					if c.endpoint.Header != nil {
						wantType = "application/x-own"
						if r.Header.Get("Cookie") != "session=1" {
							t.Error("the cookie is missing")
						}
					}
					if r.Method != http.MethodPost || r.body != c.body || r.Header.Get("Content-Type") != wantType ||
						r.Header.Get("X-Write-Affinity") != "" || r.Header.Get("Blocks-Protocol-Version") != "" || r.Header.Get("Authorization") != "" {
						t.Errorf("%s %s %v", r.Method, r.body, r.Header)
					}
				}
			})
		})
	}
}

func TestTokenEndpointThatFails(t *testing.T) {
	w := newWorld(t)
	answer := ""
	status := http.StatusOK
	w.front(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Host == "elsewhere.example" {
			t.Error("a redirect was followed")
		}
		if r.Host != "tokens.example" {
			return false
		}
		rw.Header().Set("Location", "http://elsewhere.example/")
		rw.WriteHeader(status)
		fmt.Fprint(rw, answer)
		return true
	})
	o := w.options()
	o.APIKey, o.TokenEndpoint = "", &client.TokenEndpoint{URL: "http://tokens.example/get?secret=1", Header: http.Header{"Authorization": {"Bearer mine"}}}
	for _, c := range []struct {
		status       int
		answer, says string
	}{
		{200, `{}`, `has no "token"`}, {200, `no`, "not the JSON object"}, {403, `{"message":"not you"}`, "not you"}, {307, ``, "redirect to http://elsewhere.example"},
	} {
		status, answer = c.status, c.answer
		if cl, err := client.New(within(t), o); err == nil {
			cl.Close()
			t.Errorf("%d %s: taken", c.status, c.answer)
		} else if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%d %s: %v", c.status, c.answer, err)
		}
	}
}

// C8: tokens from a function of the application.
func TestTokenFunc(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		calls := 0
		o := w.options()
		o.APIKey, o.TokenFunc = "", func(context.Context) (client.Token, error) {
			calls++
			return client.Token{Value: w.token(), ExpiresIn: time.Minute, UserID: "user_1"}, nil
		}
		c := w.clientOf(o)
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if calls != 2 || c.UserID() != "user_1" {
			t.Errorf("%d calls, user %q", calls, c.UserID())
		}
	})
}

// C16: headers of the caller's own, which never replace those of the protocol.
func TestHeaders(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.Header = http.Header{
		"cookie": {"a=1"}, "x-own": {"1"}, "AUTHORIZATION": {"Bearer mine"}, "content-type": {"text/plain"}, "blocks-protocol-version": {"1"}, "X-write-affinity": {"9999999999"},
	}
	c := w.clientOf(o)
	if _, _, err := c.Tasks(within(t), client.TaskFilter{}); err != nil {
		t.Fatal(err)
	}
	h := w.spy.rpc("ListTasks")[0].Header
	got := []string{h.Get("Cookie"), h.Get("X-Own"), h.Get("Content-Type"), h.Get("Blocks-Protocol-Version")}
	if d := cmp.Diff([]string{"a=1", "1", "application/json", "2026-05-01"}, got); d != "" || h.Get("Authorization") == "Bearer mine" || h.Get("X-Write-Affinity") == "9999999999" {
		t.Error(d)
	}
	if h := w.spy.find("/api/v1/auth/agent/consumer-token", "")[0].Header; h.Get("X-Own") != "" {
		t.Error("sent to the token endpoint")
	}
}

// C17: what the network says of its primary database is handed back until then.
func TestWriteAffinity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t, func(c *sandbox.Config) { c.ConsumerTokenTTL = time.Hour })
		c := w.client()
		call := func(value string) (sent string) {
			t.Helper()
			w.spy.forget()
			if value != "" {
				w.fault(fault.Rule{Endpoint: "rpc", Times: 1, Status: 200, Body: `{"result":{"tasks":[]}}`, Headers: map[string]string{"X-Write-Affinity": value}})
			}
			if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
				t.Fatal(err)
			}
			return w.spy.rpc("ListTasks")[0].Header.Get("X-Write-Affinity")
		}
		at := func(d time.Duration) string { return fmt.Sprintf("%d.5", time.Now().Add(d).Unix()) }
		later, latest := at(10*time.Second), at(20*time.Second)
		call(later)
		if got := call(latest); got != later {
			t.Errorf("sent %q", got)
		}
		for _, smaller := range []string{later, "inf", "NaN", "soon"} {
			if got := call(smaller); got != latest {
				t.Errorf("sent %q", got)
			}
		}
		if got := call(""); got != latest {
			t.Errorf("sent %q", got)
		}
		time.Sleep(30 * time.Second)
		if got := call(""); got != "" {
			t.Errorf("sent %q after its end", got)
		}
	})
}
