package link_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/blocksd/blocksd/network/link"
)

// ownConnections has publishes sent as a daemon does it, not through a transport of the test.
func ownConnections(c *link.Config) { c.Transport = nil }

// A publish whose answer is lost with its connection is found in history and not sent again.
func TestConnectionBreaksBeforeTheAnswer(t *testing.T) {
	var publishes atomic.Int32
	n := newNetwork(t, func(s *setup) {
		s.front = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/publish/") || publishes.Add(1) != 2 {
					next.ServeHTTP(w, r)
					return
				}
				next.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler) // ends the connection
			})
		}
	})
	l := n.link(ownConnections)
	for _, body := range []string{`"first"`, `"second"`, `"third"`} {
		timetoken, err := l.Publish(t.Context(), link.Message{Channel: "c", Body: []byte(body), Store: true})
		if err != nil || timetoken == "" {
			t.Fatalf("publish %s: %q, %v", body, timetoken, err)
		}
	}
	if got := len(n.stored("c")); got != 3 || publishes.Load() != 3 {
		t.Errorf("%d messages are stored after %d publishes", got, publishes.Load())
	}
}

func TestCloseEndsPublish(t *testing.T) {
	asked := make(chan struct{}, 8)
	release := make(chan struct{})
	n := newNetwork(t, func(s *setup) {
		s.front = func(http.Handler) http.Handler {
			return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				asked <- struct{}{}
				<-release
			})
		}
	})
	defer close(release)
	type publish = func(*link.Link, context.Context, link.Message) (string, error)
	for _, p := range []publish{(*link.Link).Publish, (*link.Link).PublishOnce} {
		l := n.link(ownConnections)
		go func() { <-asked; l.Close() }()
		if _, err := p(l, t.Context(), link.Message{Channel: "c", Body: []byte("1")}); err == nil {
			t.Error("a publish outlived the link")
		}
	}
	l := n.link(ownConnections)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := l.Publish(ctx, link.Message{Channel: "c", Body: []byte("1")}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
