// Package sandboxtest runs a sandbox for the tests of other packages.
package sandboxtest

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// Named waits. They bound hangs: a machine may stand still for a while.
const (
	stopLimit = 3 * time.Minute // for the sandbox to end; it takes less than a second
	cdmLimit  = 3 * time.Minute // for the deployment document
)

// Network is a sandbox that runs until the end of the test. Its API key, CDM URL and PubNub origin are what APIKey, CDMURL
// and Addr of the sandbox return.
type Network struct {
	*sandbox.Sandbox
	t    testing.TB
	stop func()
}

// Start runs a sandbox with the agents of some cards. Without Listen or Listener it takes a free port of the loopback
// interface; without StateDir it keeps its files in a directory of the test.
func Start(t testing.TB, cfg sandbox.Config, cards ...card.Card) *Network {
	t.Helper()
	if cfg.BlobDir == "" && cfg.StateDir == "" {
		cfg.BlobDir = t.TempDir()
	}
	sb, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- sb.Run(ctx) }()
	n := &Network{Sandbox: sb, t: t, stop: sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("sandbox: %v", err)
			}
		case <-time.After(stopLimit):
			t.Errorf("the sandbox did not end within %s", stopLimit)
		}
	})}
	t.Cleanup(n.stop)
	for _, c := range cards {
		if err := sb.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// Stop ends the sandbox before the test does.
func (n *Network) Stop() { n.stop() }

// Backend fetches the deployment document through a client, nil for one of its own, and returns it with the HTTP API.
func (n *Network) Backend(hc *http.Client) (backend.CDM, *backend.Client) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), cdmLimit)
	defer cancel()
	cdm, err := backend.FetchCDM(ctx, hc, n.CDMURL())
	if err != nil {
		n.t.Fatal(err)
	}
	api, err := backend.New(backend.Config{BaseURL: cdm.BaseURL, HTTP: hc})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(api.Close)
	return cdm, api
}

// Environ returns the variables for clients of the sandbox, in the form of os.Environ.
func (n *Network) Environ() []string {
	var env []string
	for _, v := range n.Env() {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}

// OpenKeys are those of the keyset without access control.
func (n *Network) OpenKeys() wire.Keyset {
	n.t.Helper()
	for _, v := range n.Env() {
		if v.Name == "BLOCKSD_SANDBOX_OPEN_KEYS" {
			publish, subscribe, _ := strings.Cut(v.Value, ":")
			return wire.Keyset{PublishKey: publish, SubscribeKey: subscribe}
		}
	}
	n.t.Fatal("the environment of the sandbox names no open keys")
	return wire.Keyset{}
}
