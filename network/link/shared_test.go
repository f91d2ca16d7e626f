package link_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// front is a server that speaks HTTP/2 without TLS too, as the sandbox does. It counts connections and notes what comes.
type front struct {
	origin string
	open   atomic.Int32

	mu    sync.Mutex
	polls []string // the protocol of each
	users map[string]bool
}

func newFront(t *testing.T, options ...option) *front {
	h, n := newHandler(t, options...)
	f := &front{users: make(map[string]bool)}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		switch {
		case strings.HasPrefix(r.URL.Path, "/v2/subscribe/") && r.FormValue("tt") != "0":
			f.polls = append(f.polls, r.Proto)
		case strings.HasPrefix(r.URL.Path, "/time/") && r.FormValue("uuid") != "": // without one it is the look for HTTP/2
			f.users[r.FormValue("uuid")] = true
		}
		f.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			f.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			f.open.Add(-1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	t.Cleanup(n.space.Close) // runs first: answers held polls
	f.origin = strings.TrimPrefix(srv.URL, "http://")
	return f
}

func (f *front) link(t *testing.T, shared *link.Shared, user string) *link.Link {
	t.Helper()
	l, err := link.New(link.Config{Origin: f.origin, Keys: keys, UserID: user, Timeouts: quick, Shared: shared})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Many links that have nothing to do need a handful of connections, and each is a user of its own.
func TestSharedConnections(t *testing.T) {
	const links = 100
	f := newFront(t)
	shared := link.NewShared(context.Background(), f.origin, false)
	ctx, cancel := context.WithTimeout(context.Background(), patience) // a hang
	defer cancel()
	var running sync.WaitGroup
	got := make(chan string, 2*links)
	var all []*link.Link
	for i := range links { // one after the other: each request that is under way while others are may need a connection
		l, channel := f.link(t, shared, fmt.Sprintf("user %d", i)), fmt.Sprintf("c%d", i)
		all = append(all, l)
		connected := make(chan struct{})
		once := sync.OnceFunc(func() { close(connected) })
		running.Go(func() {
			_ = l.Subscribe(ctx, link.SubscribeConfig{Channels: []string{channel}, OnState: func(s link.State, _ error) {
				if s == link.Connected {
					once()
				}
			}}, func(m link.Received) { got <- m.Channel + " " + string(m.Body) })
		})
		p := l.NewPresence(channel, wire.PresenceTimeout, time.Hour)
		p.Set([]byte(`{"free":1}`))
		running.Go(func() { _ = p.Run(ctx) })
		if err := p.WaitFirst(ctx); err != nil {
			t.Error(err)
		}
		if _, err := l.Time(ctx); err != nil {
			t.Error(err)
		}
		select {
		case <-connected:
		case <-ctx.Done():
			t.Fatalf("link %d is not connected", i)
		}
	}
	f.await(t, "all polls and users", func() bool { return len(f.polls) >= links && len(f.users) == links })
	if n := f.open.Load(); n > 8 {
		t.Errorf("%d connections for %d links that have nothing to do", n, links)
	}
	for i, l := range all {
		if !f.users[fmt.Sprintf("user %d", i)] {
			t.Errorf("user %d did not ask for the time", i)
		}
		if _, err := l.Publish(ctx, link.Message{Channel: fmt.Sprintf("c%d", i), Body: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[string]int)
	for range links {
		select {
		case m := <-got:
			seen[m]++
		case <-ctx.Done():
			t.Fatalf("only %d of %d links got their message", len(seen), links)
		}
	}
	if len(seen) != links {
		t.Errorf("%d links got a message", len(seen))
	}
	shared.Close() // it is freed when the last link is; the leak check of this package looks
	if _, err := all[0].Time(ctx); err != nil {
		t.Errorf("what is shared ended before its links: %v", err)
	}
	cancel()
	running.Wait()
	for _, l := range all {
		l.Close()
	}
}

// A subscription to which messages come has a connection of its own, and gives it up when none come any more.
func TestBusyPollsHaveAConnection(t *testing.T) {
	f := newFront(t, func(s *setup) { s.hold = 150 * time.Millisecond })
	shared := link.NewShared(context.Background(), f.origin, false)
	defer shared.Close()
	l := f.link(t, shared, "tester")
	defer l.Close()
	ctx, cancel := context.WithCancel(within(t))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	got := make(chan struct{}, 1)
	running.Go(func() {
		_ = l.Subscribe(ctx, link.SubscribeConfig{Channels: []string{"c"}}, func(link.Received) { got <- struct{}{} })
	})
	f.await(t, "the first polls", func() bool { return len(f.polls) >= 2 })
	if _, err := l.Publish(ctx, link.Message{Channel: "c", Body: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	<-got
	f.await(t, "a poll without HTTP/2, and later one with it", func() bool {
		all := strings.Join(f.polls, " ")
		_, after, busy := strings.Cut(all, "HTTP/1.1")
		return busy && strings.HasPrefix(all, "HTTP/2.0 HTTP/2.0") && strings.HasSuffix(after, "HTTP/2.0")
	})
}

// await waits until what has been noted is as it must be.
func (f *front) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		f.mu.Lock()
		ok, polls := is(), f.polls
		f.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s; polls: %v", what, polls)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A shared connection that is dead, and does not say so, delays one request, and not all until it is found.
func TestDeadSharedConnection(t *testing.T) {
	f := newFront(t)
	path := newPath(t, f.origin)
	shared := link.NewShared(context.Background(), path.address, false)
	defer shared.Close()
	timeouts := quick
	timeouts.Request = 2 * time.Second
	l, err := link.New(link.Config{Origin: path.address, Keys: keys, UserID: "tester", Timeouts: timeouts, Shared: shared})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx := within(t)
	if _, err := l.Time(ctx); err != nil {
		t.Fatal(err)
	}
	path.kill()
	if _, err := l.Time(ctx); err != nil {
		t.Errorf("ask over a dead connection: %v", err)
	}
}

// path carries connections to a server. One that is killed stays open, and nothing passes any more.
type path struct {
	address string
	dead    atomic.Int32 // the connections that were made before are dead up to this number
	made    atomic.Int32
}

func newPath(t *testing.T, to string) *path {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &path{address: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			number := p.made.Add(1)
			server, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				continue
			}
			pass := func(dst, src net.Conn) {
				defer dst.Close()
				defer src.Close()
				b := make([]byte, 32<<10)
				for {
					n, err := src.Read(b)
					if err != nil {
						return
					}
					if number <= p.dead.Load() {
						continue
					}
					if _, err := dst.Write(b[:n]); err != nil {
						return
					}
				}
			}
			running.Go(func() { pass(server, from) })
			running.Go(func() { pass(from, server) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return p
}

func (p *path) kill() { p.dead.Store(p.made.Load()) }
