package sandbox

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/internal/testutil"
)

func TestListenErrors(t *testing.T) {
	first, err := New(Config{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	tests := map[string]string{
		"0.0.0.0:0":     "it has no protection against others and listens on this machine only: give a loopback address, for example 127.0.0.1:3001",
		":3001":         "it has no protection against others and listens on this machine only: give a loopback address, for example 127.0.0.1:3001",
		"192.0.2.1:0":   "it has no protection against others and listens on this machine only: give a loopback address, for example 127.0.0.1:3001",
		"example.com:1": "it has no protection against others and listens on this machine only: give a loopback address, for example 127.0.0.1:3001",
		"x":             "this is not an address: give host:port, for example 127.0.0.1:3001",
		first.Addr():    "bind: address already in use: stop what uses the port, or choose another one",
	}
	for address, want := range tests {
		s, err := New(Config{Listen: address})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), address) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestDiscoveryAndRegistry(t *testing.T) {
	b := start(t, nil)
	b.register("open", 3, `{}`)
	b.register("closed", 1, `{"listing":"private"}`)
	b.register("dear", 1, `{"billingMode":"paid","pricePerTask":0.05}`)
	var cdm struct {
		Playground, Network struct{ PublishKey, SubscribeKey string }
		API                 struct{ BaseURL, ClientID string }
		Sandbox             struct{ PubnubOrigin string }
	}
	b.call("GET", strings.TrimPrefix(b.CDMURL(), b.URL()), "", nil, &cdm)
	if cdm.API.BaseURL != b.URL() || cdm.Sandbox.PubnubOrigin != b.Addr() || cdm.Playground.SubscribeKey == "" || cdm.Playground == cdm.Network {
		t.Errorf("CDM: %+v", cdm)
	}
	type body struct {
		Agent struct {
			AgentName, Name, Listing, BillingMode, OrgID, PricePerTask string
			Card                                                       object
		}
	}
	var a body
	b.call("GET", "/api/v1/registry/agents?agentName=open", "", nil, &a)
	if a.Agent.AgentName != "open" || a.Agent.Name != "Agent open" || a.Agent.Listing != "public" || a.Agent.BillingMode != "free" || a.Agent.Card["runtime"] == nil {
		t.Errorf("agent: %+v", a)
	}
	b.call("GET", "/api/v1/registry/agents?agentName=dear", b.keys.Orgs[1].APIKey, nil, &a)
	if a.Agent.BillingMode != "paid" || a.Agent.PricePerTask != "0.05" {
		t.Errorf("agent: %+v", a)
	}
	b.call("GET", "/api/v1/registry/agents?agentName=closed", b.APIKey(), nil, &a)
	b.call("GET", "/api/v1/registry/agents?agentName=closed", b.consumer(b.APIKey()), nil, &a)
	for bearer, name := range map[string]string{"": "closed", "bk_wrong": "closed", b.keys.Orgs[1].APIKey: "closed", b.APIKey(): "nobody"} {
		if status, got, _ := b.do("GET", "/api/v1/registry/agents?agentName="+name, bearer, ""); status != 404 || !strings.Contains(got, `"code":"AgentNotFound"`) {
			t.Errorf("%s: %d %s", name, status, got)
		}
	}
	type list struct {
		Agents []struct {
			AgentName string
			Card      object
		}
		Next       *string
		TotalCount int
	}
	namesOf := func(l list) (out []string) {
		for _, a := range l.Agents {
			out = append(out, a.AgentName)
		}
		return out
	}
	var l list
	b.call("GET", "/api/v1/registry/agents?limit=2", b.APIKey(), nil, &l)
	if diff := cmp.Diff([]string{"closed", "dear"}, namesOf(l)); diff != "" || l.TotalCount != 3 || l.Next == nil || l.Agents[0].Card != nil {
		t.Fatalf("%+v", l)
	}
	next := *l.Next
	l = list{}
	b.call("GET", "/api/v1/registry/agents?limit=2&include=full&cursor="+next, b.APIKey(), nil, &l)
	if diff := cmp.Diff([]string{"open"}, namesOf(l)); diff != "" || l.Next != nil || l.Agents[0].Card == nil {
		t.Errorf("%+v", l)
	}
	l = list{}
	b.call("GET", "/api/v1/registry/agents", "", nil, &l)
	if diff := cmp.Diff([]string{"dear", "open"}, namesOf(l)); diff != "" {
		t.Error(diff)
	}
	for _, path := range []string{"/api/v1/nothing", "/blob/x"} {
		if status, got, header := b.do("GET", path, "", ""); status != 404 || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s %s", path, status, header.Get("Content-Type"), got)
		}
	}
}

func TestListTasks(t *testing.T) {
	b := start(t, nil)
	b.register("a", 1, `{}`)
	mine, other := b.consumer(b.APIKey()), b.consumer(b.keys.Orgs[1].APIKey)
	var ids []string
	for range 3 {
		ids = append([]string{b.send(mine, "a", "x", nil).TaskID}, ids...)
	}
	foreign := b.send(other, "a", "x", nil).TaskID
	type list struct {
		Tasks      []struct{ TaskID, AgentName, Owner, State, CreatedTime, UpdatedTime string }
		Next       *string
		TotalCount int
	}
	page := func(token string, params object) ([]string, *string) {
		var l list
		if e := b.rpc(token, "ListTasks", params, &l); e != nil {
			t.Fatalf("%+v", e)
		}
		var out []string
		for _, task := range l.Tasks {
			out = append(out, task.TaskID)
		}
		return out, l.Next
	}
	got, next := page(mine, object{"limit": 2})
	if diff := cmp.Diff(ids[:2], got); diff != "" || next == nil {
		t.Fatal(diff, next)
	}
	if got, next = page(mine, object{"cursor": *next}); cmp.Diff(ids[2:], got) != "" || next != nil {
		t.Errorf("second page %v %v", got, next)
	}
	if got, _ = page(other, object{"state": "pending", "agentName": "a", "ownerId": "user_2"}); cmp.Diff([]string{foreign}, got) != "" {
		t.Errorf("other's %v", got)
	}
	if got, _ = page(other, object{"state": "running"}); got != nil {
		t.Errorf("running %v", got)
	}
}

func TestEnvFile(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	path := filepath.Join(t.TempDir(), "dev.env")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	vars := append(s.Env(), EnvVar{"ODD", `a b'c"$d`}, EnvVar{"EMPTY", ""})
	if err := WriteEnvFile(path, vars); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	out, err := exec.Command("sh", "-c", `. "$1"; printf '%s\n' "$BLOCKS_CDM_URL" "$BLOCKSD_SANDBOX_KEYS" "$ODD" "$EMPTY"`, "sh", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := s.CDMURL() + "\n" + s.keys.Orgs[1].APIKey + "," + s.keys.Orgs[2].APIKey + "\n" + `a b'c"$d` + "\n\n"
	if string(out) != want {
		t.Errorf("sourced %q, want %q", out, want)
	}
	var names []string
	for _, v := range s.Env() {
		names = append(names, v.Name)
	}
	if diff := cmp.Diff([]string{"BLOCKS_CDM_URL", "BLOCKS_API_KEY", "BLOCKSD_PUBNUB_ORIGIN", "BLOCKSD_SANDBOX_TOKEN", "BLOCKSD_SANDBOX_OPEN_KEYS",
		"BLOCKSD_SANDBOX_PAM_KEYS", "BLOCKSD_SANDBOX_KEYS"}, names); diff != "" {
		t.Error(diff)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if err := WriteEnvFile(filepath.Join(path, "x"), nil); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("into a file: %v", err)
	}
}

// TestShutdownEndsHeldPolls: start's cleanup checks that Run returns within a second.
func TestShutdownEndsHeldPolls(t *testing.T) {
	var held sync.WaitGroup
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	t.Cleanup(held.Wait) // after the sandbox has ended
	b := start(t, nil)
	for range 50 {
		held.Go(func() {
			res, err := http.Get(b.URL() + "/v2/subscribe/" + b.keys.Open.SubscribeKey + "/c/0?tt=17000000000000000")
			if err == nil {
				res.Body.Close()
			}
		})
	}
	b.await("polls are held", func() bool { return b.spaces[2].Stats().Channels == 1 })
}

func TestRequestLogHidesSecrets(t *testing.T) {
	var out testutil.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b := start(t, func(c *Config) { c.Log = log })
	b.register("echo", 1, `{}`)
	w := b.work("echo", "AG-echo-1", 1)
	w.state(0)
	token := b.consumer(b.APIKey())
	s := b.send(token, "echo", "hush", nil)
	start := w.next()
	w.running(start)
	b.events(s)
	b.do("GET", "/publish/"+b.keys.Open.PublishKey+"/"+b.keys.Open.SubscribeKey+"/0/c/0/%22hush%22?auth=hush&signature=hush", "", "")
	got := out.String()
	for _, secret := range []string{"hush", b.APIKey(), token, w.token, w.jwt, w.refresh, start["writeToken"].(string), s.Extensions.Blocks.ReadToken} {
		if strings.Contains(got, secret) {
			t.Errorf("the log contains %.20q", secret)
		}
	}
	if !strings.Contains(got, "method=POST path=/api/v1/rpc status=200") {
		t.Errorf("log: %s", got)
	}
}

func TestRunReportsServerFailure(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Run(ctx); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run: %v", err)
	}
}
