package link_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

const control = "agent.7.control"

func isSetState(r *http.Request) bool { return strings.Contains(pathOf(r), "/data") }

// announce runs a presence until the test ends.
func announce(t *testing.T, l *link.Link, timeout, interval time.Duration) *link.Presence {
	t.Helper()
	p := l.NewPresence(control, timeout, interval)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return p
}

func (n *network) state(uuid string) string { return string(n.space.State(control, uuid)) }

func TestPresenceAnnouncesTheLatestState(t *testing.T) {
	n := newNetwork(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		if isSetState(r) {
			once.Do(func() { // the first update is slow
				close(entered)
				<-release
			})
		}
		return nil, nil, false
	})
	l := n.link()
	p := announce(t, l, wire.PresenceTimeout, wire.HeartbeatInterval)
	early, cancel := context.WithCancel(t.Context())
	cancel()
	if p.WaitFirst(early) == nil {
		t.Error("acknowledged before anything was said")
	}
	p.Set([]byte(`{"activeTasks":0,"startedAt":90071992547409931,"note":"a b&#"}`))
	<-entered
	for i := 1; i <= 50; i++ {
		p.Set(fmt.Appendf(nil, `{"activeTasks":%d}`, i))
	}
	close(release)
	if err := p.WaitFirst(within(t)); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return n.state("tester") == `{"activeTasks":50}` })
	sent := n.faults.requests("/data")
	if len(sent) != 2 || !strings.Contains(sent[0], "90071992547409931") {
		t.Errorf("sent %d updates for 51 changes: %v", len(sent), sent)
	}
	n.space.SetState([]string{control}, "tester", []byte(`{}`)) // the network forgets
	p.Resync()
	waitUntil(t, func() bool { return n.state("tester") == `{"activeTasks":50}` })
}

func TestPresenceTriesAgain(t *testing.T) {
	n := newNetwork(t)
	left := 3
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		if isSetState(r) && left > 0 { // one request at a time
			left--
			return answer(503, ``), nil, false
		}
		return nil, nil, false
	})
	p := announce(t, n.link(), wire.PresenceTimeout, wire.HeartbeatInterval)
	p.Set([]byte(`{"a":1}`))
	if err := p.WaitFirst(within(t)); err != nil {
		t.Fatal(err)
	}
}

func TestPresenceLeaves(t *testing.T) {
	n := newNetwork(t)
	l := n.link()
	p := announce(t, l, wire.PresenceTimeout, 5*time.Millisecond)
	p.Set([]byte(`{"a":1}`))
	waitUntil(t, func() bool { return len(n.space.HereNow([]string{control})[control]) == 1 })
	if err := p.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := n.space.HereNow([]string{control})[control]; len(got) != 0 {
		t.Errorf("still present: %v", got)
	}
	before := len(n.faults.requests("/presence/"))
	p.Set([]byte(`{"a":2}`))
	if err := l.NewPresence(control, wire.PresenceTimeout, time.Hour).Leave(within(t)); err != nil { // a round trip later
		t.Fatal(err)
	}
	if got := len(n.faults.requests("/presence/")); got != before+1 {
		t.Errorf("%d requests after the leave", got-before-1)
	}
	q := announce(t, l, wire.PresenceTimeout, time.Hour)
	if err := q.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := q.WaitFirst(within(t)); !errors.Is(err, link.ErrLeft) {
		t.Errorf("waiting after the leave: %v", err)
	}
}

func TestLeaveHasADeadline(t *testing.T) {
	n := newNetwork(t)
	l := n.link(func(c *link.Config) { c.Timeouts.Leave = 50 * time.Millisecond })
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		<-r.Context().Done()
		return nil, r.Context().Err(), false
	})
	if err := l.NewPresence(control, wire.PresenceTimeout, time.Hour).Leave(within(t)); err == nil {
		t.Error("a leave without an answer succeeded")
	}
}

