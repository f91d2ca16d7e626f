package link

import (
	"context"
	"net/http"
	"sync"

	pubnub "github.com/pubnub/go/v7"

	"github.com/blocksd/blocksd/network/wire"
)

// Shared is what the links of a process to one origin have in common, so that another link costs little while it has nothing
// to do: one SDK client per keyset, which is 170 KB, and the connections of requests that are rare. Its methods may be
// called from any goroutine.
type Shared struct {
	origin string
	secure bool
	// each has a connection for each request under way: for files, and what is large.
	each *http.Transport
	// few carries heartbeats, history, and the polls of links to which nothing comes.
	few *SharedTransport
	// polls is whether few can hold many polls on one connection.
	polls bool

	mu     sync.Mutex // guards what follows
	sdks   map[wire.Keyset]*pubnub.PubNub
	links  int
	closed bool
}

// NewShared makes what links to origin share. Without TLS the origin is asked whether it speaks HTTP/2, for at most 10 s.
// Close must be called when no further link will be made.
func NewShared(ctx context.Context, origin string, secure bool) *Shared {
	s := newShared(origin, secure)
	s.each = newTransport()
	address := root(origin, secure)
	s.few = NewSharedTransport(ctx, address)
	s.polls = secure || s.few.multiplexes(address)
	return s
}

// newShared makes what only one link uses.
func newShared(origin string, secure bool) *Shared {
	return &Shared{origin: origin, secure: secure, sdks: make(map[wire.Keyset]*pubnub.PubNub)}
}

// acquire returns the SDK client for a keyset, until release.
func (s *Shared) acquire(keys wire.Keyset) *pubnub.PubNub {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links++
	sdk := s.sdks[keys]
	if sdk == nil {
		sdk = newSDK(s.origin, s.secure, keys)
		s.sdks[keys] = sdk
	}
	return sdk
}

// release says that a link makes no further call.
func (s *Shared) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links--
	s.freeLocked()
}

// Close frees what is shared as soon as no link uses it any more.
func (s *Shared) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.freeLocked()
}

// freeLocked waits for the last link: a destroyed SDK client hangs or panics.
func (s *Shared) freeLocked() {
	if !s.closed || s.links > 0 {
		return
	}
	for _, sdk := range s.sdks {
		destroySDK(sdk)
	}
	clear(s.sdks)
	if s.few != nil {
		s.few.CloseIdleConnections()
		s.each.CloseIdleConnections()
	}
}
