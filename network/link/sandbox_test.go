package link_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubnub"
	"github.com/blocksd/blocksd/sandbox/pubsub"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// patience is how long a test waits for what must happen. It bounds hangs: a machine may stand still for a while.
const patience = 3 * time.Minute

var keys = wire.Keyset{PublishKey: "pub-c-test", SubscribeKey: "sub-c-test"}

// network is the PubNub face of the sandbox with a place to inject faults in front of it.
type network struct {
	t       testing.TB
	handler http.Handler
	space   *pubsub.Space
	access  *access.Manager
	origin  string
	faults  *faults
}

type option func(*setup)

type setup struct {
	withAccess bool
	hold       time.Duration
	files      pubnub.Files
	front      func(http.Handler) http.Handler
	ring       int
}

func newHandler(t testing.TB, options ...option) (http.Handler, *network) {
	t.Helper()
	var s setup
	for _, o := range options {
		o(&s)
	}
	n := &network{t: t}
	var err error
	if n.space, err = pubsub.New(pubsub.Config{SubscribeKey: keys.SubscribeKey, Now: time.Now, History: switches.History{RingSize: s.ring}}); err != nil {
		t.Fatal(err)
	}
	if s.withAccess {
		if n.access, err = access.NewManager([]byte("0123456789abcdef0123456789abcdef"), time.Now); err != nil {
			t.Fatal(err)
		}
	}
	server, err := pubnub.New(pubnub.Config{Keysets: []pubnub.Keyset{{PublishKey: keys.PublishKey, Space: n.space, Access: n.access}}, PubNub: switches.PubNub{HoldPoll: s.hold}, Files: s.files})
	if err != nil {
		t.Fatal(err)
	}
	n.handler = server
	if s.front != nil {
		n.handler = s.front(server)
	}
	return n.handler, n
}

func newNetwork(t testing.TB, options ...option) *network {
	t.Helper()
	h, n := newHandler(t, options...)
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	t.Cleanup(n.space.Close) // runs first: answers held polls
	n.origin = strings.TrimPrefix(srv.URL, "http://")
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	n.faults = &faults{next: tr}
	return n
}

// quick are timeouts with which a test does not have to wait.
var quick = link.Timeouts{BackoffStart: time.Millisecond, BackoffCap: 10 * time.Millisecond, Request: patience}

func (n *network) link(change ...func(*link.Config)) *link.Link {
	n.t.Helper()
	cfg := link.Config{Origin: n.origin, Keys: keys, UserID: "tester", Timeouts: quick, Log: slog.New(slog.DiscardHandler)}
	if n.faults != nil {
		cfg.Transport = n.faults
	}
	for _, c := range change {
		c(&cfg)
	}
	l, err := link.New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(l.Close)
	return l
}

func (n *network) grant(channels map[string]access.Right, uuid string) string {
	n.t.Helper()
	token, err := n.access.Issue(access.Grant{Issued: time.Now(), TTL: time.Hour, Channels: channels, UUID: uuid})
	if err != nil {
		n.t.Fatal(err)
	}
	return token
}

// fault decides about one request: a nil response and a nil error mean that it passes. lose means that it passes but its
// answer is replaced.
type fault func(r *http.Request) (resp *http.Response, err error, lose bool)

// faults is a RoundTripper that can do what bad networks do. It also counts.
type faults struct {
	next http.RoundTripper
	mu   sync.Mutex
	hook fault
	seen []string // "METHOD path?query"
	most int      // subscribe requests at once
	poll int
}

func (f *faults) set(hook fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

func (f *faults) requests(contains string) (out []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.seen {
		if strings.Contains(r, contains) {
			out = append(out, r)
		}
	}
	return out
}

// polling is how many polls are under way.
func (f *faults) polling() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.poll
}

func pathOf(r *http.Request) string {
	if r.URL.Opaque != "" {
		return strings.TrimPrefix(r.URL.Opaque, "//"+r.URL.Host)
	}
	return r.URL.EscapedPath()
}

