package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const someContexts = `{"schema_version":3,"active":"local","profiles":{
  "blocks-network":{"default_org_id":"o1","orgs":{"o1":{"org_name":"One","api_key":"bk_public","key_id":"k1","expires_at":"2027-01-02T03:04:05Z"},"o2":{"api_key":"bk_two"}}},
  "local":{"base_url":"http://127.0.0.1:3001/","orgs":{"o3":{"org_name":"Three","api_key":"bk_local","key_id":"k3","expires_at":"0001-01-01T00:00:00Z"}}},
  "many":{"orgs":{"a":{"api_key":"bk_a"},"b":{"api_key":"bk_b"}}},
  "quoted":{"orgs":{"a":{"api_key":"\"bk_a\""}}},
  "empty":{}}}`

func TestParseContexts(t *testing.T) {
	for _, c := range []struct {
		name, data, profile string
		key, wrong          string // one of them
	}{
		{"the active profile", someContexts, "", "bk_local", ""},
		{"a named profile, its default organization", someContexts, "blocks-network", "bk_public", ""},
		{"no default among many", someContexts, "many", "", "its profile many has keys of 2 organizations and none is the default"},
		{"a profile that is not there", someContexts, "timing", "", `it has no profile "timing", which BLOCKS_PROFILE names`},
		{"a quoted key", someContexts, "quoted", "", "its profile quoted does not hold an API key: the key is in quotes"},
		{"no key", someContexts, "empty", "", ErrNoKey.Error()},
		{"a newer form", `{"schema_version":4}`, "", "", "its form 4 is newer than this program"},
		{"no JSON", `x`, "", "", "it is not the JSON"},
		{"nothing", `{}`, "", "", ErrNoKey.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			login, err := parseContexts([]byte(c.data), c.profile)
			if c.wrong != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.wrong) {
					t.Errorf("got %v, want %s", err, c.wrong)
				}
				return
			}
			if err != nil || login.Key != c.key {
				t.Errorf("got %+v, %v", login, err)
			}
		})
	}
	login, err := parseContexts([]byte(someContexts), "blocks-network")
	want := Login{Profile: "blocks-network", OrgID: "o1", OrgName: "One", Key: "bk_public", KeyID: "k1", Expires: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err != nil || login != want {
		t.Errorf("got %+v, %v", login, err)
	}
}

// A stored key never goes to another network than its own.
func TestKeyForItsNetworkOnly(t *testing.T) {
	public, local := Login{Path: "p", Key: "bk"}, Login{Path: "p", Key: "bk", BaseURL: "http://127.0.0.1:3001"}
	for _, c := range []struct {
		login        Login
		cdm, backend string
		given        bool
	}{
		{public, "", "", true},
		{public, "http://127.0.0.1:3001/api/v1/cdm", "", false},
		{public, "", "http://127.0.0.1:3001", false},
		{local, "", "", false},
		{local, "http://127.0.0.1:3001/api/v1/cdm", "", true},
		{local, "http://127.0.0.1:3002/api/v1/cdm", "", false},
		{local, "http://127.0.0.1:3001/api/v1/cdm", "http://127.0.0.1:9", false},
		{local, "", "http://127.0.0.1:3001/", true},
		{local, "", "https://127.0.0.1:3001/", false},
	} {
		key, err := c.login.KeyFor(c.cdm, c.backend)
		if (err == nil) != c.given || (key == "bk") != c.given || err != nil && strings.Contains(err.Error(), "bk") {
			t.Errorf("%+v: %q, %v", c, key, err)
		}
	}
}

func TestStoredLoginIsTheLastSource(t *testing.T) {
	home := t.TempDir()
	env := map[string]string{"HOME": home}
	getenv := func(name string) string { return env[name] }
	var c Config
	if _, err := NewKeys(c, getenv).Key(""); !errors.Is(err, ErrNoKey) {
		t.Errorf("without a file: %v", err)
	}
	dir := filepath.Join(home, ".config", "blocks")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "contexts.json")
	if err := os.WriteFile(path, []byte(someContexts), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeys(c, getenv).Key(""); err == nil || !strings.Contains(err.Error(), "is for http://127.0.0.1:3001, and not for the public network") {
		t.Errorf("for another network: %v", err)
	}
	c.Network.CDMURL = "http://127.0.0.1:3001/api/v1/cdm"
	if f, err := NewKeys(c, getenv).Find(""); err != nil || f.Key != "bk_local" || f.Source != "login in "+path {
		t.Errorf("got %+v, %v", f, err)
	}
	env["BLOCKS_API_KEY"], env["BLOCKS_PROFILE"] = "bk_public", "blocks-network"
	f, err := NewKeys(c, getenv).Find("")
	if err != nil || f.Key != "bk_public" || f.Source != "variable BLOCKS_API_KEY" || f.Expires.Year() != 2027 {
		t.Errorf("got %+v, %v", f, err)
	}
}

func FuzzContexts(f *testing.F) {
	f.Add([]byte(someContexts), "")
	f.Add([]byte(someContexts), "many")
	f.Fuzz(func(t *testing.T, data []byte, profile string) {
		login, err := parseContexts(data, profile)
		if (err == nil) != (login.Key != "") {
			t.Errorf("%+v, %v", login, err)
		}
	})
}
