package link

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/blocksd/blocksd/network/link/carrier"
)

// maxCarried is the largest body that goes through the carrier, which reads no answer before all of a request is sent.
// Messages of the network are smaller.
const maxCarried = 64 << 10

// newCarrier returns nil where requests have to go through a transport: one that somebody else made, or to a proxy; and for
// an origin that is not a host.
func (l *Link) newCarrier() *carrier.Carrier {
	u, err := url.Parse(l.root())
	if l.cfg.Transport != nil || err != nil {
		return nil
	}
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); proxy != nil || err != nil {
		return nil
	}
	c, err := carrier.New(carrier.Config{
		Origin: l.cfg.Origin, Secure: l.cfg.Secure, Dial: newDialer().DialContext, DialTimeout: dialTimeout,
		Idle: idleConnections, IdleTimeout: idleTimeout, MaxAnswer: maxAnswer,
	})
	if err != nil {
		return nil
	}
	return c
}

// isCarried reports whether a request with this body goes through the carrier, which ends it when the link closes.
func (l *Link) isCarried(body []byte) bool { return l.carrier != nil && len(body) <= maxCarried }

// carry sends one small request that is not made by the SDK.
func (l *Link) carry(ctx context.Context, timeout time.Duration, r carrier.Request) *exchange {
	if !l.isCarried(r.Body) {
		return l.roundTrip(ctx, timeout, r, l.transport)
	}
	e := &exchange{}
	a, wrote, err := l.carrier.Do(ctx, timeout, r)
	e.status, e.header, e.answer, e.err = a.Status, a.Header, a.Body, err
	e.wrote.Store(wrote)
	return e
}

// carryRare sends one small request, for which alone no connection is kept.
func (l *Link) carryRare(ctx context.Context, timeout time.Duration, r carrier.Request) *exchange {
	if l.carrier != nil && l.cfg.Shared != nil && !l.carrier.Ready() {
		e := l.roundTrip(ctx, timeout, r, l.forRare())
		l.learn(ctx, e)
		return e
	}
	return l.carry(ctx, timeout, r)
}

// forRare is the transport for a rare request. After one that was not answered it is a connection of its own: a shared
// connection that is dead would take the next one too, for as long as it takes to find that out.
func (l *Link) forRare() http.RoundTripper {
	if l.unanswered.Load() {
		return l.transport
	}
	return l.rare
}

// learn notes whether a rare request was answered.
func (l *Link) learn(ctx context.Context, e *exchange) {
	if ctx.Err() == nil {
		l.unanswered.Store(e.err != nil)
	}
}

// roundTrip sends a request through a transport.
func (l *Link) roundTrip(ctx context.Context, timeout time.Duration, r carrier.Request, through http.RoundTripper) *exchange {
	e := &exchange{}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(e.traced(ctx), r.Method, l.root()+string(r.Target), bytes.NewReader(r.Body))
	if err != nil {
		e.err = errors.New("the origin or a key of the link does not make a URL")
		return e
	}
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := through.RoundTrip(req)
	e.record(resp, err)
	return e
}
