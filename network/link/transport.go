package link

import (
	"net"
	"net/http"
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
