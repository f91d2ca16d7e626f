package stream

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/wire"
)

// This file decides what a Writer sends and when. It is pure: the shell in writer.go publishes what it is asked to and
// reports what came of it.
//
// While nothing is under way, what is written goes out at once. While something is, the rest collects, so that messages
// grow with the load by themselves. Only when a whole message has collected does it go out beside others, up to a window
// that grows while all goes well.
//
// A message must not arrive so long after its successor that readers have given it up. So nothing new is sent while
// something has to be sent again, and a message in pieces is not complete before the network has acknowledged all of the
// one before: of the pieces of the next one, the last waits for that. Sending again is harmless, because readers drop
// numbers that they have seen.
//
// The network keeps 100 messages for readers and says nothing of how far they are. So fewer are under way when answers
// take longer than they did: what makes them slow, on the way or on a busy machine, is likely to make readers slow. And what
// goes out is paced by the slowest answer of late: readers may be busy for twice as long between two polls.

// senderEvent is what happened.
type senderEvent interface{ senderEvent() }

type (
	// wrote: elements are to be sent.
	wrote struct{ elements []element }
	// flush: what was written is to be sent without waiting for more.
	flush struct{}
	// sent: the network has acknowledged a part.
	sent struct{ ref ref }
	// failed: a part has to be sent again. throttled means that the network gets too much; wait is what it asks for.
	failed struct {
		ref       ref
		throttled bool
		wait      time.Duration
	}
	// ending: nothing more will be written. failure is why the stream does not end well, empty if it does.
	ending struct{ failure string }
	// looked: time has passed.
	looked struct{}
)

func (wrote) senderEvent()  {}
func (flush) senderEvent()  {}
func (sent) senderEvent()   {}
func (failed) senderEvent() {}
func (ending) senderEvent() {}
func (looked) senderEvent() {}

// senderAction is what to do.
type senderAction interface{ senderAction() }

type (
	// publish sends a part.
	publish struct {
		ref  ref
		body []byte
	}
	// acknowledged: the oldest count elements that are under way have arrived in the network.
	acknowledged struct{ count, cost int }
	// look again at this time.
	look struct{ at time.Time }
	// finished: everything has been acknowledged, and the end marker too if there is one.
	finished struct{}
)

func (publish) senderAction()      {}
func (acknowledged) senderAction() {}
func (look) senderAction()         {}
func (finished) senderAction()     {}

// Limits of the decisions.
const (
	// firstPieces is how many pieces may be under way at first, and at the least.
	firstPieces = 8
	// lasting is how many pieces of a backlog have arrived before pieces become larger.
	lasting = 64
	// crowdedBy is how much longer than twice the shortest time answers take when the way is crowded.
	crowdedBy = 10 * time.Millisecond
	// slowFades is after how long a slow answer counts for a third, longestTurn the most that one counts.
	slowFades   = 4 * time.Second
	longestTurn = time.Second
	// forgetShortest is for how long the shortest time counts.
	forgetShortest = 30 * time.Second
	// maxPieceAge is for how long a message may be on its way in pieces before all of them are sent again: readers forget
	// pieces after 30 s.
	maxPieceAge = 20 * time.Second
)

type sender struct {
	head   wire.StreamHead
	limits Limits
	marker bool
	suffix string // makes the ids of pieces unique among writers
	pause  retry.Backoff

	queue   []element
	pending int // bytes, encoded, of the queue at the least, with commas
	cost    int // of the queue
	since   time.Time
	// urgent is how many elements of the queue go out without waiting for more.
	urgent int

	next    int64 // number of the next message
	flights []*flight
	flying  int // parts under way
	window  int
	pieces  int
	lasted  int // pieces of the present backlog that have arrived
	pace    pacer

	took       time.Duration // how long answers take, on average
	shortest   time.Duration // how long the fastest one took, 0 before the first
	shortestAt time.Time
	slowest    time.Duration // how long the slowest one took lately
	slowestAt  time.Time
	fewerAt    time.Time // when fewer were allowed for the last time

	failures int       // in a row
	retryAt  time.Time // not before
	retries  int64

	over    bool
	failure string
	ended   bool
}

