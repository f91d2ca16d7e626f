package access

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseGrant(t *testing.T) {
	now := time.Unix(1747991645, 0)
	m := newManager(t, &now)
	g, err := ParseGrant([]byte(`{"ttl":60,"permissions":{"resources":{"channels":{"c":3},"groups":{"g":4},"uuids":{"u":32}},"patterns":{"groups":{"^h[0-9]$":1}},"meta":{"a":1,"b":"x"},"uuid":"me"}}`), now)
	if err != nil {
		t.Fatal(err)
	}
	token, err := m.Issue(g)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.CheckAll(token, "me", Manage, nil, []string{"g"}); err != nil {
		t.Error(err)
	}
	if err := m.CheckAll(token, "me", Read, []string{"c"}, []string{"h1"}); err != nil {
		t.Error(err)
	}
	var denied *DeniedError
	if err := m.CheckAll(token, "me", Read, []string{"c", "x"}, []string{"h1", "h11"}); !errors.As(err, &denied) || len(denied.Channels) != 1 || len(denied.Groups) != 1 {
		t.Errorf("got %v", err)
	}
	for body, want := range map[string]string{
		`{`: "Invalid JSON", `{}`: "Invalid ttl", `{"ttl":43201}`: "Invalid ttl", `{"ttl":"x"}`: "Invalid ttl",
		`{"ttl":1,"permissions":{"resources":{"channels":{"c":0}}}}`:   "This grant contains no permissions",
		`{"ttl":1,"permissions":{"resources":{"channels":{"c":256}}}}`: "Invalid permissions",
		`{"ttl":1,"permissions":{"patterns":{"channels":{"(":1}}}}`:    "Syntax error",
	} {
		if _, err := ParseGrant([]byte(body), now); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", body, err, want)
		}
	}
}

func TestRevoke(t *testing.T) {
	now := time.Unix(1747991645, 0)
	m := newManager(t, &now)
	token, err := m.Issue(Grant{Issued: now, TTL: time.Minute, Channels: map[string]Right{"c": Read}})
	if err != nil {
		t.Fatal(err)
	}
	ended, stop := m.Watch(token)
	defer stop()
	if err := m.Revoke(token); err != nil {
		t.Fatal(err)
	}
	<-ended
	if err := m.Check(token, "u", Read, "c"); !errors.Is(err, ErrRevoked) {
		t.Errorf("after revocation: %v", err)
	}
	if err := m.Revoke("x"); !errors.Is(err, ErrForged) {
		t.Errorf("revoked what is none: %v", err)
	}
	now = now.Add(time.Minute)
	if err := m.Revoke(token); !errors.Is(err, ErrExpired) {
		t.Errorf("revoked an expired one: %v", err)
	}
}

func FuzzParseGrant(f *testing.F) {
	f.Add([]byte(`{"ttl":"1","permissions":{"resources":{"channels":{"c":3}},"patterns":{"channels":{"^a$":1}},"meta":{"k":[1,{"a":null}]}}}`))
	now := time.Unix(1747991645, 0)
	m := newManager(f, &now)
	f.Fuzz(func(t *testing.T, body []byte) {
		g, err := ParseGrant(body, now)
		if err != nil {
			return
		}
		token, err := m.Issue(g)
		if err != nil {
			return
		}
		if err := m.Check(token, g.UUID, 0); err != nil {
			t.Errorf("a token that was just issued for %q: %v", body, err)
		}
	})
}
