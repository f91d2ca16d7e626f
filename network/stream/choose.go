package stream

import (
	"time"
)

// This file decides which part goes out next.

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
