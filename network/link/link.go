// Package link connects to PubNub: publishing, an ordered subscriber, presence, history and files. It is the only
// importer of the PubNub SDK.
//
// The SDK sends every request but these: polls, because its subscribe loop reorders messages and stays dead after a
// single 503 (the tests of this package show both), file downloads, because it neither escapes names nor takes a
// context, and publishes and presence states, which are most of what a busy daemon sends. They and the polls go over
// connections of package carrier. Its parsers never see an answer of the network: they panic on answers that a faulty proxy
// can produce, and round timetokens.
//
// The clock is injected: everything that measures time asks Config.Now. Pauses and deadlines run by package time.
package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	pubnub "github.com/pubnub/go/v7"

	"github.com/blocksd/blocksd/network/link/carrier"
	"github.com/blocksd/blocksd/network/wire"
)

// DefaultOrigin is the host of the real network; it is used with TLS.
const DefaultOrigin = "ps.pndsn.com"

// ErrClosed is the error of every call on a closed Link.
var ErrClosed = errors.New("the link is closed")

// Config of a Link. Origin, Keys.SubscribeKey and UserID are required.
type Config struct {
	// Origin is a host with or without a port, no scheme.
	Origin string
	// Secure means TLS.
	Secure bool
	// Keys of the deployment; without a publish key the link only listens.
	Keys wire.Keyset
	// UserID is the uuid of every request. Tokens may be bound to it.
	UserID string
	// Log is nil to discard.
	Log *slog.Logger
	// Transport is nil for one of our own, which finds dead paths within about 20 s and keeps connections open for
	// concurrent requests.
	Transport http.RoundTripper
	// Shared is what this link has in common with others to the same origin, nil for nothing.
	Shared *Shared
	// Now is nil for time.Now. It measures, and guesses the network's time; it never orders events.
	Now func() time.Time
	// OnPublished, if it is not nil, is told how long each message took until the network had acknowledged it.
	OnPublished func(took time.Duration)
	// Jitter returns a number in [0,1); nil for a random one.
	Jitter   func() float64
	Timeouts Timeouts
}

// Timeouts are the deadlines and waits of a Link. Zero means the default.
type Timeouts struct {
	// Request bounds one attempt of everything but polls, presence and file bodies. Default 10 s.
	Request time.Duration
	// Poll bounds one long poll; the network answers after 280 s at the latest. Default 300 s.
	Poll time.Duration
	// Answer is how long the answer to a poll may stand still once it has begun. Default 20 s.
	Answer time.Duration
	// Presence bounds one presence update or heartbeat, so that two of them fit into the presence timeout. Default 5 s.
	Presence time.Duration
	// PresenceGap is the shortest time between two presence updates; a change after a longer pause goes out at once.
	// Default 5 ms.
	PresenceGap time.Duration
	// Leave bounds the leave request. Default 3 s.
	Leave time.Duration
	// Arrival is how long a poll that was given up may still be on its way to the network. Default 500 ms.
	Arrival time.Duration
	// Stall is how long a file download may stand still. Default 30 s.
	Stall time.Duration
	// BackoffStart is the wait after the first failure; each further one doubles it, up to BackoffCap. Defaults 100 ms
	// and 10 s.
	BackoffStart time.Duration
	BackoffCap   time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&t.Request, 10*time.Second)
	def(&t.Poll, 300*time.Second)
	def(&t.Answer, 20*time.Second)
	def(&t.Presence, 5*time.Second)
	def(&t.PresenceGap, 5*time.Millisecond)
	def(&t.Leave, 3*time.Second)
	def(&t.Arrival, 500*time.Millisecond)
	def(&t.Stall, 30*time.Second)
	def(&t.BackoffStart, 100*time.Millisecond)
	def(&t.BackoffCap, 10*time.Second)
	return t
}

// Link is one user of one keyset. Its methods may be called from any goroutine.
type Link struct {
	cfg       Config
	log       *slog.Logger
	transport http.RoundTripper
	direct    *http.Client     // files, and polls without the carrier
	carrier   *carrier.Carrier // publishes, presence states and polls; nil where they go through transport
	shared    *Shared
	sdk       *pubnub.PubNub    // one of shared
	rare      http.RoundTripper // what the SDK sends, and presence states for which the carrier has no connection
	patient   *http.Client      // polls of subscriptions to which nothing comes; nil where the carrier has those too
	// unanswered is true after a rare request without an answer.
	unanswered atomic.Bool
	token      atomic.Pointer[string]
	newest     newest
	// polled is when a poll was written that has no answer, in Unix nanoseconds; 0 for none.
	polled atomic.Int64
	// publishPrefix and publishSuffix are what all publish URLs have in common before the channel and in the query.
	// suffixRest is where in publishSuffix the user id is over.
	publishPrefix, publishSuffix string
	suffixRest                   int

	mu     sync.Mutex // guards closed and calls
	closed bool
	calls  map[*call]struct{} // what Close has to cancel

	idle sync.WaitGroup // counts calls
}

