package link_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

func TestSubscribeDeliversInOrder(t *testing.T) {
	n := newNetwork(t)
	l := n.link()
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"room a", "other"}})
	ls.until(link.Connected)
	for i := range 2000 {
		n.publish("room a", fmt.Sprint(i))
		if i%50 == 49 { // the sandbox, like the network, keeps only the last 100 for those who lag
			ls.expect(i-49, 50)
		}
	}
	n.faults.mu.Lock()
	defer n.faults.mu.Unlock()
	if n.faults.most != 1 {
		t.Errorf("%d polls at once", n.faults.most)
	}
}

func TestSubscribeSendsWhatTheNetworkNeeds(t *testing.T) {
	n := newNetwork(t)
	l := n.link(func(c *link.Config) { c.UserID = "AG-echo-1" })
	l.SetToken("t/k+n==")
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"agent.1.control"}, Filter: wire.ControlFilter("AG-echo-1"), Heartbeat: wire.PresenceTimeout})
	ls.until(link.Connected)
	n.space.Publish(pubsub.Publication{Channel: "agent.1.control", Body: []byte("1"), Meta: []byte(`{"instance":"another"}`)})
	n.space.Publish(pubsub.Publication{Channel: "agent.1.control", Body: []byte("2"), Meta: []byte(`{"broadcast":"true"}`)})
	n.space.Publish(pubsub.Publication{Channel: "agent.1.control", Body: []byte("3"), Meta: []byte(`{"instance":"AG-echo-1"}`)})
	ls.expect(2, 2)
	sent := n.faults.requests("/v2/subscribe/")
	for _, want := range []string{"/v2/subscribe/sub-c-test/agent.1.control/0?", "auth=t%2Fk%2Bn%3D%3D", "heartbeat=20", "uuid=AG-echo-1", "filter-expr=meta.instance%20%3D%3D%20%27AG-echo-1%27%20%7C%7C%20meta.broadcast%20%3D%3D%20%22true%22"} {
		for _, r := range sent {
			if !strings.Contains(r, want) {
				t.Errorf("%s lacks %s", r, want)
			}
		}
	}
	if !strings.Contains(sent[0], "tt=0&") || strings.Contains(sent[0], "tr=") {
		t.Errorf("first request %s is no handshake", sent[0])
	}
	if !strings.Contains(sent[1], "tr=") {
		t.Errorf("poll %s without region", sent[1])
	}
}

// An answer that begins and then stands still is given up long before the poll is: nothing is lost, and nobody is deaf.
func TestSubscribeGivesUpAnAnswerThatStandsStill(t *testing.T) {
	var left atomic.Int32
	stuck := make(chan struct{}, 1)
	n := newNetwork(t, func(s *setup) {
		s.front = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/v2/subscribe/") || r.URL.Query().Get("tt") == "0" || left.Add(-1) < 0 {
					next.ServeHTTP(w, r)
					return
				}
				_, _ = io.WriteString(w, `{"t":{"t":"1`)
				w.(http.Flusher).Flush()
				stuck <- struct{}{}
				<-r.Context().Done()
			})
		}
	})
	left.Store(1)
	l := n.link(func(c *link.Config) { c.Timeouts.Answer, c.Timeouts.Poll = 100*time.Millisecond, time.Hour })
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}})
	ls.until(link.Connected)
	<-stuck
	n.publish("c", "0")
	ls.expect(0, 1)
}

// Every fault once, in the middle of a stream of messages: nothing may be lost, doubled or reordered.
func TestSubscribeSurvives(t *testing.T) {
	faults := map[string]fault{
		"503":   func(*http.Request) (*http.Response, error, bool) { return answer(503, `{"error":true}`), nil, false },
		"400":   func(*http.Request) (*http.Response, error, bool) { return answer(400, `{"error":true}`), nil, false },
		"429":   func(*http.Request) (*http.Response, error, bool) { return answer(429, ``), nil, false },
		"404":   func(*http.Request) (*http.Response, error, bool) { return answer(404, ``), nil, false },
		"530":   func(*http.Request) (*http.Response, error, bool) { return answer(530, ``), nil, false },
		"empty": func(*http.Request) (*http.Response, error, bool) { return answer(200, ``), nil, false },
		"no JSON": func(*http.Request) (*http.Response, error, bool) {
			return answer(200, `<html>400 403 timeout</html>`), nil, false
		},
		"no content": func(*http.Request) (*http.Response, error, bool) { return answer(204, ``), nil, false },
		"no cursor": func(*http.Request) (*http.Response, error, bool) {
			return answer(200, `{"t":{"t":""},"m":[]}`), nil, false
		},
		"cut":   func(*http.Request) (*http.Response, error, bool) { return cutAnswer(`{"t":{"t":"9`), nil, false },
		"reset": func(*http.Request) (*http.Response, error, bool) { return nil, errReset, false },
		"lost":  func(*http.Request) (*http.Response, error, bool) { return cutAnswer(`{`), nil, true },
		"dead": func(r *http.Request) (*http.Response, error, bool) {
			<-r.Context().Done()
			return nil, r.Context().Err(), false
		},
	}
	for name, f := range faults {
		survive := func(t *testing.T, ahead bool) {
			n := newNetwork(t, func(s *setup) { s.hold = 20 * time.Millisecond })
			l := n.link(func(c *link.Config) { c.Timeouts.Poll, c.Timeouts.Request = 100*time.Millisecond, 100*time.Millisecond })
			ls := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}, Ahead: ahead})
			ls.until(link.Connected)
			n.publish("c", "0")
			ls.expect(0, 1)
			var left atomic.Int32
			left.Store(2)
			hit := make(chan struct{}, 10)
			n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
				if !strings.HasPrefix(pathOf(r), "/v2/subscribe/") || left.Add(-1) < 0 {
					return nil, nil, false
				}
				hit <- struct{}{}
				return f(r)
			})
			for i := range 2 { // messages arrive while it is broken
				<-hit
				n.publish("c", fmt.Sprint(1+i))
			}
			ls.until(link.Lost)
			ls.until(link.Connected)
			n.publish("c", "3")
			ls.expect(1, 3)
		}
		t.Run(name, func(t *testing.T) { survive(t, false) })
		t.Run(name+" ahead", func(t *testing.T) { survive(t, true) })
	}
}

