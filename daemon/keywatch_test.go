package daemon

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/internal/testutil"
)

// fastLook makes the daemon ask about its keys far more often than it does.
func fastLook(c Config) Config {
	c.KeyLook = 50 * time.Millisecond
	return c
}

func (r *running) states() map[string]string {
	states := map[string]string{}
	for _, a := range r.Status().Agents {
		states[a.Name] = a.State
	}
	return states
}

// TestForcedOfflineIsNoticed: an agent that nobody can reach any more says so, although it sends nothing that is refused. The
// others go on. Only when all are refused the daemon ends.
func TestForcedOfflineIsNoticed(t *testing.T) {
	network := startNetwork(t)
	d := start(t, fastLook(settingsFor(t, network, handlers(t, "echo", "adder"))))
	d.ready(t)
	if err := network.ForceOffline("echo", true); err != nil {
		t.Fatal(err)
	}
	d.until(t, "echo has failed and adder has not", func() bool {
		s := d.states()
		return s["echo"] == "failed" && s["adder"] == "online"
	})
	for _, a := range d.Status().Agents {
		if a.Name == "echo" && !strings.Contains(a.Reason, "AGENT_FORCED_OFFLINE") {
			t.Errorf("the reason is %q", a.Reason)
		}
	}
	if err := network.ForceOffline("adder", true); err != nil { // the only one that is left, so it is asked about directly
		t.Fatal(err)
	}
	if err := d.wait(t); !errors.Is(err, ErrAuthFinal) {
		t.Errorf("the daemon ends with %v", err)
	}
}

// TestRevokedKeyIsNoticed: the same for the key of all agents, also where the network still shows them as online.
func TestRevokedKeyIsNoticed(t *testing.T) {
	network := startNetwork(t)
	d := start(t, fastLook(settingsFor(t, network, handlers(t, "echo", "adder"))))
	d.ready(t)
	if err := network.RevokeKey(network.APIKey()); err != nil {
		t.Fatal(err)
	}
	if err := d.wait(t); !errors.Is(err, ErrAuthFinal) {
		t.Errorf("the daemon ends with %v", err)
	}
}

// TestKeyLooksAreCheap: while everything is as it should be, a look is one request for all agents of a key.
func TestKeyLooksAreCheap(t *testing.T) {
	network := startNetwork(t)
	d := start(t, fastLook(settingsFor(t, network, handlers(t, "echo", "adder"))))
	d.ready(t)
	network.Faults().Record(true, 1000)
	count := func() map[string]int {
		seen := map[string]int{}
		for _, r := range network.Faults().Requests(0) {
			path, _, _ := strings.Cut(r.Path, "?")
			seen[r.Method+" "+path]++
		}
		return seen
	}
	testutil.Eventually(t, waitLimit, "there have been ten looks", func() bool { return count()["GET /api/v1/registry/agents"] >= 10 })
	seen := count()
	for _, other := range []string{"POST /api/v1/auth/agent/refresh", "POST /api/v1/auth/agent/connect"} {
		if seen[other] > 0 {
			t.Errorf("%d times %s", seen[other], other)
		}
	}
	if n := seen["GET /api/v1/registry/publish-context"]; n > 1 {
		t.Errorf("asked %d times when the key ends", n)
	}
}

// TestKeyEndIsAnnounced: a key that ends soon is a condition and one line of the log; the daemon is ready all the same. With
// another key both are over.
func TestKeyEndIsAnnounced(t *testing.T) {
	network := startNetwork(t)
	var log testutil.Buffer
	var mu sync.Mutex
	key := func(life time.Duration) string {
		k, err := network.CreateKey("org_1", "k", life)
		if err != nil {
			t.Fatal(err)
		}
		return k.Secret
	}
	current := key(2*24*time.Hour + time.Minute)
	c := fastLook(settingsFor(t, network, handlers(t, "echo")))
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	c.Key = func(string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return current, nil
	}
	d := start(t, c)
	d.ready(t)
	condition := func() (text string) {
		for _, c := range d.Status().Conditions {
			if c.Code == string(roster.KeyEnds) {
				text = c.Text
			}
		}
		return text
	}
	d.until(t, "the end is a condition", func() bool { return strings.HasPrefix(condition(), "the API key of agent echo ends in 2 days, at ") })
	if !d.Status().Ready {
		t.Error("a key that ends some day makes the daemon unready")
	}
	if a := d.snapshot().Agents; len(a) != 1 || time.Until(a[0].KeyEnds) < 47*time.Hour || time.Until(a[0].KeyEnds) > 49*time.Hour {
		t.Errorf("the metrics get %+v", a)
	}
	mu.Lock()
	current = key(0)
	mu.Unlock()
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Undrain()
	d.ready(t)
	d.until(t, "the condition is over", func() bool { return condition() == "" })
	if n := strings.Count(log.String(), `msg="the API key of agent echo ends in 2 days`); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}
