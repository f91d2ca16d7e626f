package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/network/wire"
)

// TestKeyIsReplaced: a key that was replaced at its source before the old one was revoked costs an agent nothing; one that
// was revoked first takes the agent down until its source has another one. The daemon ends only when every key is refused
// as its source has it.
func TestKeyIsReplaced(t *testing.T) {
	network := startNetwork(t)
	plugins := handlers(t, "echo", "adder")
	c := settingsFor(t, network, plugins)
	c.Settings.Agents = []config.Agent{{Card: filepath.Join(plugins, "echo.agent-card.json"), Handler: "echo", KeyFile: "own"}}
	var key, own atomic.Value
	key.Store(network.APIKey())
	own.Store(network.APIKey())
	c.Key = func(file string) (string, error) {
		if file == "own" {
			return own.Load().(string), nil
		}
		return key.Load().(string), nil
	}
	d := start(t, c)
	d.ready(t)
	another := func() string {
		t.Helper()
		k, err := network.CreateKey("org_1", "next", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return k.Secret
	}
	reconnect := func() {
		t.Helper()
		if err := d.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.Undrain()
	}
	old := key.Load().(string)
	key.Store(another())
	own.Store(key.Load())
	if err := network.RevokeKey(old); err != nil {
		t.Fatal(err)
	}
	reconnect()
	d.ready(t)
	if e := awaitEvent(t, submitWith(t, network, key.Load().(string), "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
	revoke := func(key *atomic.Value) {
		t.Helper()
		if err := network.RevokeKey(key.Load().(string)); err != nil {
			t.Fatal(err)
		}
	}
	own.Store(another())
	reconnect()
	d.ready(t)
	revoke(&own)
	reconnect()
	d.until(t, "only the agent with the key is down", func() bool {
		states := map[string]string{}
		for _, a := range d.Status().Agents {
			states[a.Name] = a.State
		}
		return states["echo"] == "failed" && states["adder"] == "online"
	})
	own.Store(another())
	d.ready(t)

	revoke(&own)
	revoke(&key)
	reconnect()
	if err := d.wait(t); !errors.Is(err, ErrAuthFinal) {
		t.Errorf("every key is refused, and the daemon ends with %v", err)
	}
}

// TestKeyAppears: an agent whose key file comes later is served then.
func TestKeyAppears(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	var there atomic.Bool
	c.Key = func(string) (string, error) {
		if !there.Load() {
			return "", os.ErrNotExist
		}
		return network.APIKey(), nil
	}
	d := start(t, c)
	d.until(t, "the agent says what it lacks", func() bool {
		s := d.Status()
		return len(s.Agents) == 1 && s.Agents[0].State == "failed"
	})
	there.Store(true)
	d.ready(t)
}

// TestKeyAppearsBeforeTheNetwork: an agent that has its key at last says what it waits for next.
func TestKeyAppearsBeforeTheNetwork(t *testing.T) {
	c := settingsFor(t, nil, handlers(t, "echo"))
	c.Settings.Network.CDMURL = "http://127.0.0.1:1/cdm"
	var there atomic.Bool
	c.Key = func(string) (string, error) {
		if !there.Load() {
			return "", os.ErrNotExist
		}
		return "bk_some", nil
	}
	d := start(t, c)
	state := func(want string) func() bool {
		return func() bool { s := d.Status(); return len(s.Agents) == 1 && s.Agents[0].State == want }
	}
	d.until(t, "the agent says what it lacks", state("failed"))
	there.Store(true)
	d.until(t, "the agent waits for the network", state("connecting"))
}
