package api

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dump is everything that the network keeps, and what of it is not kept over a restart.
func (d *deployment) dump() string {
	d.t.Helper()
	raw, err := json.Marshal(d.blocks.Snapshot())
	if err != nil {
		d.t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		d.t.Fatal(err)
	}
	for name, v := range members {
		list, ok := v.([]any)
		if !ok {
			continue
		}
		texts := make([]string, len(list)) // their order is that of a map
		for i, x := range list {
			text, _ := json.Marshal(x)
			texts[i] = string(text)
		}
		slices.Sort(texts)
		members[name] = texts
	}
	for _, space := range members["spaces"].(map[string]any) {
		delete(space.(map[string]any), "last") // only the clock
	}
	members["stats"] = d.blocks.Stats()
	out, err := json.MarshalIndent(members, "", " ")
	if err != nil {
		d.t.Fatal(err)
	}
	return string(out)
}

// TestRefusedRequestsChangeNothing: whatever is wrong with a request that would change something, nothing is changed.
// That each of them does change something when nothing is wrong shows that the comparison sees it.
func TestRefusedRequestsChangeNothing(t *testing.T) {
	// The deployment, with a task, a refresh token, an invitation and a grant; $NAME stands for what is there.
	prepare := func() (*deployment, func(string) string) {
		d := deploy(t, nil)
		vars := map[string]string{}
		take := func(name, pattern, method, path, who, body string) {
			t.Helper()
			status, got := d.do(method, path, who, body)
			found := regexp.MustCompile(pattern).FindString(got)
			if status/100 != 2 || found == "" {
				t.Fatalf("%s %s: %d %s", method, path, status, got)
			}
			vars[name] = found
		}
		take("TASK", `task_[a-z0-9]+`, "POST", "/api/v1/rpc", "j1", `{"id":"r","method":"SendMessage","params":{"agentName":"echo","billingMode":"free","requestParts":[]}}`)
		take("REFRESH", `rt_[A-Z0-9]+`, "POST", "/api/v1/auth/agent/consumer-token", "", `{"apiKey":"bk_1"}`)
		take("INVITE", `it_[A-Z0-9]+`, "POST", "/api/v1/agents/secret/invitations", "k1", `{"targetOrgSlug":"two"}`)
		take("GRANTED", `secret`, "POST", "/api/v1/agent-invitations/accept", "k2", `{"token":"`+vars["INVITE"]+`"}`)
		take("GRANT", `grant_[a-z0-9]+`, "GET", "/api/v1/agents/secret/grants", "k1", "")
		take("INVITE", `it_[A-Z0-9]+`, "POST", "/api/v1/agents/paid/invitations", "k1", `{"targetOrgSlug":"two"}`)
		return d, func(s string) string {
			for name, value := range vars {
				s = strings.ReplaceAll(s, "$"+name, value)
			}
			return s
		}
	}
	rpc := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":"r","method":"` + method + `","params":` + params + `}`
	}
	changes := []struct{ name, method, path, who, body string }{
		{"register", "POST", "/api/v1/registry/agents", "k1", registration("new", `"listing":"public","billingMode":"free"`)},
		{"change", "PATCH", "/api/v1/registry/agents?agentName=echo", "k1", `{"listing":"private"}`},
		{"delete", "DELETE", "/api/v1/registry/agents?agentName=echo", "k1", ""},
		{"rename", "PATCH", "/api/v1/orgs/o1", "k1", `{"name":"Other"}`},
		{"make a key", "POST", "/api/auth/api-key/create", "j1", `{"name":"x","orgId":"o1"}`},
		{"invite", "POST", "/api/v1/agents/secret/invitations", "k1", `{"email":"a@b.example"}`},
		{"accept", "POST", "/api/v1/agent-invitations/accept", "k2", `{"token":"$INVITE"}`},
		{"revoke a grant", "DELETE", "/api/v1/agents/secret/grants/$GRANT", "k1", ""},
		{"connect", "POST", "/api/v1/auth/agent/connect", "k1", `{"agentName":"echo","instanceId":"AG-echo-2","billingMode":"free","maxPendingBacklog":3}`},
		{"refresh", "POST", "/api/v1/auth/agent/refresh", "k1", `{"refreshToken":"$REFRESH"}`},
		{"log in", "POST", "/api/v1/auth/agent/consumer-token", "", `{"apiKey":"bk_1"}`},
		{"send", "POST", "/api/v1/rpc", "j1", rpc("SendMessage", `{"agentName":"echo","billingMode":"free","requestParts":[{"partId":"a","text":"x"}]}`)},
		{"cancel", "POST", "/api/v1/rpc", "j1", rpc("CancelTask", `{"taskId":"$TASK"}`)},
		{"terminate", "POST", "/api/v1/rpc", "j1", rpc("TerminateTask", `{"taskId":"$TASK"}`)},
	}
	for _, c := range changes {
		d, fill := prepare()
		before := d.dump()
		if status, got := d.do(c.method, fill(c.path), c.who, fill(c.body)); status/100 != 2 || strings.Contains(got, `"error"`) || d.dump() == before {
			t.Errorf("%s: %d %s, and nothing has changed", c.name, status, got)
		}
	}

	d, fill := prepare()
	before := d.dump()
	refused := func(name, method, path, who, body string, always bool) {
		t.Helper()
		status, got := d.do(method, fill(path), who, fill(body))
		if status < 400 && !strings.Contains(got, `"error"`) {
			if always {
				t.Errorf("%s: %d %s", name, status, got)
			}
			d, fill = prepare()
			before = d.dump()
			return
		}
		if status >= 500 {
			t.Errorf("%s: %d %s", name, status, got)
		}
		if after := d.dump(); after != before {
			t.Errorf("%s: %d %s has changed something: %s", name, status, got, cmp.Diff(before, after))
			before = after
		}
	}
	member := regexp.MustCompile(`"(\w+)":"[^"]*"`)
	for _, c := range changes {
		for what, who := range map[string]string{"nobody": "", "a stranger": "bk_no", "a forged token": "a.b.c", "another organization": "k3", "another user": "j3", "an agent": "a1"} {
			// Some may: a login needs no credentials but those in its body, anyone may send to a public agent.
			refused(c.name+" by "+what, c.method, c.path, who, c.body, who == "bk_no" && c.who != "" || who == "a.b.c" && c.who != "")
		}
		if c.body == "" {
			continue
		}
		for what, body := range map[string]string{
			"half": c.body[:len(c.body)-1], "no JSON": "\x00\xff", "a number": "1", "a list": "[]", "a text": `"x"`, "too large": `{"name":"` + strings.Repeat("x", maxBody) + `"}`,
		} {
			refused(c.name+", body "+what, c.method, c.path, c.who, body, true)
		}
		for what, body := range map[string]string{"empty": "", "null": "null", "an empty object": "{}"} {
			refused(c.name+", body "+what, c.method, c.path, c.who, body, c.name != "change") // that may be of nothing
		}
		// Each member in turn has the wrong type.
		for _, at := range member.FindAllStringSubmatchIndex(c.body, -1) {
			name := c.body[at[2]:at[3]]
			for _, value := range []string{"5", "[]", "{}", "true"} {
				body := c.body[:at[0]] + `"` + name + `":` + value + c.body[at[1]:]
				refused(c.name+", "+name+" "+value, c.method, c.path, c.who, body, false)
			}
		}
	}
}
