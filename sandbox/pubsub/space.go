// Package pubsub is the core of the PubNub side of the sandbox: the channels of one subscribe key with their messages,
// history, waiting subscribers and presence. It knows nothing of HTTP. Time comes from outside, and nothing in it blocks
// but its one mutex.
package pubsub

import (
	"errors"
	"strings"
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

// Observer watches a space. All methods but Inspect are called under the lock of the space, in the order of the
// timetokens; they must be quick and must not call the space.
type Observer interface {
	// Inspect looks at a publication before the lock is taken; what it returns is handed to Published.
	Inspect(p Publication) any
	Published(m *Message, note any)
	// Polled says that a poll with a cursor has arrived: from here on its sender misses nothing.
	Polled(uuid string, channels []string)
	Presence(e PresenceEvent)
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
	messages list
	bytes    int64
	polls    int // held
	due      expiries
	ttls     int   // stored messages with an end
	sweep    int64 // timetoken at which those that have ended are looked for
	closed   bool
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
		groups: map[string]*group{}, crowds: map[*topic]*crowd{},
	}, nil
}

// SubscribeKey of the space.
func (s *Space) SubscribeKey() string { return s.cfg.SubscribeKey }

// Timetoken returns a fresh timetoken; everything published later has a greater one.
func (s *Space) Timetoken() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tick()
}

// tick assigns the next timetoken: 100 ns units of Unix time, strictly increasing whatever the clock does.
func (s *Space) tick() int64 {
	s.last = max(s.cfg.Now().UnixNano()/100, s.last+1, minTimetoken)
	return s.last
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
	s.append(m)
	if s.cfg.Observer != nil {
		s.cfg.Observer.Published(m, note)
	}
	return m.Timetoken, true
}

func (s *Space) append(m *Message) { s.add(m, s.tick()) }

// add is append with a given timetoken, which is greater than all before.
func (s *Space) add(m *Message, timetoken int64) {
	m.stamp(timetoken)
	t := s.channel(m.Channel)
	s.messages.push(m)
	s.bytes += m.size()
	m.refs++
	if t.ring = append(t.ring, m); len(t.ring) > s.cfg.RingSize && !s.cfg.Lossless {
		s.release(t.ring[0])
		t.ring[0] = nil
		t.ring = t.ring[1:]
	}
	if m.Stored {
		m.refs++
		t.log = append(t.log, m)
		if m.ttl > 0 {
			m.expires = m.Timetoken + int64(m.ttl/100)
			s.ttls++
		}
	}
	if m.action != nil {
		m.refs++
		t.actions = append(t.actions, m)
	}
	if m.Stored || m.action != nil {
		s.cfg.Changed()
	}
	t.wake(m)
	if len(s.patterns) > 0 {
		s.appendToPatterns(m)
	}
	for s.bytes > s.cfg.HistoryBytes && s.messages.first != m {
		s.evict(s.messages.first)
	}
}

// appendToPatterns gives m to the wildcards that cover its channel. Their rings hold no references: the newest messages
// of a pattern are among the newest of its channels.
func (s *Space) appendToPatterns(m *Message) {
	for i := 0; i < len(m.Channel); i++ {
		if m.Channel[i] != '.' {
			continue
		}
		if t := s.patterns[m.Channel[:i]+".*"]; t != nil {
			t.ring = append(t.ring, m)
			for t.ring[0].envelope == nil || len(t.ring) > s.cfg.RingSize && !s.cfg.Lossless {
				t.ring[0] = nil
				t.ring = t.ring[1:]
			}
			t.wake(m)
		}
	}
}

// channel returns the topic of a channel, making it if needed.
func (s *Space) channel(name string) *topic {
	t := s.channels[name]
	if t == nil {
		t = &topic{name: name}
		s.channels[name] = t
	}
	return t
}

// pattern returns the topic of a wildcard. A new one is filled from the channels that it covers, so that a cursor from
// before its first poll works.
func (s *Space) pattern(name string) *topic {
	if t := s.patterns[name]; t != nil {
		return t
	}
	for other, t := range s.patterns {
		if len(s.patterns) < maxPatterns {
			break
		}
		if len(t.waiters) == 0 {
			delete(s.patterns, other)
		}
	}
	t := &topic{name: name}
	prefix := strings.TrimSuffix(name, "*")
	for _, c := range s.channels {
		if strings.HasPrefix(c.name, prefix) {
			t.ring = append(t.ring, c.ring...)
		}
	}
	sortByTimetoken(t.ring)
	if extra := len(t.ring) - s.cfg.RingSize; extra > 0 && !s.cfg.Lossless {
		t.ring = t.ring[extra:]
	}
	s.patterns[name] = t
	return t
}

// tidy forgets a channel in which nothing is left. Presence channels stay: events between two polls of a watcher would
// have nowhere to go.
func (s *Space) tidy(t *topic) {
	if len(t.ring) == 0 && len(t.log) == 0 && len(t.waiters) == 0 && len(t.members) == 0 && len(t.actions) == 0 && !IsPresence(t.name) && s.channels[t.name] == t {
		delete(s.channels, t.name)
	}
}

// release gives back one reference to m; with the last one its bytes go.
func (s *Space) release(m *Message) {
	if m.refs--; m.refs == 0 {
		s.bytes -= m.size()
		s.messages.remove(m)
		m.drop()
	}
}

// unstored gives back the reference of a log.
func (s *Space) unstored(m *Message) {
	if m.expires != 0 {
		s.ttls--
	}
	m.Stored = false
	s.release(m)
}

// evict takes the oldest message of the space out of its channel.
func (s *Space) evict(m *Message) {
	t := s.channels[m.Channel]
	if len(t.log) > 0 && t.log[0] == m {
		t.log[0] = nil
		t.log = t.log[1:]
		s.unstored(m)
	}
	if len(t.actions) > 0 && t.actions[0] == m {
		t.actions[0], m.action = nil, nil
		t.actions = t.actions[1:]
		s.release(m)
	}
	if len(t.ring) > 0 && t.ring[0] == m {
		t.ring[0] = nil
		t.ring = t.ring[1:]
		s.release(m)
	}
	s.tidy(t)
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
				s.unstored(m)
			}
			for _, m := range t.ring {
				s.release(m)
			}
			for _, m := range t.actions {
				s.release(m)
			}
			t.log, t.ring, t.actions = nil, nil, nil
			s.cfg.Changed()
			for uuid := range t.members {
				s.removeMember(t, uuid)
			}
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