// An agent that does nothing for ten minutes: at most 0.25 requests per second, present all the time, and its state
// comes back by itself after the network has forgotten it.
func TestIdleTraffic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler, n := newHandler(t)
		n.faults = &faults{next: inProcess{handler}}
		n.origin = "sandbox"
		l := n.link(func(c *link.Config) { c.Timeouts = link.Timeouts{} })
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() {
			_ = l.Subscribe(ctx, link.SubscribeConfig{Channels: []string{control}, Heartbeat: wire.PresenceTimeout}, func(link.Received) {})
		})
		p := l.NewPresence(control, wire.PresenceTimeout, wire.HeartbeatInterval)
		running.Go(func() { _ = p.Run(ctx) })
		for i := range 100 { // as tasks come and go
			p.Set(fmt.Appendf(nil, `{"activeTasks":%d}`, i%2))
			time.Sleep(time.Second)
		}
		p.Set([]byte(`{"activeTasks":0}`))
		busy := len(n.faults.requests(""))
		const idle = 10 * time.Minute
		for passed := time.Duration(0); passed < idle; passed += time.Second {
			time.Sleep(time.Second)
			synctest.Wait()
			n.space.Expire()
			if got := n.space.HereNow([]string{control})[control]; len(got) != 1 {
				t.Fatalf("present after %v: %v", passed, got)
			}
		}
		after := len(n.faults.requests("")) - busy
		if rate := float64(after) / idle.Seconds(); rate > 0.25 {
			t.Errorf("%.3f requests per second: %d", rate, after)
		}
		if beats := len(n.faults.requests("/heartbeat?")); beats < 60 {
			t.Errorf("only %d heartbeats", beats)
		}
		n.space.SetState([]string{control}, "tester", []byte(`{}`))
		time.Sleep(wire.HeartbeatInterval + time.Second)
		synctest.Wait()
		if got := n.state("tester"); got != `{"activeTasks":0}` {
			t.Errorf("state after a heartbeat is %s", got)
		}
		cancel()
		running.Wait()
		l.Close()
		n.space.Close()
	})
}

// waitUntil polls for what cannot be waited for otherwise: state of the sandbox.
func waitUntil(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("what was waited for did not happen")
		}
	}
}

// slowPolls is a path to a network on which polls take longer than other requests. The channel gets a value for each poll
// that has come from the client.
func slowPolls(t *testing.T, to string, delay time.Duration) (origin string, polls <-chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came := make(chan struct{}, 100)
	var running sync.WaitGroup
	forward := func(from net.Conn) {
		defer from.Close()
		up, err := net.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		defer up.Close()
		running.Go(func() { _, _ = io.Copy(from, up) })
		b := make([]byte, 64<<10)
		for {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			if bytes.HasPrefix(b[:n], []byte("GET /v2/subscribe/")) {
				came <- struct{}{}
				time.Sleep(delay) // on the way
			}
			if _, err := up.Write(b[:n]); err != nil {
				return
			}
		}
	}
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { forward(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		running.Wait()
	})
	return ln.Addr().String(), came
}

// A poll makes its sender present when it arrives, and one that was given up may still be on its way then.
func TestLeaveIsBehindThePolls(t *testing.T) {
	served := make(chan string, 100)
	n := newNetwork(t, func(s *setup) {
		s.front = func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(w, r)
				served <- r.URL.Path
			})
		}
	})
	origin, polls := slowPolls(t, n.origin, 50*time.Millisecond)
	l := n.link(func(c *link.Config) { c.Origin, c.Transport = origin, nil })
	t.Cleanup(l.Close) // before the path waits for its connections
	ls := n.listen(l, link.SubscribeConfig{Channels: []string{control}, Heartbeat: wire.PresenceTimeout})
	ls.until(link.Connected)
	for range 2 { // the handshake and the first poll
		<-polls
	}
	ls.stop()
	if err := l.NewPresence(control, wire.PresenceTimeout, time.Hour).Leave(within(t)); err != nil {
		t.Fatal(err)
	}
	for seen := 0; seen < 2; { // both have been dealt with
		if strings.HasPrefix(<-served, "/v2/subscribe/") {
			seen++
		}
	}
	if got := n.space.HereNow([]string{control})[control]; len(got) != 0 {
		t.Errorf("still present: %v", got)
	}
}

// What cannot be sent is reported without its address, which holds the token.
func TestNoTokenInErrorsOfAnImpossibleOrigin(t *testing.T) {
	l, err := link.New(link.Config{Origin: "a b", Keys: keys, UserID: "tester", Timeouts: quick})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetToken("secret")
	if _, _, err := l.OpenFile(t.Context(), "files.1", "id", "name", ""); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("open a file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = l.Subscribe(ctx, link.SubscribeConfig{Channels: []string{"c"}, OnState: func(_ link.State, err error) {
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("poll: %v", err)
		}
		if err != nil {
			cancel()
		}
	}}, func(link.Received) {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("subscribe: %v", err)
	}
}
