// Package pubnub is the HTTP face of the sandbox's pub/sub: the part of PubNub's REST interface that unmodified SDKs
// need, over the spaces of package pubsub.
package pubnub

import (
	"errors"
	"net/http"
	"time"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/pubsub"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// supersedeDelay is how long a poll that was superseded is still held. It bounds the rate at which two clients with the
// same uuid can chase each other's polls, and is short enough for a client that opens a poll with every presence
// update.
const supersedeDelay = 50 * time.Millisecond

// Keyset is one pair of keys and what belongs to it.
type Keyset struct {
	PublishKey string
	Space      *pubsub.Space
	// Access is nil for a keyset without access manager.
	Access *access.Manager
	// SecretKey signs the requests that may grant and revoke, and that need no token; "" means that there is none.
	SecretKey string
	// AnySignature takes every signature for a good one.
	AnySignature bool
	// Intercept, if set, is offered every publication that is permitted and well-formed. With ok it has taken it and
	// says what to answer; nothing is published then.
	Intercept func(p pubsub.Publication) (status int, body []byte, ok bool)
}

// Config of a Server.
type Config struct {
	Keysets []Keyset
	Files   Files // nil: there are none but those that clients upload here
	Blobs   *blob.Store
	Now     func() time.Time
	switches.PubNub
	// MaxFileBytes bounds a file that a client uploads (5 MiB).
	MaxFileBytes int64
	// Saved are the files that clients have uploaded to an earlier server over the same Blobs; FilesChanged, if set, is
	// called when there are others.
	Saved        []SavedFile
	FilesChanged func()
}

// Server answers PubNub requests.
type Server struct {
	keysets map[string]*Keyset // by subscribe key
	files   Files
	hold    time.Duration
	now     func() time.Time
	fire    bool
	uploads *fileStore
	meter   meter
}

// New returns a server for the keysets.
func New(cfg Config) (*Server, error) {
	switches.SetDefaults(cfg.PubNub.Table())
	s := &Server{keysets: map[string]*Keyset{}, files: cfg.Files, hold: cfg.HoldPoll, now: cfg.Now, fire: cfg.DeliverFire, meter: meter{rate: cfg.PublishRate, quota: cfg.PublishQuota}}
	if s.now == nil {
		s.now = time.Now
	}
	s.uploads = newFileStore(cfg.Blobs, s.now, cfg.MaxFileBytes, cfg.Saved, cfg.FilesChanged)
	for _, k := range cfg.Keysets {
		if k.PublishKey == "" || k.Space == nil {
			return nil, errors.New("create PubNub face: keyset without publish key or space")
		}
		s.keysets[k.Space.SubscribeKey()] = &k
	}
	return s, nil
}

// Saved returns the files that clients have uploaded here, oldest first.
func (s *Server) Saved() []SavedFile { return s.uploads.saved() }

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
	q := &request{w: w, r: r, path: path, seg: split(path), query: parseQuery(r.URL.RawQuery)}
	if id := q.query.get("uuid"); len(id) > maxID {
		badRequest(w, "Invalid UUID")
		return
	}
	for _, row := range table {
		if row.about(q.seg) && row.serves(q) {
			row.serve(s, q)
			return
		}
	}
	notFound(w)
}
