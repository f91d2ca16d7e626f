package client_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// register makes an agent known that nobody serves.
func (w *world) register(name, listing string) {
	w.t.Helper()
	text := strings.NewReplacer("NAME", name, "MODE", "free", `"listing":"public"`, `"listing":"`+listing+`"`).Replace(cardText)
	c, err := card.Parse([]byte(text))
	if err == nil {
		err = w.sb.Register(c)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// C52: the card of an agent; an expired token looks like no agent, so it is renewed once.
func TestAgentCard(t *testing.T) {
	w := newWorld(t)
	w.register("secret", "private")
	c := w.client()
	got, err := c.AgentCard(within(t), "secret")
	if err != nil || got.AgentName != "secret" {
		t.Errorf("%+v, %v", got, err)
	}
	w.sb.ExpireTokens(false)
	w.spy.forget()
	if a, err := c.Agent(within(t), "secret"); err != nil || a.BillingMode != client.Free || a.Listing != "private" {
		t.Errorf("%+v, %v", a, err)
	}
	if look, renew := len(w.spy.find("/api/v1/registry", "")), len(w.spy.find("/api/v1/auth/agent/refresh", "")); look != 2 || renew != 1 {
		t.Errorf("%d look-ups, %d renewals", look, renew)
	}
	if _, err := c.AgentCard(within(t), "nobody"); !isA[*client.NotFoundError](err) {
		t.Errorf("%v", err)
	}
	w.fault(fault.Rule{Endpoint: "refresh", Status: http.StatusForbidden})
	w.fault(fault.Rule{Path: "/api/v1/auth/agent/consumer-token", Status: http.StatusForbidden})
	if _, err := c.AgentCard(within(t), "nobody"); !isA[*client.AuthRefreshFailedError](err) {
		t.Errorf("%v", err)
	}
}

func TestSearchAndStatus(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	w.register("secret", "private")
	c := w.client()
	if _, err := w.send(c, client.Message{Agent: "echo", Parts: text("x")}).Wait(within(t)); err != nil { // so that the instance is known
		t.Fatal(err)
	}
	names := func(c *client.Client, q client.AgentQuery) (out []string) {
		t.Helper()
		list, err := c.Agents(within(t), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list.Agents {
			out = append(out, a.Name)
		}
		slices.Sort(out)
		return out
	}
	if d := cmp.Diff([]string{"echo", "secret"}, names(c, client.AgentQuery{})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"secret"}, names(c, client.AgentQuery{Text: "secret"})); d != "" {
		t.Error(d)
	}
	o := w.options()
	o.APIKey, o.Anonymous = "", "fp"
	if d := cmp.Diff([]string{"echo"}, names(w.clientOf(o), client.AgentQuery{})); d != "" {
		t.Error(d)
	}
	for name, want := range map[string]int{"echo": 1, "secret": 0} {
		if got, err := c.AgentStatus(within(t), name); err != nil || len(got) != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// C54: an agent is removed with the API key itself.
func TestRemoveAgent(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	for _, reason := range []string{"", "  moved away "} {
		w.register("old", "public")
		w.spy.forget()
		if existed, err := c.RemoveAgent(within(t), "old", reason); err != nil || !existed {
			t.Errorf("%v, %v", existed, err)
		}
		sent := w.spy.find("/api/v1/registry/agents", "")
		want := ""
		if reason != "" {
			want = `{"reason":"moved away"}`
		}
		if len(sent) != 1 || sent[0].Method != http.MethodDelete || sent[0].bearer() != w.sb.APIKey() || sent[0].body != want || sent[0].URL.Query().Get("agentName") != "old" {
			t.Errorf("%+v", sent)
		}
	}
	if existed, err := c.RemoveAgent(within(t), "old", ""); err != nil || existed {
		t.Errorf("%v, %v", existed, err)
	}
	w.spy.forget()
	if _, err := c.RemoveAgent(within(t), "old", " \t"); err == nil {
		t.Error("removed for no reason")
	}
	if n := len(w.spy.find("/", "")); n != 0 {
		t.Errorf("%d requests", n)
	}
}
