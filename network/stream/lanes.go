package stream

import (
	"fmt"
	"slices"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// This file decides what a Reader yields and when. It is pure: the shell in reader.go passes on what arrives, and queues
// what is delivered.
//
// Each sender has a lane of its own, because each has its own numbers. A lane yields in order; what comes too early is
// held until what is missing has come or has been given up.

// lanesEvent is what happened.
type lanesEvent interface{ lanesEvent() }

type (
	// arrived: a message of the stream.
	arrived struct {
		sender    string
		timetoken string
		m         wire.StreamMessage
	}
	// caughtUp: everything that the network has up to a timetoken has arrived.
	caughtUp struct{ timetoken string }
	// network: messages can arrive, or not.
	network struct{ up bool }
	// closing: nothing more will arrive.
	closing struct{}
)

func (arrived) lanesEvent()  {}
func (caughtUp) lanesEvent() {}
func (network) lanesEvent()  {}
func (closing) lanesEvent()  {}
func (looked) lanesEvent()   {}

// lanesAction is what to do. look is one, too.
type lanesAction interface{ lanesAction() }

type (
	// deliver yields a message or a gap.
	deliver struct{ d Delivery }
	// over: the stream has ended. failure is why it did not end well, empty if it did.
	over struct{ failure string }
	// dropped: a message cannot be used.
	dropped struct{ err error }
)

func (deliver) lanesAction() {}
func (over) lanesAction()    {}
func (dropped) lanesAction() {}
func (look) lanesAction()    {}

// Limits of the decisions.
const (
	// defaultGapTimeout is how long a missing message is waited for, as the existing readers do.
	defaultGapTimeout = 750 * time.Millisecond
	// pieceTimeout is how long the next piece of a missing message is waited for.
	pieceTimeout = 5 * time.Second
	// unackedTimeout is how long a message is waited for of which its sender has said that it may still be sending it.
	unackedTimeout = 30 * time.Second
	// maxHeld bounds how many messages a lane holds, maxHeldBytes how many bytes.
	maxHeld      = 1000
	maxHeldBytes = 16 << 20
	// maxLanes is how many senders are remembered.
	maxLanes = 256
)

type lanes struct {
	format  wire.StreamFormat
	marker  bool
	timeout time.Duration
	ordered bool

	bySender map[string]*lane
	order    []*lane // by latest arrival, the oldest first
	groups   groups
	down     bool
	ended    bool
}

func newLanes(format wire.StreamFormat, marker bool, timeout time.Duration) *lanes {
	if timeout == 0 {
		timeout = defaultGapTimeout
	}
	return &lanes{format: format, marker: marker, timeout: timeout, ordered: timeout > 0, bySender: make(map[string]*lane)}
}

// Step decides what follows e.
func (s *lanes) Step(e lanesEvent, now time.Time) []lanesAction {
	if s.ended {
		return nil
	}
	var out []lanesAction
	switch e := e.(type) {
	case arrived:
		out = s.arrived(out, e, now)
	case caughtUp:
		out = s.caughtUp(out, timetoken(e.timetoken))
	case network:
		s.down = !e.up
		for _, l := range s.order {
			if e.up && !l.since.IsZero() {
				l.since = now // nothing could arrive before
			}
		}
	case closing:
		out = s.flushAll(out)
		s.ended = true
		return out
	case looked:
	default:
		panic(fmt.Sprintf("unknown event %T", e))
	}
	return s.advance(out, now)
}

func (s *lanes) arrived(out []lanesAction, e arrived, now time.Time) []lanesAction {
	m, tt := e.m, timetoken(e.timetoken)
	out, l := s.lane(out, e.sender, m)
	if m.Kind == wire.StreamPiece {
		if s.ordered && l.stale(m, tt) {
			return out
		}
		whole, lost, err := s.groups.add(l, m, now)
		if err != nil {
			out = append(out, dropped{err})
		}
		if lost {
			l.broken = m.Seq
		}
		if whole == nil {
			return out
		}
		m = *whole
	}
	if m.Kind == wire.StreamEnd {
		return s.marked(out, l, m, tt, now)
	}
	d := delivery(e.sender, m)
	if !s.ordered {
		return append(out, deliver{d})
	}
	out = s.renew(out, l, m, tt)
	l.newestTS, l.newestTT = max(l.newestTS, m.TS), max(l.newestTT, tt)
	l.published(m.Unacked, now)
	if _, old := l.held[m.Seq]; old || m.Seq < l.next || l.end >= 0 && m.Seq >= l.end || m.FirstSeq >= 0 && m.FirstSeq < l.first {
		return out
	}
	if m.Seq == l.next {
		out = l.yield(out, d)
		return l.drain(out)
	}
	if l.held == nil {
		l.held = make(map[int64]holding)
	}
	l.held[m.Seq] = holding{d, tt}
	l.bytes += sizeOf(d)
	for len(l.held) > maxHeld || l.bytes > maxHeldBytes {
		out = s.skip(out, l)
	}
	return out
}

// marked takes an end marker.
func (s *lanes) marked(out []lanesAction, l *lane, m wire.StreamMessage, tt uint64, now time.Time) []lanesAction {
	if !s.marker {
		return out // nobody can end a stream that others write, too
	}
	if !s.ordered {
		s.ended = true
		return append(out, over{m.Failure})
	}
	if l.end < 0 {
		l.end, l.endTT, l.failure = max(m.Seq, l.next), tt, m.Failure
		for seq := range l.held { // what has come counts
			l.end = max(l.end, seq+1)
		}
		l.published(m.Unacked, now)
	}
	return out
}

// lane returns the one of a sender, and makes room for it.
func (s *lanes) lane(out []lanesAction, sender string, m wire.StreamMessage) ([]lanesAction, *lane) {
	l := s.bySender[sender]
	if l == nil {
		first := s.format.FirstSeq()
		if m.FirstSeq >= 0 {
			first = m.FirstSeq
		}
		l = &lane{sender: sender, first: first, next: first, end: -1, broken: -1}
		s.bySender[sender] = l
		s.order = append(s.order, l)
		if len(s.order) > maxLanes {
			oldest := s.order[0]
			out = s.flush(out, oldest)
			s.order = slices.Delete(s.order, 0, 1)
			delete(s.bySender, oldest.sender)
			s.groups.forget(oldest)
		}
		return out, l
	}
	if n := len(s.order); n > 1 && s.order[n-1] != l {
		i := slices.Index(s.order, l)
		s.order = append(slices.Delete(s.order, i, i+1), l)
	}
	return out, l
}

// renew begins a lane anew if its sender has.
func (s *lanes) renew(out []lanesAction, l *lane, m wire.StreamMessage, tt uint64) []lanesAction {
	if !l.reborn(m, tt) {
		return out
	}
	out = s.flush(out, l)
	first := s.format.FirstSeq()
	if m.FirstSeq >= 0 {
		first = m.FirstSeq
	}
	s.groups.forget(l)
	*l = lane{sender: l.sender, first: first, next: first, end: -1, broken: -1, newestTS: l.newestTS, newestTT: l.newestTT}
	return out
}

// skip gives up what is missing, up to what is held or the end.
func (s *lanes) skip(out []lanesAction, l *lane) []lanesAction {
	to, _ := l.successor()
	reason := GapLost
	switch {
	case l.broken >= l.next && l.broken < to, s.groups.within(l, l.next, to):
		reason = GapBroken
	case !l.begun:
		reason = GapLate
	}
	out = append(out, deliver{Delivery{Gap: &Gap{Sender: l.sender, From: l.next, To: to - 1, Reason: reason}, Sender: l.sender, Seq: l.next}})
	l.next, l.begun, l.since = to, true, time.Time{}
	return l.drain(out)
}

// deadline is when what is missing is given up.
func (s *lanes) deadline(l *lane) time.Time {
	if latest, ok := s.groups.latest(l, l.next); ok { // it is there in part
		return maxTime(l.since.Add(s.timeout), latest.Add(pieceTimeout))
	}
	if l.next >= l.acked {
		return l.since.Add(max(s.timeout, unackedTimeout))
	}
	return l.since.Add(s.timeout)
}

// caughtUp gives up what is missing though the network has shown what came long after it.
func (s *lanes) caughtUp(out []lanesAction, tt uint64) []lanesAction {
	for _, l := range s.order {
		for s.ordered && l.missing() {
			_, after := l.successor()
			_, partly := s.groups.latest(l, l.next)
			if partly || l.next >= l.acked || after == 0 || tt < after+ticks(s.timeout) {
				break
			}
			out = s.skip(out, l)
		}
	}
	return out
}

// advance gives up what was waited for long enough, and ends the stream behind its marker.
func (s *lanes) advance(out []lanesAction, now time.Time) []lanesAction {
	if s.ended {
		return out
	}
	var next time.Time
	for _, l := range s.order {
		for l.missing() && !s.down {
			if l.since.IsZero() {
				l.since = now
			}
			if at := s.deadline(l); at.After(now) {
				if next.IsZero() || at.Before(next) {
					next = at
				}
				break
			}
			out = s.skip(out, l)
		}
		if l.end >= 0 && l.next >= l.end {
			s.ended = true
			return append(s.flushAll(out), over{l.failure})
		}
	}
	if !next.IsZero() {
		out = append(out, look{next})
	}
	return out
}

// flush delivers everything of a lane that is held, whatever is missing.
func (s *lanes) flush(out []lanesAction, l *lane) []lanesAction {
	for l.missing() {
		out = s.skip(out, l)
	}
	if last := s.groups.last(l); last >= l.next { // begun, and never completed
		out = append(out, deliver{Delivery{Gap: &Gap{Sender: l.sender, From: l.next, To: last, Reason: GapBroken}, Sender: l.sender, Seq: l.next}})
		l.next = last + 1
	}
	return out
}

func (s *lanes) flushAll(out []lanesAction) []lanesAction {
	for _, l := range s.order {
		out = s.flush(out, l)
	}
	return out
}
