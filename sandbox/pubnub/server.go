// Package pubnub is the HTTP face of the sandbox's pub/sub: the part of PubNub's REST interface that unmodified SDKs
// need, over the spaces of package pubsub.
package pubnub

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// DefaultHold is how long a poll is held when nothing comes. It must stay below the 310 s after which clients give up.
const DefaultHold = 280 * time.Second

// supersedeDelay is how long a poll that was superseded is still held. It bounds the rate at which two clients with the
// same uuid can chase each other's polls, and is short enough for a client that opens a poll with every presence update.
const supersedeDelay = 50 * time.Millisecond

// Keyset is one pair of keys and what belongs to it.
type Keyset struct {
	PublishKey string
	Space      *pubsub.Space
	// Access is nil for a keyset without access manager.
	Access *access.Manager
	// Intercept, if set, is offered every publication that is permitted and well-formed. With ok it has taken it and
	// says what to answer; nothing is published then.
	Intercept func(p pubsub.Publication) (status int, body []byte, ok bool)
}

// Files finds stored files.
type Files interface {
	// Locate returns the path, on the same server, from which the file can be fetched without a token.
	Locate(channel, id, name string) (path string, ok bool)
}

// Config of a Server.
type Config struct {
	Keysets []Keyset
	Files   Files // nil: there are none
	Hold    time.Duration
}

// Server answers PubNub requests.
type Server struct {
	keysets map[string]*Keyset // by subscribe key
	files   Files
	hold    time.Duration
}

// New returns a server for the keysets.
func New(cfg Config) (*Server, error) {
	s := &Server{keysets: map[string]*Keyset{}, files: cfg.Files, hold: cfg.Hold}
	if s.hold <= 0 {
		s.hold = DefaultHold
	}
	for _, k := range cfg.Keysets {
		if k.PublishKey == "" || k.Space == nil {
			return nil, errors.New("create PubNub face: keyset without publish key or space")
		}
		s.keysets[k.Space.SubscribeKey()] = &k
	}
	return s, nil
}

// ServeHTTP routes on the escaped path: an escaped slash or comma is part of a name.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	allowBrowsers(w.Header())
	if r.Method == http.MethodOptions {
		answer(w, http.StatusOK, nil)
		return
	}
	path := r.URL.EscapedPath()
	if len(path)+len(r.URL.RawQuery) > maxURI {
		answer(w, http.StatusRequestURITooLong, []byte(`{"status":414,"service":"Balancer","error":true,"message":"Request URI Too Long"}`))
		return
	}
	q := &request{w: w, r: r, seg: strings.Split(strings.TrimPrefix(path, "/"), "/"), query: parseQuery(r.URL.RawQuery)}
	get := r.Method == http.MethodGet
	switch seg := q.seg; {
	case get && q.is("time", "0"):
		s.time(q)
	case (get && len(seg) >= 7 || r.Method == http.MethodPost && len(seg) == 6) && (seg[0] == "publish" || seg[0] == "signal") && seg[3] == "0":
		s.publish(q)
	case get && q.is("v2", "subscribe", "*", "*", "*"):
		s.subscribe(q)
	case get && len(seg) >= 4 && seg[0] == "v2" && seg[1] == "presence" && (seg[2] == "sub-key" || seg[2] == "sub_key"):
		s.presence(q)
	case get && (q.is("v3", "history", "sub-key", "*", "channel", "*") || q.is("v3", "history", "sub_key", "*", "channel", "*")):
		s.history(q)
	case get && q.is("v1", "files", "*", "channels", "*", "files", "*", "*"):
		s.file(q)
	default:
		notFound(w)
	}
}

func (s *Server) time(q *request) {
	// Any space will do, the clock is the same. One less, because clients use it as a cursor in another space, where the
	// next message may get the very same timetoken.
	for _, k := range s.keysets {
		answer(q.w, http.StatusOK, append(strconv.AppendInt([]byte("["), k.Space.Timetoken()-1, 10), ']'))
		return
	}
	notFound(q.w)
}

// keyset finds the keyset of a subscribe key, or answers that there is none.
func (s *Server) keyset(q *request, subscribeKey string) *Keyset {
	k := s.keysets[unescape(subscribeKey)]
	if k == nil {
		answer(q.w, http.StatusBadRequest, []byte(`{"message":"Invalid Subscribe Key","error":true,"service":"Access Manager","status":400}`))
	}
	return k
}

// permit checks the token of a request, or answers that it is not enough. A presence channel needs the right on itself
// or on its channel.
func (k *Keyset) permit(q *request, right access.Right, channels ...string) bool {
	if k.Access == nil {
		return true
	}
	token, uuid := q.query.get("auth"), q.query.get("uuid")
	err := k.Access.Check(token, uuid, right, channels...)
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		var left []string
		for _, channel := range denied.Channels {
			base := strings.TrimSuffix(channel, "-pnpres")
			if base == channel || k.Access.Check(token, uuid, right, base) != nil {
				left = append(left, channel)
			}
		}
		if left == nil {
			return true
		}
		forbidden(q.w, left)
		return false
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, access.ErrExpired):
		answer(q.w, http.StatusForbidden, []byte(`{"error":true,"status":403,"service":"Access Manager","message":"Token is expired"}`))
	default:
		forbidden(q.w, channels)
	}
	return false
}
