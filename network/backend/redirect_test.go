package backend_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/blocksd/blocksd/network/backend"
)

// TestRedirectsAreNotFollowed: whatever a redirect says, the API key goes nowhere else.
func TestRedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/api", status)
		}))
		c, err := backend.New(backend.Config{BaseURL: api.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.NewConsumer("bk_secret").UserID(within(t))
		if err == nil || !strings.Contains(err.Error(), "a redirect to "+elsewhere.URL+", which no request with credentials follows") || strings.Contains(err.Error(), "bk_") {
			t.Errorf("%d: %v", status, err)
		}
		if _, err := c.Agent(within(t), "token", "echo"); err == nil {
			t.Errorf("%d: a GET was answered", status)
		}
		c.Close()
		api.Close()
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

// TestDocumentRedirects: the deployment document may have moved, but never from https to http.
func TestDocumentRedirects(t *testing.T) {
	const document = `{"playground":{"publishKey":"p","subscribeKey":"s"},"network":{"publishKey":"p2","subscribeKey":"s2"},"api":{"baseUrl":"http://api"}}`
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(document)) }))
	defer plain.Close()
	moved := httptest.NewServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer moved.Close()
	if d, err := backend.FetchCDM(within(t), moved.Client(), moved.URL); err != nil || d.BaseURL != "http://api" {
		t.Errorf("a document that has moved: %+v, %v", d, err)
	}
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, http.StatusFound))
	defer secure.Close()
	if _, err := backend.FetchCDM(within(t), secure.Client(), secure.URL); err == nil || !strings.Contains(err.Error(), "from https to http") {
		t.Errorf("a redirect from https to http: %v", err)
	}
	loop := httptest.NewServer(nil)
	loop.Config.Handler = http.RedirectHandler(loop.URL, http.StatusFound)
	defer loop.Close()
	if _, err := backend.FetchCDM(within(t), loop.Client(), loop.URL); err == nil || !strings.Contains(err.Error(), "redirects") {
		t.Errorf("redirects in a circle: %v", err)
	}
}