type call struct{ cancel context.CancelFunc }

// New makes a Link. Nothing is sent before the first call.
func New(cfg Config) (*Link, error) {
	switch {
	case cfg.Origin == "":
		return nil, errors.New("make PubNub link: no origin given")
	case cfg.Keys.SubscribeKey == "":
		return nil, fmt.Errorf("make PubNub link to %s: no subscribe key given", cfg.Origin)
	case cfg.UserID == "":
		return nil, fmt.Errorf("make PubNub link to %s: no user id given", cfg.Origin)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	l := &Link{cfg: cfg, log: cfg.Log, transport: cfg.Transport, shared: cfg.Shared, calls: make(map[*call]struct{})}
	l.connect()
	l.publishPrefix = "/publish/" + url.PathEscape(cfg.Keys.PublishKey) + "/" + url.PathEscape(cfg.Keys.SubscribeKey) + "/0/"
	l.publishSuffix = string(appendEscaped([]byte("&uuid="), cfg.UserID))
	l.suffixRest = len(l.publishSuffix)
	l.publishSuffix += string(appendEscaped([]byte("&pnsdk="), sdkName))
	return l, nil
}

// connect decides which requests go over which connections.
func (l *Link) connect() {
	own := l.shared == nil
	if own {
		l.shared = newShared(l.cfg.Origin, l.cfg.Secure)
	}
	l.sdk = l.shared.acquire(l.cfg.Keys)
	switch {
	case l.transport != nil:
		l.rare = l.transport
	case own:
		l.transport = newTransport()
		l.rare = l.transport
	default:
		l.transport, l.rare = l.shared.each, l.shared.few
	}
	l.carrier = l.newCarrier()
	l.direct = &http.Client{Transport: l.transport, CheckRedirect: followWithoutReferer}
	if l.carrier != nil && l.shared.polls {
		l.patient = &http.Client{Transport: l.rare, CheckRedirect: followWithoutReferer}
	}
	if own {
		l.shared.Close() // once this link releases it
	}
}

// Close cancels every call, waits for them and frees what the link holds. It may be called more than once, but not from
// a function that a Subscribe of this link calls, because it would wait for itself.
func (l *Link) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		l.idle.Wait()
		return
	}
	l.closed = true
	for c := range l.calls {
		c.cancel()
	}
	l.mu.Unlock()
	if l.carrier != nil {
		l.carrier.Close()
	}
	// After this no call of ours is inside the SDK any more, and no new one can get there: a destroyed SDK client hangs
	// or panics.
	l.idle.Wait()
	l.shared.release()
	if c, ok := l.transport.(interface{ CloseIdleConnections() }); ok && l.cfg.Transport == nil && l.cfg.Shared == nil {
		c.CloseIdleConnections()
	}
}

// SetToken sets the token of subscribe, presence and every call that brings none. It takes effect with the next
// request; a poll under way is not interrupted.
func (l *Link) SetToken(token string) { l.token.Store(&token) }

// Token returns what SetToken was given last.
func (l *Link) Token() string { return l.currentToken() }

func (l *Link) currentToken() string {
	if t := l.token.Load(); t != nil {
		return *t
	}
	return ""
}

// count registers a call that ends without a context of its own when the link closes; done must be called once.
func (l *Link) count() (done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	l.idle.Add(1)
	return l.idle.Done, nil
}

// enter registers a call. The returned context ends with ctx or when the link closes; done must be called.
func (l *Link) enter(ctx context.Context) (context.Context, func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	c := &call{cancel}
	l.calls[c] = struct{}{}
	l.idle.Add(1)
	var once sync.Once
	return ctx, func() {
		once.Do(func() {
			cancel()
			l.mu.Lock()
			delete(l.calls, c)
			l.mu.Unlock()
			l.idle.Done()
		})
	}, nil
}
