// Package pubsub is the core of the PubNub side of the sandbox: the channels of one subscribe key with their messages,
// history, waiting subscribers and presence. It knows nothing of HTTP. Time comes from outside, and nothing in it
// blocks but its one mutex.
package pubsub

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/blocksd/blocksd/sandbox/switches"
)

// Defaults of Config.
const (
	DefaultPresenceTimeout = 300 * time.Second
	DefaultGroupSize       = 2000
)

// minTimetoken keeps every timetoken at 17 digits, because clients compare them as text.
const minTimetoken = 10_000_000_000_000_000

// maxPatterns bounds the wildcard rings that are kept without a poll.
const maxPatterns = 256

// Config of a Space.
type Config struct {
	SubscribeKey string
	// Now is the clock of timetokens and presence.
	Now func() time.Time
	switches.History
	switches.Presence
	// GroupSize is how many channels a channel group may have.
	GroupSize int
	// Observer is notified of what happens; may be nil.
	Observer Observer
	// Changed, if set, is called under the lock when something changed that a Snapshot keeps.
	Changed func()
}

// Space holds the channels of one subscribe key.
type Space struct {
	cfg Config

	mu       sync.Mutex // guards all below
	last     int64      // newest timetoken
	channels map[string]*topic
	patterns map[string]*topic
	groups   map[string]*group
	crowds   map[*topic]*crowd // channels above AnnounceMax, or with changes to report
	newest   map[string]*Poll  // held polls by identity: uuid, channels and filter
	pending  []change          // presence events that are not due yet, oldest first
	messages list
	bytes    int64
	polls    int // held
	due      expiries
	ttls     int   // stored messages with an end
	sweep    int64 // timetoken at which those that have ended are looked for
	closed   bool

	changed chan struct{} // receives when pending is no longer empty
}

// topic is a channel, or a wildcard pattern, which has only a ring and waiters.
type topic struct {
	name    string
	ring    []*Message // newest messages, oldest first
	log     []*Message // stored messages, oldest first
	waiters map[*Poll]struct{}
	members map[string]*member
	actions []*Message // added message actions, oldest first
	present int        // members that are present
}

// New returns an empty space.
func New(cfg Config) (*Space, error) {
	if cfg.SubscribeKey == "" {
		return nil, errors.New("create pub/sub space: no subscribe key")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	switches.SetDefaults(cfg.History.Table())
	switches.SetDefaults(cfg.Presence.Table())
	cfg.AnnounceMax = max(cfg.AnnounceMax, 0)
	if cfg.GroupSize <= 0 {
		cfg.GroupSize = DefaultGroupSize
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	return &Space{
		cfg: cfg, channels: map[string]*topic{}, patterns: map[string]*topic{}, newest: map[string]*Poll{},
		groups: map[string]*group{}, crowds: map[*topic]*crowd{}, changed: make(chan struct{}, 1),
	}, nil
}

// SubscribeKey of the space.
func (s *Space) SubscribeKey() string { return s.cfg.SubscribeKey }

// Timetoken returns a fresh timetoken; everything published later has a greater one.
func (s *Space) Timetoken() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tickLocked()
}

// Publish appends a message and wakes its subscribers. It returns false, and has done nothing, if the publication's
// Unless said so.
func (s *Space) Publish(p Publication) (timetoken int64, published bool) {
	m := encode(s.cfg.SubscribeKey, p)
	var note any
	if s.cfg.Observer != nil {
		note = s.cfg.Observer.Inspect(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Unless != nil && p.Unless() {
		return 0, false
	}
	// Timetoken and append under one lock: otherwise a reader of two channels could be given a cursor beyond a message
	// that appears later.
	s.appendLocked(m)
	if s.cfg.Observer != nil {
		s.cfg.Observer.Published(m, note)
	}
	return m.Timetoken, true
}

// Forget drops the messages, history and presence of channels that are no longer needed.
func (s *Space) Forget(channels ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range channels {
		for _, n := range [...]string{name, name + presenceSuffix} {
			t := s.channels[n]
			if t == nil {
				continue
			}
			for _, m := range t.log {
				s.unstoredLocked(m)
			}
			for _, m := range t.ring {
				s.releaseLocked(m)
			}
			for _, m := range t.actions {
				s.releaseLocked(m)
			}
			t.log, t.ring, t.actions = nil, nil, nil
			s.cfg.Changed()
			for uuid := range t.members {
				s.removeMemberLocked(t, uuid)
			}
			s.pending = slices.DeleteFunc(s.pending, func(c change) bool { return c.topic == t })
			if len(t.waiters) == 0 {
				delete(s.channels, n)
			}
		}
	}
}

// Close answers all held polls and those to come at once.
func (s *Space) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, topics := range [...]map[string]*topic{s.channels, s.patterns} {
		for _, t := range topics {
			for p := range t.waiters {
				p.notify()
			}
		}
	}
}

// Stats says how much a space holds.
type Stats struct {
	Channels, Messages, Members int
	Polls                       int // that are being held
	Bytes                       int64
}

// Stats returns the current sizes.
func (s *Space) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Channels: len(s.channels), Messages: s.messages.length, Bytes: s.bytes, Polls: s.polls}
	for _, t := range s.channels {
		st.Members += len(t.members)
	}
	return st
}
