package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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

// C9, C10: three failures in a row are reported once; the old token stays in use; the next call tries once more.
func TestRenewalIsGivenUp(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		var reported []time.Time
		o := w.options()
		o.OnAuthError = func(err error) {
			if e, ok := errors.AsType[*client.AuthRefreshFailedError](err); ok {
				t.Errorf("wrapped: %v", e)
			}
			reported = append(reported, time.Now())
		}
		start := time.Now()
		c := w.clientOf(o)
		if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
			t.Fatal(err)
		}
		old := w.spy.rpc("ListTasks")[0].bearer()
		down := w.fault(fault.Rule{Endpoint: "refresh", Status: http.StatusServiceUnavailable})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(reported) != 1 || reported[0].Sub(start).Round(time.Second) != 63*time.Second { // 48 + 5 + 10
			t.Errorf("reported %v after the start", reported)
		}
		if n := len(w.spy.find("/api/v1/auth/agent/refresh", "")); n != 3 {
			t.Errorf("%d attempts", n)
		}
		// C10: one more attempt with the next call, and nothing else is sent when it fails.
		w.spy.forget()
		_, _, err := c.Tasks(t.Context(), client.TaskFilter{})
		if _, ok := errors.AsType[*client.AuthRefreshFailedError](err); !ok {
			t.Errorf("%v", err)
		}
		if n := len(w.spy.rpc("ListTasks")); n != 0 {
			t.Errorf("%d calls were sent", n)
		}
		w.sb.Faults().Remove(down)
		if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
			t.Fatal(err)
		}
		if got := w.spy.rpc("ListTasks")[0].bearer(); got == old {
			t.Error("the old token is still in use")
		}
		w.spy.forget()
		time.Sleep(50 * time.Second)
		if n := len(w.spy.find("/api/v1/auth/agent/refresh", "")); n != 1 {
			t.Errorf("%d renewals after the recovery", n)
		}
	})
}

// C9: as long as the network takes the old token, it is used.
func TestOldTokenStaysInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newVirtualWorld(t)
		o := w.options()
		o.APIKey, o.TokenFunc = "", func() func(context.Context) (client.Token, error) {
			calls := 0
			return func(context.Context) (client.Token, error) {
				if calls++; calls > 1 {
					return client.Token{}, errors.New("no more")
				}
				return client.Token{Value: w.token(), ExpiresIn: 10 * time.Second}, nil // it is good for a minute
			}
		}()
		c := w.clientOf(o)
		time.Sleep(10 * time.Second) // one attempt has failed, and the next one is due in a while
		if _, _, err := c.Tasks(t.Context(), client.TaskFilter{}); err != nil {
			t.Error(err)
		}
	})
}

// C11: a refused token is renewed once and the call repeated once, byte for byte.
func TestRefusedTokenIsRenewed(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	refused := []fault.Rule{{Endpoint: "rpc", Status: http.StatusUnauthorized}}
	for _, code := range []string{"EMBEDDED_JWT_REVOKED", "EMBEDDED_JWT_LOGOUT", "EMBEDDED_JWT_KILLED", "EMBEDDED_JWT_SCOPE_DRIFT", "AGENT_OUT_OF_SCOPE"} {
		refused = append(refused, fault.Rule{Endpoint: "rpc", Status: 200, Body: `{"jsonrpc":"2.0","error":{"code":-32000,"message":"m","data":{"code":"` + code + `"}}}`})
	}
	for _, rule := range refused {
		w.spy.forget()
		rule.Times = 1
		w.fault(rule)
		if _, _, err := c.Tasks(within(t), client.TaskFilter{}); err != nil {
			t.Errorf("%s: %v", rule.Body, err)
		}
		calls := w.spy.rpc("ListTasks")
		if len(calls) != 2 || calls[0].body != calls[1].body || calls[0].bearer() == calls[1].bearer() || len(w.spy.find("/api/v1/auth/agent/refresh", "")) != 1 {
			t.Errorf("%s: %d calls", rule.Body, len(calls))
		}

		w.spy.forget()
		rule.Times = 2
		w.fault(rule)
		_, _, err := c.Tasks(within(t), client.TaskFilter{})
		rpc, ok := errors.AsType[*client.RPCError](err)
		if !ok || rule.Status == 401 && rpc.Code != 401 || rule.Status == 200 && (rpc.Code != -32000 || !strings.Contains(rule.Body, rpc.AppCode)) {
			t.Errorf("%s twice: %v", rule.Body, err)
		}
		if n := len(w.spy.rpc("ListTasks")); n != 2 {
			t.Errorf("%s twice: %d calls", rule.Body, n)
		}
	}
	// The renewal fails, too: the error says both.
	w.fault(fault.Rule{Endpoint: "rpc", Status: http.StatusUnauthorized})
	w.fault(fault.Rule{Endpoint: "refresh", Status: http.StatusForbidden})
	_, _, err := c.Tasks(within(t), client.TaskFilter{})
	rpc, isRPC := errors.AsType[*client.RPCError](err)
	if _, ok := errors.AsType[*client.AuthRefreshFailedError](err); !ok || !isRPC || rpc.Code != http.StatusUnauthorized {
		t.Errorf("%v", err)
	}
}

// C12: many callers whose token is refused share one renewal.
func TestOneRenewalForAll(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	w.sb.ExpireTokens(false)
	const callers = 50
	var all sync.WaitGroup
	// Nobody gets an answer before all have asked, so all meet the old token.
	var asked atomic.Int32
	ready := make(chan struct{})
	w.front(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/rpc") {
			if asked.Add(1) == callers {
				close(ready)
			}
			<-ready
		}
		return false
	})
	for range callers {
		all.Go(func() {
			if _, _, err := c.Tasks(within(t), client.TaskFilter{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(w.spy.find("/api/v1/auth/agent/refresh", "")); n != 1 {
		t.Errorf("%d renewals", n)
	}
	if n := len(w.spy.rpc("ListTasks")); n != 2*callers {
		t.Errorf("%d calls", n)
	}
}

// C13: nothing runs after Close; a task can still be canceled with the last token.
func TestClosedClient(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		w.provide("echo", client.Free, func(j *job) {
			<-j.canceled
			j.end(client.Canceled)
		})
		c := w.client()
		s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
		c.Close()
		c.Close()
		if err := s.Cancel(t.Context()); err != nil {
			t.Errorf("cancel: %v", err)
		}
		if _, err := s.Wait(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("wait: %v", err)
		}
		if _, err := c.Send(t.Context(), client.Message{Agent: "echo", Parts: text("x")}); !errors.Is(err, client.ErrClosed) {
			t.Errorf("send: %v", err)
		}
		w.spy.forget()
		time.Sleep(10 * time.Minute)
		if n := len(w.spy.find("/", "")); n != 0 {
			t.Errorf("%d requests after Close", n)
		}
		// The token is expired by now, and is not renewed any more.
		err := s.Cancel(t.Context())
		if rpc, ok := errors.AsType[*client.RPCError](err); !ok || rpc.Code != 401 || len(w.spy.find("/api/v1/auth", "")) != 0 {
			t.Errorf("cancel: %v", err)
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
