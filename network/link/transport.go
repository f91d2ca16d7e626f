package link

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Limits of our own transport.
const (
	// deadPath is how long a connection is kept whose peer no longer answers. A long poll would otherwise
	// wait for minutes on it.
	deadPath = 20 * time.Second
	// keepIdle is after how long of silence a connection is probed, keepInterval how often from then on.
	keepIdle     = 10 * time.Second
	keepInterval = 5 * time.Second
	keepCount    = 2

	dialTimeout = 10 * time.Second
	// idleConnections are kept per host, so that concurrent requests do not open a connection each.
	idleConnections = 64
	idleTimeout     = 90 * time.Second
	maxHeaderBytes  = 64 << 10
)

// newTransport is HTTP/1.1 only: one connection per request in flight, so that a dead one concerns only its request.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            newDialer().DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// newDialer makes connections whose end is noticed.
func newDialer() *net.Dialer {
	return &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount},
		Control:         boundUnacknowledged,
	}
}

// SharedTransport carries requests over few connections, for somebody with very many polls. It speaks HTTP/2 where the
// peer does, and else HTTP/1.1.
type SharedTransport struct {
	agreed *http.Transport // over TLS the two sides agree; without it HTTP/1.1
	plain  *http.Transport // HTTP/2 without TLS
	// speaks are the hosts that speak HTTP/2 without TLS.
	speaks map[string]bool
}

// NewSharedTransport asks the peers that are reached without TLS, at the beginnings of their URLs, whether they speak
// HTTP/2. Nothing is asked over TLS.
func NewSharedTransport(ctx context.Context, addresses ...string) *SharedTransport {
	t := &SharedTransport{agreed: newTransport(), speaks: map[string]bool{}}
	// A dead connection is found as soon as one of HTTP/1.1 is.
	t.agreed.HTTP2 = &http.HTTP2Config{SendPingTimeout: deadPath - pingTimeout, PingTimeout: pingTimeout}
	t.agreed.Protocols = new(http.Protocols)
	t.agreed.Protocols.SetHTTP1(true)
	t.agreed.Protocols.SetHTTP2(true)
	t.plain = t.agreed.Clone()
	t.plain.Protocols = new(http.Protocols)
	t.plain.Protocols.SetUnencryptedHTTP2(true)
	for _, address := range addresses {
		if u, err := url.Parse(address); err == nil && u.Scheme == "http" && !t.speaks[u.Host] {
			t.speaks[u.Host] = answersHTTP2(ctx, t.plain, address)
		}
	}
	return t
}

// multiplexes reports whether the peer at an address without TLS speaks HTTP/2.
func (t *SharedTransport) multiplexes(address string) bool {
	u, err := url.Parse(address)
	return err == nil && t.speaks[u.Host]
}

// RoundTrip implements http.RoundTripper.
func (t *SharedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && t.speaks[r.URL.Host] {
		return t.plain.RoundTrip(r)
	}
	return t.agreed.RoundTrip(r)
}

// CloseIdleConnections frees what no request uses.
func (t *SharedTransport) CloseIdleConnections() {
	t.agreed.CloseIdleConnections()
	t.plain.CloseIdleConnections()
}

const (
	// pingTimeout is how long a connection of HTTP/2 may leave a ping without an answer.
	pingTimeout = 5 * time.Second
	// probeTimeout bounds the question whether a peer speaks HTTP/2, which is asked only once: one that stands still for a moment
	// must not be taken for one that does not.
	probeTimeout = dialTimeout
)

// answersHTTP2 asks for the time, which is what every PubNub answers. Any answer will do.
func answersHTTP2(ctx context.Context, t *http.Transport, address string) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/time/0", nil)
	if err != nil {
		return false
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return false
	}
	_, _ = readBounded(resp, maxHeaderBytes) // so that the connection can be used again
	return resp.Body.Close() == nil
}
