package backend

import (
	"strings"
	"testing"
)

// What the registry answers is foreign: it never does harm, and what is read of it is usable.
func FuzzRegistry(f *testing.F) {
	for _, seed := range []string{
		`{"agents":[{"agentName":"a","displayName":"A","onlineCount":2,"tags":["x"],"pricePerTask":"0.05","pricePerMinute":1}],"next":"c","searchParseError":null}`,
		`{"agents":[{"agentName":"a","instances":[{"instanceId":"i","connectedAt":1,"sdkLanguage":null}]}]}`,
		`{"agentName":"a","status":"deleted","agentUrl":"http://x","agent":{"url":1}}`,
		`{"orgId":"o","orgName":"n","agentCount":1e99,"keyId":"k","keyExpiresAt":"2027-01-02T03:04:05Z"}`,
		`{"error":{"message":"m","data":{"code":"c"}},"code":1}`, `{"data":{"code":"c"}}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a := apiCall{}
		if p, err := decodeAgents(a, b); err == nil {
			for _, one := range p.agents {
				if one.Name == "" || one.DisplayName == "" || one.Online < 0 {
					t.Errorf("%+v", one)
				}
			}
		}
		if is, err := decodeInstances(a, b, "a"); err == nil && len(is) > len(b) {
			t.Errorf("%+v", is)
		}
		if account, err := decodeAccount(a, b); err == nil && account.AgentCount < 0 {
			t.Errorf("%+v", account)
		}
		if err := decodeUnregistered(a, b, "a"); err == nil && len(b) > 0 && !strings.Contains(string(b), "a") && !strings.Contains(string(b), `\`) {
			t.Errorf("%q confirms that a is deleted", b)
		}
		_, _ = decodeRegistered(a, b)
		_, _ = errorTexts(b, 3)
	})
}

func TestErrorTexts(t *testing.T) {
	for body, want := range map[string][2]string{
		`{"code":"C","error":"text"}`:                         {"C", "text"},
		`{"message":"text"}`:                                  {"", "text"},
		`{"error":{"message":"text","code":"C"}}`:             {"C", "text"},
		`{"error":{"message":"text","data":{"code":"deep"}}}`: {"deep", "text"},
		`{"data":{"code":"C"}}`:                               {"C", ""},
		`plain`:                                               {"", ""},
		`{"code":1,"error":[]}`:                               {"", ""},
	} {
		if code, message := errorTexts([]byte(body), 3); [2]string{code, message} != want {
			t.Errorf("%s: %q, %q", body, code, message)
		}
	}
}
