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

// forget frees what was not sent.
func (s *sender) forget() { s.queue, s.flights, s.ended = nil, nil, true }
