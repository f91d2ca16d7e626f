package link

import (
	"context"
	"net"
	"net/http"
	"strings"
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
	d := &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount},
		Control:         boundUnacknowledged,
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            d.DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// NewSharedTransport returns a transport whose requests share few connections, for somebody with very many polls. It
// speaks HTTP/2 where the peer does, and else HTTP/1.1. Over TLS the two sides agree; a peer that is reached without TLS is
// asked once, now, at address, the beginning of its URLs.
func NewSharedTransport(ctx context.Context, address string) *http.Transport {
	t := newTransport()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.Protocols.SetHTTP2(true)
	// A dead connection is found as soon as one of HTTP/1.1 is.
	t.HTTP2 = &http.HTTP2Config{SendPingTimeout: deadPath - pingTimeout, PingTimeout: pingTimeout}
	if strings.HasPrefix(address, "http://") {
		plain := t.Clone()
		plain.Protocols.SetHTTP1(false)
		plain.Protocols.SetUnencryptedHTTP2(true)
		if answersHTTP2(ctx, plain, address) {
			return plain
		}
		plain.CloseIdleConnections()
	}
	return t
}

const (
	// pingTimeout is how long a connection of HTTP/2 may leave a ping without an answer.
	pingTimeout = 5 * time.Second
	// probeTimeout bounds the question whether a peer speaks HTTP/2.
	probeTimeout = 2 * time.Second
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
