package api

import (
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestBrowserLogin(t *testing.T) {
	d := deploy(t, nil)
	// The verifier and challenge of RFC 7636, appendix B.
	const verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	ask := func(change map[string]string) (int, url.Values) {
		t.Helper()
		v := url.Values{
			"client_id": {clientID}, "code_challenge": {challenge}, "code_challenge_method": {"S256"}, "redirect_uri": {"http://127.0.0.1:8787/callback"},
			"response_type": {"code"}, "scope": {"openid profile email offline_access"}, "state": {"s t"}, "resource": {"http://127.0.0.1:1"},
		}
		for k, x := range change {
			v.Set(k, x)
		}
		status, _, h := d.full("GET", "/api/auth/oauth2/authorize?"+v.Encode(), "", "", "")
		back, err := url.Parse(h.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		if status == 302 && (back.Host != "127.0.0.1:8787" || back.Path != "/callback") {
			t.Errorf("sent to %s", back)
		}
		return status, back.Query()
	}
	redeem := func(code, verifier string) (int, string) {
		v := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {verifier}, "client_id": {clientID}, "redirect_uri": {"http://127.0.0.1:8787/callback"}}
		status, body, _ := d.full("POST", "/api/auth/oauth2/token", "", v.Encode(), "application/x-www-form-urlencoded")
		return status, body
	}
	status, back := ask(nil)
	if status != 302 || back.Get("state") != "s t" || back.Get("code") == "" {
		t.Fatalf("%d %v", status, back)
	}
	status, body := redeem(back.Get("code"), verifier)
	session := regexp.MustCompile(`"access_token":"([^"]+)"`).FindStringSubmatch(body)
	if status != 200 || session == nil || !strings.Contains(body, `"token_type":"Bearer"`) {
		t.Fatalf("%d %s", status, body)
	}
	const spent = `{"error":"invalid_grant","error_description":"The code is invalid, used or expired, or belongs to another login."}`
	if status, body := redeem(back.Get("code"), verifier); status != 400 || body != spent {
		t.Errorf("used code: %d %s", status, body)
	}
	_, back = ask(nil)
	if status, body := redeem(back.Get("code"), "wrong"); status != 400 || body != spent {
		t.Errorf("wrong verifier: %d %s", status, body)
	}
	_, back = ask(nil)
	d.now = d.now.Add(6 * time.Minute)
	if status, body := redeem(back.Get("code"), verifier); status != 400 || body != spent {
		t.Errorf("late: %d %s", status, body)
	}
	d.now = d.now.Add(-6 * time.Minute)
	for name, change := range map[string]map[string]string{
		"elsewhere": {"redirect_uri": "http://example.com/"}, "with a user": {"redirect_uri": "http://127.0.0.1@example.com/"},
		"scheme": {"redirect_uri": "https://127.0.0.1/"}, "client": {"client_id": "x"},
	} {
		if status, back := ask(change); status != 400 || len(back) > 0 {
			t.Errorf("%s: %d %v", name, status, back)
		}
	}
	if status, back := ask(map[string]string{"code_challenge_method": "plain"}); status != 302 || back.Get("error") != "invalid_request" || back.Has("code") {
		t.Errorf("plain challenge: %d %v", status, back)
	}

	// A page of another origin gets nowhere: neither may it read an answer nor may it ask by script.
	for _, path := range []string{"/api/auth/oauth2/authorize?redirect_uri=http://127.0.0.1:1/", "/api/auth/oauth2/token", "/api/auth/api-key/create"} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			req := httptest.NewRequest(method, "http://h"+path, nil)
			req.Header.Set("Origin", "http://example.com")
			w := httptest.NewRecorder()
			d.ServeHTTP(w, req)
			if got := w.Header().Get("Access-Control-Allow-Origin"); got != "" {
				t.Errorf("%s %s allows the origin %s", method, path, got)
			}
			req.Header.Set("Sec-Fetch-Mode", "cors")
			w = httptest.NewRecorder()
			if d.ServeHTTP(w, req); w.Code != 403 {
				t.Errorf("%s %s by script: %d", method, path, w.Code)
			}
		}
	}

	status, body = d.do("GET", "/api/v1/orgs", session[1], "")
	if status != 200 || body != `{"billingEnabled":true,"orgs":[{"id":"o1","name":"One","slug":"one"}]}` {
		t.Errorf("orgs: %d %s", status, body)
	}
	status, body = d.do("POST", "/api/auth/api-key/create", session[1], `{"name":"cli-host","orgId":"o1"}`)
	key := regexp.MustCompile(`^{"apiKey":"(bk_[A-Z0-9]+)","expiresAt":"2026-07-30T12:00:00Z","keyId":"key_[a-z0-9]+"}$`).FindStringSubmatch(body)
	if status != 200 || key == nil {
		t.Fatalf("key: %d %s", status, body)
	}
	if status, body := d.do("GET", "/api/v1/registry/publish-context", key[1], ""); status != 200 {
		t.Errorf("new key: %d %s", status, body)
	}
	d.now = d.now.Add(91 * 24 * time.Hour)
	if status, body := d.do("GET", "/api/v1/registry/publish-context", key[1], ""); status != 401 || body != refusal("API_KEY_INVALID", noKey) {
		t.Errorf("expired key: %d %s", status, body)
	}
}

func TestKeysAndTokensEnd(t *testing.T) {
	d := deploy(t, nil)
	k, err := d.blocks.CreateKey(nil, "o1", "ci", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, body := d.do("POST", "/api/v1/auth/agent/consumer-token", "", `{"apiKey":"`+k.Secret+`"}`)
	refresh := regexp.MustCompile(`rt_[A-Z0-9]+`).FindString(body)
	if _, err := d.blocks.RevokeKey(k.ID); err != nil {
		t.Fatal(err)
	}
	if status, body := d.do("POST", "/api/v1/auth/agent/refresh", k.Secret, `{"refreshToken":"`+refresh+`"}`); status != 401 || body != refusal("API_KEY_INVALID", noKey) {
		t.Errorf("refresh with a revoked key: %d %s", status, body)
	}
	list := `{"id":1,"method":"ListTasks"}`
	if status, _ := d.do("POST", "/api/v1/rpc", "j1", list); status != 200 {
		t.Errorf("token: %d", status)
	}
	d.blocks.ExpireTokens(false)
	for _, who := range []string{"j1", "a1"} {
		if status, body := d.do("POST", "/api/v1/rpc", who, list); status != 401 || body != refusal("Unauthorized", "The access token is expired.") {
			t.Errorf("%s after all have expired: %d %s", who, status, body)
		}
	}
	_, body = d.do("POST", "/api/v1/auth/agent/consumer-token", "", `{"apiKey":"bk_1"}`)
	refresh = regexp.MustCompile(`rt_[A-Z0-9]+`).FindString(body)
	d.blocks.ExpireTokens(true)
	if status, body := d.do("POST", "/api/v1/auth/agent/refresh", "k1", `{"refreshToken":"`+refresh+`"}`); status != 401 || body != refusal("REFRESH_TOKEN_INVALID", "The refresh token is invalid, used or expired.") {
		t.Errorf("forgotten refresh token: %d %s", status, body)
	}
}