func (f *faults) RoundTrip(r *http.Request) (*http.Response, error) {
	subscribe := strings.HasPrefix(pathOf(r), "/v2/subscribe/")
	f.mu.Lock()
	hook := f.hook
	f.seen = append(f.seen, r.Method+" "+pathOf(r)+"?"+r.URL.RawQuery)
	if subscribe {
		f.poll++
		f.most = max(f.most, f.poll)
	}
	f.mu.Unlock()
	defer func() {
		if subscribe {
			f.mu.Lock()
			f.poll--
			f.mu.Unlock()
		}
	}()
	if hook != nil {
		resp, err, lose := hook(r)
		if lose {
			if got, e := f.next.RoundTrip(r); e == nil {
				_, _ = io.Copy(io.Discard, got.Body)
				got.Body.Close()
			}
		}
		if resp != nil || err != nil {
			if resp != nil {
				resp.Request = r
			}
			return resp, err
		}
	}
	return f.next.RoundTrip(r)
}

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// cutAnswer has a body that ends in the middle.
func cutAnswer(body string) *http.Response {
	r := answer(200, "")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(body), errReader{io.ErrUnexpectedEOF}))
	return r
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

var errReset = errors.New("connection reset by peer")

// inProcess serves requests without a network, for tests with a clock of their own.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI = pathOf(r) + "?" + r.URL.RawQuery
	u := *r.URL
	u.Opaque, u.Path, u.RawPath = "", "", ""
	parsed, err := u.Parse(pathOf(r) + "?" + r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	in.URL = parsed
	if in.Body == nil {
		in.Body = http.NoBody
	}
	type result struct{ rec *httptest.ResponseRecorder }
	done := make(chan result, 1)
	go func() {
		rec := httptest.NewRecorder()
		p.handler.ServeHTTP(rec, in)
		done <- result{rec}
	}()
	res := <-done // the handler ends with the request's context
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return res.rec.Result(), nil
}

func (n *network) publish(channel, body string) {
	n.space.Publish(pubsub.Publication{Channel: channel, Publisher: "someone", Body: []byte(body), Store: true})
}

func (n *network) stored(channel string) (out []string) {
	for _, m := range n.space.History(pubsub.HistoryQuery{Channel: channel, Max: 1000}) {
		out = append(out, string(m.Body))
	}
	return out
}

// listener runs a subscription and keeps what it brings.
type listener struct {
	t      testing.TB
	cancel context.CancelFunc
	done   chan error
	states chan link.State
	got    chan link.Received
}

func (n *network) listen(l *link.Link, c link.SubscribeConfig) *listener {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ls := &listener{t: n.t, cancel: cancel, done: make(chan error, 1), states: make(chan link.State, 1000), got: make(chan link.Received, 10_000)}
	c.OnState = func(s link.State, _ error) { ls.states <- s }
	go func() { ls.done <- l.Subscribe(ctx, c, func(m link.Received) { ls.got <- m }) }()
	n.t.Cleanup(ls.stop)
	return ls
}

func (ls *listener) stop() {
	ls.cancel()
	if ls.done == nil {
		return
	}
	select {
	case <-ls.done:
		ls.done = nil
	case <-time.After(patience):
		ls.t.Error("the subscription did not end")
	}
}

func (ls *listener) until(want link.State) {
	ls.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-ls.states:
			if s == want {
				return
			}
		case <-deadline:
			ls.t.Fatalf("never %v", want)
		}
	}
}

// expect reads count messages and checks that their bodies are the numbers from first on, in order.
func (ls *listener) expect(first, count int) {
	ls.t.Helper()
	deadline := time.After(patience)
	for i := first; i < first+count; i++ {
		select {
		case m := <-ls.got:
			if string(m.Body) != fmt.Sprint(i) {
				ls.t.Fatalf("got %s, want %d", m.Body, i)
			}
		case <-deadline:
			ls.t.Fatalf("message %d never came", i)
		}
	}
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// trace reports to a client that its request was written, which the real transport does and a faked answer does not.
func trace(r *http.Request) {
	if t := httptrace.ContextClientTrace(r.Context()); t != nil && t.WroteHeaders != nil {
		t.WroteHeaders()
	}
}
