package link_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/sandbox/access"
)

func TestHistoryReadsAllPages(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.ring = 1000 })
	for i := range 250 {
		n.publish("c", fmt.Sprint(i))
	}
	n.publish("text", `{"text":"a message that looks like a file event"}`)
	l := n.link()
	all, err := l.History(within(t), "c", "", "")
	if err != nil || len(all) != 250 {
		t.Fatalf("%d messages, %v", len(all), err)
	}
	for i, m := range all {
		if string(m.Body) != fmt.Sprint(i) {
			t.Fatalf("message %d is %s", i, m.Body)
		}
	}
	if got := len(n.faults.requests("/v3/history/")); got != 3 {
		t.Errorf("%d requests for 250 messages", got)
	}
	for _, tc := range []struct {
		wanted   string
		found    bool
		requests int
	}{{"249", true, 1}, {"150", true, 1}, {"149", true, 2}, {"0", true, 3}, {"none", false, 3}} {
		before, shown := len(n.faults.requests("/v3/history/")), 0
		found, err := l.Search(within(t), "c", "", func(s link.Stored) bool {
			if shown++; tc.found && string(s.Body) != fmt.Sprint(250-shown) {
				t.Fatalf("message %s is shown as number %d", s.Body, shown)
			}
			return string(s.Body) == tc.wanted
		})
		if found != tc.found || err != nil {
			t.Errorf("search of %s: %v, %v", tc.wanted, found, err)
		}
		if got := len(n.faults.requests("/v3/history/")) - before; got != tc.requests {
			t.Errorf("search of %s: %d requests", tc.wanted, got)
		}
	}
	some, err := l.History(within(t), "c", "", all[120].Timetoken)
	if err != nil || len(some) != 129 || string(some[0].Body) != "121" {
		t.Errorf("after message 120: %d messages, %v", len(some), err)
	}
	if none, err := l.History(within(t), "empty", "", ""); err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
	if _, err := l.History(within(t), "c", "", "yesterday"); err == nil {
		t.Error("took a timetoken that is none")
	}
}

// A page that fails is asked for again, and not the pages that were searched already.
func TestSearchIsRetriedWhereItWas(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.ring = 1000 })
	for i := range 150 {
		n.publish("c", fmt.Sprint(i))
	}
	var asked atomic.Int32
	n.faults.set(func(*http.Request) (*http.Response, error, bool) {
		if asked.Add(1) == 2 {
			return answer(503, ``), nil, false
		}
		return nil, nil, false
	})
	shown := 0
	found, err := n.link().Search(within(t), "c", "", func(link.Stored) bool { shown++; return false })
	if found || err != nil || shown != 150 || asked.Load() != 3 {
		t.Errorf("found %v, %v, %d messages shown after %d requests", found, err, shown, asked.Load())
	}
}

func TestHistoryDenied(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.withAccess = true })
	l := n.link()
	_, err := l.History(within(t), "c", "wrong", "")
	var status *link.StatusError
	if !errors.As(err, &status) || status.Status != 403 {
		t.Errorf("%v", err)
	}
	token := n.grant(map[string]access.Right{"c": access.Read}, "tester")
	if _, err := l.History(within(t), "c", token, ""); err != nil {
		t.Error(err)
	}
}

func TestReadsAreRetried(t *testing.T) {
	n := newNetwork(t)
	var left atomic.Int32
	left.Store(2)
	n.faults.set(func(*http.Request) (*http.Response, error, bool) {
		if left.Add(-1) >= 0 {
			return answer(503, ``), nil, false
		}
		return nil, nil, false
	})
	tt, err := n.link().Time(within(t))
	if err != nil || len(tt) != 17 {
		t.Errorf("%s, %v", tt, err)
	}
}

// storage is a place for files beside the PubNub face, which redirects to it.
type storage map[string]string

func (s storage) Locate(channel, id, name string) (string, bool) {
	_, ok := s[channel+"|"+id+"|"+name]
	return "/stored/" + id, ok
}

func TestOpenFile(t *testing.T) {
	const name = `two ü & 50%.bin`
	files := storage{"files.1|id/1|" + name: "content"}
	release := make(chan struct{})
	var referer atomic.Value
	n := newNetwork(t, func(s *setup) {
		s.withAccess = true
		s.files = files
		s.front = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/stored/") {
					next.ServeHTTP(w, r)
					return
				}
				referer.Store(r.Header.Get("Referer") + r.URL.RawQuery)
				w.Header().Set("Content-Length", "7")
				_, _ = io.WriteString(w, "con")
				w.(http.Flusher).Flush()
				select {
				case <-release:
				case <-r.Context().Done():
					return
				}
				_, _ = io.WriteString(w, "tent")
			})
		}
	})
	l := n.link(func(c *link.Config) { c.Timeouts.Stall = 100 * time.Millisecond })
	token := n.grant(map[string]access.Right{"files.1": access.Read}, "")

	stalled, _, err := l.OpenFile(within(t), "files.1", "id/1", name, token)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(stalled); err == nil {
		t.Error("a download that stands still succeeded")
	}
	stalled.Close()

	close(release)
	l = n.link() // which does not mind when the machine stands still
	body, size, err := l.OpenFile(within(t), "files.1", "id/1", name, token)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	if err != nil || string(got) != "content" || size != 7 {
		t.Errorf("%q, %d, %v", got, size, err)
	}
	body.Close()
	if r := referer.Load(); r != "" {
		t.Errorf("the storage was asked %q", r)
	}

	for name, token := range map[string]string{"unknown": token, name: "wrong"} {
		_, _, err = l.OpenFile(within(t), "files.1", "id/1", name, token)
		var status *link.StatusError
		if !errors.As(err, &status) || strings.Contains(err.Error(), token) {
			t.Errorf("%v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := l.OpenFile(ctx, "files.1", "id/1", name, token); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
