package stream_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubnub"
	"github.com/blocksd/blocksd/sandbox/pubsub"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

var keys = wire.Keyset{PublishKey: "pub-c-test", SubscribeKey: "sub-c-test"}

const channel = "stream.echo.t1-1"

// world is the PubNub face of the sandbox, reached through a transport that can do what bad networks do.
type world struct {
	t      testing.TB
	space  *pubsub.Space
	access *access.Manager
	wire   *faultyWire
	link   *link.Link
	ids    stream.UserIDs
}

// newWorld starts a server, or serves requests in the same process when the test has a clock of its own.
func newWorld(t testing.TB, virtual bool, sw ...switches.PubNub) *world {
	t.Helper()
	w := &world{t: t}
	var err error
	if w.space, err = pubsub.New(pubsub.Config{SubscribeKey: keys.SubscribeKey, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	if w.access, err = access.NewManager([]byte("0123456789abcdef0123456789abcdef"), time.Now); err != nil {
		t.Fatal(err)
	}
	cfg := pubnub.Config{Keysets: []pubnub.Keyset{{PublishKey: keys.PublishKey, Space: w.space, Access: w.access}}}
	for _, s := range sw {
		cfg.PubNub = s
	}
	server, err := pubnub.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	origin := "network.invalid"
	w.wire = &faultyWire{next: inProcess{server}}
	if !virtual {
		srv := httptest.NewServer(server)
		t.Cleanup(srv.Close)
		origin = strings.TrimPrefix(srv.URL, "http://")
		tr := &http.Transport{MaxIdleConnsPerHost: 128}
		t.Cleanup(tr.CloseIdleConnections)
		w.wire.next = tr
	}
	t.Cleanup(w.space.Close) // runs first: answers held polls
	if w.link, err = link.New(link.Config{Origin: origin, Keys: keys, UserID: "tester", Transport: w.wire}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.link.Close)
	return w
}

// endpoint is a side of the stream with the given right.
func (w *world) endpoint(right access.Right) stream.Endpoint {
	w.t.Helper()
	token := w.token(right, time.Hour)
	return stream.Endpoint{Link: w.link, Channel: channel, UserID: w.ids.Next("echo"), Token: func() string { return token }}
}

func (w *world) token(right access.Right, life time.Duration) string {
	w.t.Helper()
	token, err := w.access.Issue(access.Grant{Issued: time.Now(), TTL: life, Channels: map[string]access.Right{channel: right}})
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// writer runs a Writer until the end of the test.
func (w *world) writer(change ...func(*stream.WriterConfig)) *stream.Writer {
	w.t.Helper()
	cfg := stream.WriterConfig{Endpoint: w.endpoint(access.Write), StreamID: "t1-1", Format: wire.FormatBytes, EndMarker: true}
	for _, c := range change {
		c(&cfg)
	}
	if cfg.FirstSeq == 0 {
		cfg.FirstSeq = cfg.Format.FirstSeq()
	}
	sw, err := stream.NewWriter(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(sw.Run)
	return sw
}

// reader runs a Reader until the end of the test.
func (w *world) reader(change ...func(*stream.ReaderConfig)) *stream.Reader {
	w.t.Helper()
	cfg := stream.ReaderConfig{Endpoint: w.endpoint(access.Read), Format: wire.FormatBytes, EndMarker: true}
	for _, c := range change {
		c(&cfg)
	}
	r, err := stream.NewReader(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(r.Run)
	return r
}

func (w *world) run(run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = run(ctx)
	}()
	w.t.Cleanup(func() {
		stop()
		<-over
	})
}

// got is what a reader yields, up to its end.
type got struct {
	items []stream.Item
	gaps  []stream.Gap
	raw   []string
	end   *stream.End
}

func (g got) bytes() (b []byte) {
	for _, i := range g.items {
		b = append(b, i.Data...)
	}
	return b
}

func (g got) chunks() (c []string) {
	for _, i := range g.items {
		c = append(c, string(i.Data))
	}
	return c
}

// all reads to the end.
func all(t testing.TB, r *stream.Reader) (g got) {
	t.Helper()
	ctx := within(t)
	for {
		d, err := r.Next(ctx)
		if errors.As(err, &g.end) {
			return g
		}
		if err != nil {
			t.Fatalf("after %d items, %d gaps: %v", len(g.items), len(g.gaps), err)
		}
		g.add(d)
	}
}

func (g *got) add(d stream.Delivery) {
	g.items = append(g.items, d.Items...)
	if d.Gap != nil {
		g.gaps = append(g.gaps, *d.Gap)
	}
	if d.Raw != nil {
		g.raw = append(g.raw, string(d.Raw))
	}
}

// next reads n items.
func next(t testing.TB, r *stream.Reader, n int) (g got) {
	t.Helper()
	ctx := within(t)
	for len(g.items) < n {
		d, err := r.Next(ctx)
		if err != nil {
			t.Fatalf("after %d of %d items: %v", len(g.items), n, err)
		}
		g.add(d)
	}
	return g
}

// wrote is one message as it is on the channel.
type onWire struct {
	body, meta, publisher string
}

// published returns what the channel has, the oldest first.
func (w *world) published() (out []onWire) {
	w.wire.mu.Lock()
	defer w.wire.mu.Unlock()
	return append(out, w.wire.published...)
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hook may answer a request instead of the network. pass sends it on.
type hook func(r *http.Request, body []byte, pass func() (*http.Response, error)) (*http.Response, error)

// faultyWire is a RoundTripper with hooks. It keeps what the network has accepted.
type faultyWire struct {
	next http.RoundTripper

	mu          sync.Mutex
	onPublish   hook
	onSubscribe hook
	published   []onWire
	keep        bool
	most, now   int // publishes at once
}