func newSender(head wire.StreamHead, l Limits, marker bool, suffix string, jitter func() float64) *sender {
	return &sender{
		head: head, limits: l, marker: marker, suffix: suffix, pause: retry.Backoff{First: l.RetryStart, Max: l.RetryCap, Jitter: jitter},
		next: head.FirstSeq, window: 1, pieces: min(firstPieces, l.Pieces), pace: newPacer(l.Rate, l.Burst),
	}
}

// Step decides what follows e.
func (s *sender) Step(e senderEvent, now time.Time) []senderAction {
	if s.ended {
		return nil
	}
	var out []senderAction
	switch e := e.(type) {
	case wrote:
		s.wrote(e.elements, now)
	case flush:
		s.urgent = len(s.queue)
	case sent:
		out = s.sent(out, e.ref, now)
	case failed:
		s.failed(e, now)
	case ending:
		if !s.over {
			s.over, s.failure = true, e.failure
		}
	case looked:
	default:
		panic(fmt.Sprintf("unknown event %T", e))
	}
	return s.advance(out, now)
}

func (s *sender) wrote(elements []element, now time.Time) {
	if len(s.queue) == 0 {
		s.since = now
	}
	for _, e := range elements {
		s.pending += e.shortest() + 1
		s.cost += e.cost
	}
	s.queue = append(s.queue, elements...)
}

// sent notes that a part has arrived.
func (s *sender) sent(out []senderAction, r ref, now time.Time) []senderAction {
	f := s.flight(r)
	if f == nil || f.parts[r.part] != underWay && f.parts[r.part] != retrying {
		return out
	}
	s.flying--
	if f.parts[r.part] == retrying {
		s.failures = 0
	}
	f.parts[r.part] = done
	f.acked++
	s.measure(now.Sub(f.sent[r.part]), now)
	if s.failures > 0 || len(s.queue) == 0 {
		s.lasted = 0
	} else if f.multipart() {
		s.lasted++
	}
	if f.multipart() && s.lasted > 0 && !s.crowded() {
		s.pieces = min(s.pieces+1, s.limits.Pieces)
	}
	for len(s.flights) > 0 && s.flights[0].acked == len(s.flights[0].parts) {
		f := s.flights[0]
		s.flights = slices.Delete(s.flights, 0, 1)
		if f.count > 0 {
			out = append(out, acknowledged{f.count, f.cost})
		}
		if f.end {
			s.ended = true
			return append(out, finished{})
		}
		if s.full() && !s.crowded() {
			s.window = min(s.window+1, s.limits.Window)
		}
	}
	return out
}

// measure notes how long an answer took, and allows fewer under way if that has become long.
func (s *sender) measure(took time.Duration, now time.Time) {
	if s.shortest == 0 || took < s.shortest || now.Sub(s.shortestAt) > forgetShortest {
		s.shortest, s.shortestAt = took, now
	}
	if s.took == 0 {
		s.took = took
	}
	s.slowest = max(took, time.Duration(float64(s.slowest)*math.Exp(-now.Sub(s.slowestAt).Seconds()/slowFades.Seconds())))
	s.slowestAt = now
	s.pace.turn = min(s.slowest, longestTurn)
	s.took += (took - s.took) / 8
	if s.crowded() && now.Sub(s.fewerAt) > s.took {
		s.window, s.pieces, s.fewerAt = 1, max(s.pieces*3/4, min(firstPieces, s.limits.Pieces)), now
	}
}

// crowded reports whether answers take much longer than they could.
func (s *sender) crowded() bool { return s.took > 2*s.shortest+crowdedBy }

