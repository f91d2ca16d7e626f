package access

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	pubnub "github.com/pubnub/go/v7"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newManager(t testing.TB, now *time.Time) *Manager {
	t.Helper()
	m, err := NewManager([]byte("secret"), func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCheck(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := newManager(t, &now)
	token, err := m.Issue(Grant{
		Issued: now, TTL: time.Hour, Channels: map[string]Right{"a": Read, "b": Read | Write}, Patterns: map[string]Right{`^p\.`: Write},
	})
	if err != nil {
		t.Fatal(err)
	}
	bound, err := m.Issue(Grant{Issued: now, TTL: time.Minute, Channels: map[string]Right{"a": Read}, UUID: "me"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(token, "p0F2AkF0Gm") || !strings.HasPrefix(bound, "qEF2AkF0Gm") {
		t.Errorf("tokens start %.12q and %.12q, unlike real ones", token, bound)
	}
	raw, _ := base64.URLEncoding.DecodeString(token)
	raw[len(raw)/2] ^= 1
	tests := []struct {
		name, token, uuid string
		right             Right
		channels          []string
		want              string
	}{
		{"read", token, "x", Read, []string{"a", "b"}, ""},
		{"write", token, "x", Write, []string{"b"}, ""},
		{"pattern", token, "x", Write, []string{"p.q"}, ""},
		{"no write", token, "x", Write, []string{"a", "b"}, `token lacks the right on ["a"]`},
		{"other channel", token, "x", Read, []string{"c"}, `token lacks the right on ["c"]`},
		{"owner", bound, "me", Read, []string{"a"}, ""},
		{"other uuid", bound, "you", Read, []string{"a"}, ErrUUID.Error()},
		{"none", "", "x", Read, []string{"a"}, ErrForged.Error()},
		{"garbage", "T4-1", "x", Read, []string{"a"}, ErrForged.Error()},
		{"changed", base64.URLEncoding.EncodeToString(raw), "x", Read, []string{"a"}, ErrForged.Error()},
	}
	for _, tt := range tests {
		got := ""
		if err := m.Check(tt.token, tt.uuid, tt.right, tt.channels...); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	now = now.Add(time.Hour)
	if err := m.Check(token, "x", Read, "a"); !errors.Is(err, ErrExpired) {
		t.Errorf("after an hour: %v, want %v", err, ErrExpired)
	}
}

func TestSDKParsesToken(t *testing.T) {
	now := time.Unix(1747991645, 0)
	m := newManager(t, &now)
	token, err := m.Issue(Grant{Issued: now, TTL: time.Hour, Channels: map[string]Right{"c": Read | Write}, Patterns: map[string]Right{"^p": Read}, UUID: "u"})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := pubnub.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]pubnub.ChannelPermissions{"c": {Read: true, Write: true}}
	if diff := cmp.Diff(want, parsed.Resources.Channels); diff != "" {
		t.Error(diff)
	}
	if parsed.TTL != 60 || parsed.Timestamp != 1747991645 || parsed.AuthorizedUUID != "u" {
		t.Errorf("parsed ttl %d, timestamp %d, uuid %q", parsed.TTL, parsed.Timestamp, parsed.AuthorizedUUID)
	}
}

func FuzzCheck(f *testing.F) {
	now := time.Unix(1747991645, 0)
	m := newManager(f, &now)
	token, err := m.Issue(Grant{Issued: now, TTL: time.Hour, Channels: map[string]Right{"c": Read}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Fuzz(func(t *testing.T, s string) {
		if err := m.Check(s, "u", Read, "c"); err == nil && s != token {
			t.Errorf("accepted %q", s)
		}
	})
}

// TestIssuedAsParsed: what a manager remembers of a token that it issues is what the token says.
func TestIssuedAsParsed(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 5e8, time.UTC)
	m := newManager(t, &now)
	for _, g := range []Grant{
		{Issued: now, TTL: 90 * time.Second},
		{Issued: now, TTL: time.Hour, Channels: map[string]Right{"a": Read, "b": Read | Write}, UUID: "me"},
		{Issued: now, TTL: MaxTTL, Channels: map[string]Right{"a": Read}, Groups: map[string]Right{"g": Manage}, UUIDs: map[string]Right{"u": Read}},
	} {
		token, err := m.Issue(g)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := m.parse(token)
		if err != nil {
			t.Fatal(err)
		}
		kept := m.parsed[token]
		if diff := cmp.Diff(parsed, kept, cmp.AllowUnexported(permission{}, scope{}), cmpopts.EquateEmpty()); kept == nil || diff != "" {
			t.Errorf("%+v: %s", g, diff)
		}
	}
}