func TestSubscribeRenewsARefusedToken(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.withAccess = true; s.hold = 20 * time.Millisecond })
	l := n.link()
	l.SetToken("stale")
	renewals := 0
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}, OnDenied: func(context.Context) error {
		renewals++
		if renewals == 1 {
			return errors.New("the backend is away")
		}
		l.SetToken(n.grant(map[string]access.Right{"c": access.Read}, ""))
		return nil
	}})
	ls.until(link.Denied)
	ls.until(link.Connected)
	n.publish("c", "0")
	ls.expect(0, 1)
	l.SetToken("stale again")
	ls.until(link.Denied)
	n.publish("c", "1")
	ls.until(link.Connected)
	ls.expect(1, 1)
}

func TestSubscribeResumesFromACursor(t *testing.T) {
	n := newNetwork(t)
	n.publish("c", "0")
	l := n.link()
	now, err := l.Time(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 5; i++ {
		n.publish("c", fmt.Sprint(i))
	}
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}, Cursor: now})
	ls.expect(1, 4)
}

func TestSubscribeSkipsWhatIsNoMessage(t *testing.T) {
	n := newNetwork(t)
	var log testutil.Buffer
	l := n.link(func(c *link.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		if strings.Contains(r.URL.RawQuery, "tt=5&") {
			return answer(200, `{"t":{"t":"6","r":1},"m":[{"c":"c","p":{"t":"6"},"d":"file","e":4},"garbage",{"c":"c","p":{"t":"7"},"d":0}]}`), nil, false
		}
		return nil, nil, false
	})
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}, Cursor: "5"})
	ls.expect(0, 1)
	if !strings.Contains(log.String(), "cannot be read") {
		t.Errorf("nothing logged about the garbage: %s", log.String())
	}
}

// A network that fails at random all the time.
func TestSubscribeUnderConstantFaults(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.hold = 5 * time.Millisecond; s.ring = 5000 })
	var mu sync.Mutex // guards random
	random := rand.New(rand.NewPCG(1, 2))
	kinds := []fault{
		func(*http.Request) (*http.Response, error, bool) { return answer(503, ``), nil, false },
		func(*http.Request) (*http.Response, error, bool) { return cutAnswer(`{"t"`), nil, true },
		func(*http.Request) (*http.Response, error, bool) { return nil, errReset, true },
		func(*http.Request) (*http.Response, error, bool) { return answer(200, `[]`), nil, false },
	}
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		mu.Lock()
		x := random.IntN(10)
		mu.Unlock()
		if x < len(kinds) {
			return kinds[x](r)
		}
		return nil, nil, false
	})
	l := n.link(func(c *link.Config) { c.Timeouts.BackoffCap = 2 * time.Millisecond })
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}})
	ahead := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}, Ahead: true})
	ls.until(link.Connected)
	ahead.until(link.Connected)
	for i := range 2000 {
		n.publish("c", fmt.Sprint(i))
	}
	ls.expect(0, 2000)
	ahead.expect(0, 2000)
}

func TestSubscribeEndsWithItsContextOrLink(t *testing.T) {
	n := newNetwork(t)
	l := n.link()
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}})
	ls.until(link.Connected)
	ls.cancel()
	if err := <-ls.done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	ls.done = nil
	other := n.listen(l, link.SubscribeConfig{Channels: []string{"c"}})
	other.until(link.Connected)
	l.Close()
	if err := <-other.done; !errors.Is(err, link.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
	other.done = nil
	if err := l.Subscribe(context.Background(), link.SubscribeConfig{Channels: []string{"c"}}, nil); !errors.Is(err, link.ErrClosed) {
		t.Errorf("closed link subscribes: %v", err)
	}
}

func TestStatesHaveNames(t *testing.T) {
	var names []string
	for s := link.Connecting; s <= link.Denied; s++ {
		names = append(names, s.String())
	}
	if slices.Contains(names, "unknown") {
		t.Error(names)
	}
}