// failed notes that a part must be sent again. Those that were under way together fail together, so only the first one,
// and one that was sent again, makes the pause longer.
func (s *sender) failed(e failed, now time.Time) {
	f := s.flight(e.ref)
	if f == nil || f.parts[e.ref.part] != underWay && f.parts[e.ref.part] != retrying {
		return
	}
	s.flying--
	if s.failures == 0 || f.parts[e.ref.part] == retrying {
		s.failures++
		s.retryAt = now.Add(max(s.pause.Delay(s.failures), e.wait))
		s.window, s.pieces = 1, max(s.pieces/2, min(firstPieces, s.limits.Pieces))
	}
	f.parts[e.ref.part] = failing
	if e.throttled {
		s.pace.throttled(now, max(e.wait, s.retryAt.Sub(now)))
	}
}

// flight returns the one that r is about, nil if it is no longer on its way.
func (s *sender) flight(r ref) *flight {
	for _, f := range s.flights {
		if f.at.Seq == r.seq && f.generation == r.generation && r.part < len(f.parts) {
			return f
		}
	}
	return nil
}

// full reports whether a whole message has collected.
func (s *sender) full() bool { return s.pending > s.limits.MaxMessage-s.envelope() }

// advance sends what may be sent now.
func (s *sender) advance(out []senderAction, now time.Time) []senderAction {
	for !s.ended {
		f, part, at := s.choose(now)
		if f == nil {
			if s.ended {
				return append(out, finished{})
			}
			if !at.IsZero() {
				out = append(out, look{at})
			}
			return out
		}
		if at := s.pace.ready(now); at.After(now) {
			return append(out, look{at})
		}
		s.pace.took(now)
		if f.parts[part] == failing {
			f.parts[part] = retrying
			s.retries++
		} else {
			f.parts[part] = underWay
		}
		f.sent[part] = now
		s.flying++
		out = append(out, publish{ref{f.at.Seq, part, f.generation}, f.message(s.head, part)})
	}
	return out
}

// choose returns the part that goes out next, and makes the next message where one is due. Without one, at says when to
// look again, zero for not before something else happens.
func (s *sender) choose(now time.Time) (f *flight, part int, at time.Time) {
	if f, part, stalled := s.repeat(now); stalled {
		if f == nil && s.retryAt.After(now) {
			at = s.retryAt
		}
		return f, part, at
	}
	for i, f := range s.flights {
		part := f.find(waiting)
		if part < 0 {
			continue
		}
		if s.flying >= s.pieces || i > 0 && part == len(f.parts)-1 {
			return nil, 0, at
		}
		return f, part, at
	}
	switch {
	case len(s.queue) == 0 && len(s.flights) == 0 && s.over:
		if !s.marker {
			s.ended = true
			return nil, 0, at
		}
		return s.makeEnd(now), 0, at
	case len(s.queue) == 0:
		return nil, 0, at
	case len(s.flights) > 0:
		// Beside others only a whole message goes out, or one in pieces beside one in pieces. A network that gets too much
		// gets one after the other.
		pieces := !s.fits(s.queue[0])
		switch {
		case s.pace.paced() || pieces != s.flights[0].multipart():
			return nil, 0, at
		case pieces && (len(s.flights) > 1 || s.flying >= s.pieces), !pieces && (len(s.flights) >= s.window || !s.full()):
			return nil, 0, at
		}
	case s.limits.MaxLatency > 0 && s.urgent == 0 && !s.over && s.pending < s.limits.Bundle && !s.full():
		if due := s.since.Add(s.limits.MaxLatency); due.After(now) {
			return nil, 0, due
		}
	}
	if at := s.pace.ready(now); at.After(now) {
		return nil, 0, at // what comes until then shares the message
	}
	return s.makeFlight(now), 0, at
}

