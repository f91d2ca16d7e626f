package stream

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// This file makes messages of what was written.

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
		// Of a piece alone readers do not know what to make, also where one might be as large as all of this.
		f.slice, f.id = min(slice, (len(f.body)+1)/2), pieceID(now, f.at.Seq, s.suffix)
		parts = (len(f.body) + f.slice - 1) / f.slice
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
