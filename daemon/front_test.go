package daemon

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/blocksd/blocksd/sandbox"
)

// front serves a network's deployment document at an address of its own, and can fail to.
type front struct {
	url    string
	broken atomic.Bool
}

func newFront(t *testing.T, network *sandbox.Sandbox) *front {
	f := &front{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, network.CDMURL(), nil)
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	}))
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	f.url = server.URL
	return f
}

func (f *front) fail(on bool) { f.broken.Store(on) }
