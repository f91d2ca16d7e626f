package daemon

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// A network that comes back with other keys and another owner: the daemon looks where it is now, and learns there that
// its API key is not valid any more.
func TestNetworkIsAnotherOne(t *testing.T) {
	first := sandboxtest.Start(t, sandbox.Config{})
	d := start(t, settingsFor(t, first.Sandbox, handlers(t, "echo")))
	d.ready(t)
	first.Stop()
	d.until(t, "the agent has lost the network", func() bool {
		a := d.Status().Agents[0]
		return a.State == "connecting" && strings.Contains(a.Reason, "connection to the network is lost")
	})
	sandboxtest.Start(t, sandbox.Config{Listen: first.Addr()})
	if err := d.wait(t); !errors.Is(err, ErrAuthFinal) {
		t.Errorf("the daemon ended with %v", err)
	}
	a := d.Status().Agents[0]
	const want = "(API_KEY_INVALID): The API key is invalid or was revoked: use a valid API key, then restart"
	if a.State != "failed" || !strings.HasSuffix(a.Reason, want) {
		t.Errorf("the agent is %s: %s", a.State, a.Reason)
	}
}

// The keys of the network change under a daemon.
func TestKeysAreOthers(t *testing.T) {
	network := startNetwork(t)
	var asked atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		resp, err := http.Get(network.CDMURL())
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		if asked.Add(1) == 1 {
			body = bytes.ReplaceAll(body, []byte("sub-c-"), []byte("sub-c-0"))
		}
		_, _ = w.Write(body)
	}))
	defer http.DefaultClient.CloseIdleConnections()
	defer front.Close()
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Settings.Network.CDMURL = front.URL
	d := start(t, c)
	d.ready(t)
	if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
}
