package backend_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// TestRegisterAndUnregister: an agent is registered, found, offered for money, and deleted.
func TestRegisterAndUnregister(t *testing.T) {
	w := newWorld(t)
	key := w.sb.APIKey()
	c := testCard(t, "fresh", "private", "free")
	r := backend.Registration{AgentName: "fresh", Card: c.Raw, Listing: "private", BillingMode: wire.Free, ToolVersion: "test"}
	address, err := w.api.Register(t.Context(), key, r)
	if err != nil || address != w.cdm.BaseURL+"/agents/fresh" {
		t.Fatalf("%q, %v", address, err)
	}
	got, err := w.api.Agent(t.Context(), key, "fresh")
	if err != nil || got.Listing != "private" || got.BillingMode != wire.Free || got.OrgID != "org_1" || got.OrgName == "" || got.RegisteredAt == "" {
		t.Errorf("%+v, %v", got, err)
	}
	r.Listing, r.BillingMode, r.PerTask, r.TermsAcceptedAt = "public", wire.Paid, "0.050000", time.Now()
	if _, err := w.api.Register(t.Context(), key, r); err != nil {
		t.Fatal(err)
	}
	if got, err = w.api.Agent(t.Context(), "", "fresh"); err != nil || got.PerTask != "0.050000" || got.BillingMode != wire.Paid {
		t.Errorf("%+v, %v", got, err)
	}
	if is, err := w.api.Instances(t.Context(), key, "fresh"); err != nil || len(is) != 0 {
		t.Errorf("%v, %v", is, err)
	}
	if err := w.api.Unregister(t.Context(), key, "fresh"); err != nil {
		t.Fatal(err)
	}
	if err := w.api.Unregister(t.Context(), key, "fresh"); !errors.Is(err, backend.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	var e *backend.Error
	if _, err := w.api.Register(t.Context(), "bk_wrong", r); !errors.As(err, &e) || !e.Final() {
		t.Errorf("a wrong key: %v", err)
	}
}

func TestAgents(t *testing.T) {
	w := newWorld(t)
	other, err := w.sb.CreateKey("org_2", "other", 0)
	if err != nil {
		t.Fatal(err)
	}
	names := func(bearer string, q backend.AgentQuery) (out []string, more bool) {
		t.Helper()
		l, err := w.api.Agents(t.Context(), bearer, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range l.Agents {
			out = append(out, a.Name)
		}
		return out, l.More
	}
	for _, c := range []struct {
		name   string
		bearer string
		q      backend.AgentQuery
		want   []string
		more   bool
	}{
		{"all", w.sb.APIKey(), backend.AgentQuery{}, []string{"echo", "secret"}, false},
		{"anonymous", "", backend.AgentQuery{}, []string{"echo"}, false},
		{"by text", w.sb.APIKey(), backend.AgentQuery{Text: "secr"}, []string{"secret"}, false},
		{"one", w.sb.APIKey(), backend.AgentQuery{Limit: 1}, []string{"echo"}, true},
		{"nobody is online", w.sb.APIKey(), backend.AgentQuery{Status: "online"}, nil, false},
		{"another organization's", other.Secret, backend.AgentQuery{Owned: true}, nil, false},
	} {
		got, more := names(c.bearer, c.q)
		if d := cmp.Diff(c.want, got); d != "" || more != c.more {
			t.Errorf("%s: %s, more %v", c.name, d, more)
		}
	}
}

// TestAccount: whose key it is, and when it ends.
func TestAccount(t *testing.T) {
	w := newWorld(t)
	a, err := w.api.Account(t.Context(), w.sb.APIKey())
	if err != nil || a.OrgID != "org_1" || a.AgentCount != 2 || !a.KeyExpires.IsZero() {
		t.Errorf("%+v, %v", a, err)
	}
	k, err := w.sb.CreateKey("org_1", "short", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = w.api.Account(t.Context(), k.Secret); err != nil || a.KeyID != k.ID || time.Until(a.KeyExpires) > time.Hour || time.Until(a.KeyExpires) < 59*time.Minute {
		t.Errorf("%+v, %v", a, err)
	}
	var e *backend.Error
	if _, err := w.api.Account(t.Context(), "bk_wrong"); !errors.As(err, &e) || !e.Final() || e.Status != http.StatusUnauthorized {
		t.Errorf("%v", err)
	}
}

func TestKindOfDeployment(t *testing.T) {
	for _, enterprise := range []bool{false, true} {
		w := newWorld(t, func(c *sandbox.Config) { c.Enterprise = enterprise })
		if k, err := w.api.Kind(t.Context()); err != nil || k.Enterprise != enterprise {
			t.Errorf("%+v, %v", k, err)
		}
		l, err := w.api.PriceLimits(t.Context())
		if err != nil || l.MinPerTask == "" || l.MaxPerMinute == "" {
			t.Errorf("%+v, %v", l, err)
		}
	}
}