// repeat returns the part that has to be sent again next, if any. stalled means that nothing else may be sent. As long as
// nothing gets through there is one attempt at a time.
func (s *sender) repeat(now time.Time) (f *flight, part int, stalled bool) {
	trying := false
	for _, g := range s.flights {
		for i, p := range g.parts {
			switch {
			case p == retrying:
				trying = true
			case p == failing && f == nil:
				f, part = g, i
			}
		}
	}
	switch {
	case f == nil:
		return nil, 0, trying
	case s.retryAt.After(now), s.failures > 0 && trying:
		return nil, 0, true
	case f.multipart() && now.Sub(f.started) > maxPieceAge:
		for _, p := range f.parts {
			if p == underWay || p == retrying {
				s.flying--
			}
		}
		f.again(now, s.suffix)
		f.parts[0], part = failing, 0 // as an attempt to get through
	}
	return f, part, true
}

// fits reports whether an element fits into a message of its own.
func (s *sender) fits(e element) bool { return s.envelope()+e.shortest() <= s.limits.MaxMessage }

// envelope is what a data message needs beside its elements, at the most.
func (s *sender) envelope() int {
	var buf [512]byte
	at := wire.StreamStamp{Seq: s.next, TS: 1e15, Unacked: s.unacked()}
	return len(s.head.AppendStop(s.head.AppendStart(buf[:0], at, true)))
}

// unacked is the number of the oldest message under way.
func (s *sender) unacked() int64 {
	if len(s.flights) > 0 {
		return s.flights[0].at.Seq
	}
	return s.next
}

// makeFlight takes from the queue what shares the next message.
func (s *sender) makeFlight(now time.Time) *flight {
	room := s.limits.MaxMessage - s.envelope()
	var b batch
	slice := 0
	if !s.fits(s.queue[0]) {
		largest := s.limits.MaxMessage
		if s.lasted >= lasting {
			largest = s.limits.MaxPiece
		}
		slice = wire.SliceBytes(largest)
		room = s.pieces*slice - s.envelope()
	}
	for _, e := range s.queue {
		with := b.with(e)
		if n, _ := with.size(); n > room && b.count > 0 {
			break
		}
		b = with
	}
	f := &flight{at: s.stamp(now), count: b.count, cost: b.cost, started: now}
	if slice > 0 {
		f.at.Unacked = f.at.Seq // it is complete only when all before are
	}
	n, base64 := b.size()
	f.body = make([]byte, 0, n+s.envelope())
	f.body = s.head.AppendStart(f.body, f.at, base64)
	f.body = appendElements(f.body, s.queue[:b.count], s.head.Format, base64)
	f.body = s.head.AppendStop(f.body)
	parts := 1
	if len(f.body) > s.limits.MaxMessage {
		f.slice, f.id = slice, pieceID(now, f.at.Seq, s.suffix)
		parts = (len(f.body) + slice - 1) / slice
	}
	f.setParts(parts)
	s.take(b)
	s.flights = append(s.flights, f)
	return f
}

// take removes a batch from the queue.
func (s *sender) take(b batch) {
	for _, e := range s.queue[:b.count] {
		s.pending -= e.shortest() + 1
	}
	s.cost -= b.cost
	s.urgent = max(0, s.urgent-b.count)
	if b.count == len(s.queue) {
		clear(s.queue)
		s.queue = s.queue[:0]
		if cap(s.queue) > maxIdleQueue {
			s.queue = nil
		}
		return
	}
	clear(s.queue[:b.count]) // what was sent must not stay in memory
	s.queue = s.queue[b.count:]
}

// maxIdleQueue is how many elements an empty queue keeps room for.
const maxIdleQueue = 256

// stamp numbers the next message.
func (s *sender) stamp(now time.Time) wire.StreamStamp {
	at := wire.StreamStamp{Seq: s.next, TS: now.UnixMilli(), Unacked: s.unacked()}
	s.next++
	return at
}

// makeEnd makes the end marker.
func (s *sender) makeEnd(now time.Time) *flight {
	f := &flight{at: s.stamp(now), end: true, started: now}
	f.setParts(1)
	f.body = s.head.AppendEnd(nil, f.at, s.failure)
	s.flights = append(s.flights, f)
	return f
}

// forget frees what was not sent.
func (s *sender) forget() { s.queue, s.flights, s.ended = nil, nil, true }
