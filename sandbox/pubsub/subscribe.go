package pubsub

import (
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/sandbox/filter"
)

// Handshake returns a cursor and makes the subscriber present. The cursor comes first, so that the subscriber sees its
// own join.
func (s *Space) Handshake(sub Subscription) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	cursor := s.tickLocked()
	all := s.expandLocked(sub.Channels, sub.Groups)
	for _, name := range all {
		if IsPresence(name) {
			s.channelLocked(name) // from here on presence events are kept
		}
	}
	if sub.Join {
		s.joinLocked(all, sub.UUID, sub.Timeout, nil)
	}
	return cursor
}

// Open registers a poll with a cursor. A held poll of the same subscriber for the same channels is ended as
// superseded: its client waits on this one.
func (s *Space) Open(sub Subscription) *Poll {
	p := &Poll{
		space: s, sub: sub, wake: make(chan struct{}, 1), superseded: make(chan struct{}), seen: sub.Cursor,
		id: sub.UUID + "\x00" + strings.Join(sub.Channels, ",") + "\x00" + strings.Join(sub.Groups, ",") + "\x00" + sub.FilterText,
	}
	p.plain = len(sub.Channels) == 1 && len(sub.Groups) == 0 && !IsWildcard(sub.Channels[0]) && !IsPresence(sub.Channels[0])
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range sub.Groups {
		s.groupLocked(strings.TrimSuffix(name, presenceSuffix)).polls[p] = struct{}{}
	}
	p.attachLocked()
	s.polls++
	if older := s.newest[p.id]; older != nil && sub.UUID != "" {
		close(older.superseded)
	}
	s.newest[p.id] = p
	if sub.Join {
		s.joinLocked(s.expandLocked(sub.Channels, sub.Groups), sub.UUID, sub.Timeout, nil)
	}
	if s.cfg.Observer != nil {
		s.cfg.Observer.Polled(sub.UUID, sub.Channels)
	}
	return p
}

// Next returns what there is for the poll. It returns ok = false when there is nothing yet and the poll should go on
// waiting.
func (p *Poll) Next() (b Batch, ok bool) {
	s := p.space
	s.mu.Lock()
	defer s.mu.Unlock()
	b.Cursor = p.sub.Cursor
	type found struct {
		m     *Message
		match string
	}
	var all []found
	for _, src := range p.sources {
		for _, m := range after(src.t.ring, p.sub.Cursor) {
			if m.envelope != nil { // a pattern's ring may name messages that were dropped
				all = append(all, found{m, src.match})
			}
		}
	}
	if len(p.sources) > 1 {
		sortFound(all, func(f found) int64 { return f.m.Timetoken })
	}
	for i, f := range all {
		if i > 0 && all[i-1].m == f.m { // asked for in several ways: once
			continue
		}
		if !p.acceptsLocked(f.m) {
			b.Cursor = f.m.Timetoken
			continue
		}
		if len(b.Deliveries) == s.cfg.RingSize {
			break
		}
		d := Delivery{envelope: f.m.envelope}
		if !p.plain {
			d.match = f.match
		}
		b.Deliveries = append(b.Deliveries, d)
		b.Cursor = f.m.Timetoken
	}
	return b, len(b.Deliveries) > 0 || s.closed
}

// Empty is the answer to a poll for which nothing came: the same cursor, moved on by what the filter held back.
func (p *Poll) Empty() Batch {
	p.space.mu.Lock()
	defer p.space.mu.Unlock()
	return Batch{Cursor: max(p.sub.Cursor, p.seen)}
}

// Close ends the poll. An answer counts as a sign of life of the subscriber.
func (p *Poll) Close(answered bool) {
	s := p.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest[p.id] == p {
		delete(s.newest, p.id)
	}
	if answered && p.sub.Join {
		s.touchLocked(s.expandLocked(p.sub.Channels, p.sub.Groups), p.sub.UUID)
	}
	for _, name := range p.sub.Groups {
		s.leaveGroupLocked(p, strings.TrimSuffix(name, presenceSuffix))
	}
	s.polls--
	p.detachLocked()
}

// Batch is the answer to a poll.
type Batch struct {
	Cursor     int64
	Deliveries []Delivery
}

// AppendAnswer appends the batch as the body of a subscribe answer.
func (b Batch) AppendAnswer(dst []byte) []byte {
	dst = append(dst, `{"t":{"t":"`...)
	dst = strconv.AppendInt(dst, b.Cursor, 10)
	dst = append(dst, `","r":`+region+`},"m":[`...)
	for i, d := range b.Deliveries {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, d.envelope...)
		if d.match != "" {
			dst = AppendString(append(dst, `,"b":`...), d.match)
		}
		dst = append(dst, '}')
	}
	return append(dst, `]}`...)
}

// Size is about the length of the answer.
func (b Batch) Size() int {
	n := 64
	for _, d := range b.Deliveries {
		n += len(d.envelope) + len(d.match) + 16
	}
	return n
}

// Subscription is what one poll asks for.
type Subscription struct {
	// Channels are names, presence names (ending in -pnpres) and wildcards (ending in .*).
	Channels []string
	// Groups are names of channel groups, also with -pnpres. What is in them is looked up when a message comes.
	Groups []string
	UUID   string
	// Filter applies to messages and signals; nil lets all pass. FilterText is its source, part of the poll's identity.
	Filter     *filter.Expr
	FilterText string
	// Cursor is the timetoken after which the poll wants messages; 0 asks for a cursor.
	Cursor int64
	// Timeout is after how much silence the subscriber counts as absent; 0 is the default. Join says whether the poll
	// makes its sender present.
	Timeout time.Duration
	Join    bool
}
