package pubsub

import (
	"slices"
	"time"
)

// sweepEvery is how often stored messages whose time is over are removed. Until then they are only hidden.
const sweepEvery = time.Minute

// HistoryQuery asks for stored messages of one channel.
type HistoryQuery struct {
	Channel string
	// Max is how many at most, the newest of the range.
	Max int
	// Start is exclusive: only older ones. End is inclusive: only this one and newer ones. 0 means no limit.
	Start, End int64
	// Oldest takes the oldest of the range instead, and turns the bounds around: only those newer than Start, up to
	// End.
	Oldest bool
	// Actions asks for the message actions too.
	Actions bool
}

// Stored is a message of the history. Its bytes are not to be changed.
type Stored struct {
	Timetoken  int64
	Publisher  string
	CustomType string
	Type       int
	Body, Meta []byte
	Actions    []Action // oldest first
}

// History returns the newest (or oldest) Max messages of the range, oldest first.
func (s *Space) History(q HistoryQuery) []Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.channels[q.Channel]
	if t == nil {
		return nil
	}
	log := t.log
	if q.Oldest {
		q.Start, q.End = q.End+1, q.Start+1 // as bounds of the other direction
		if q.Start == 1 {
			q.Start = 0
		}
	}
	if q.Start > 0 {
		n, _ := slices.BinarySearchFunc(log, q.Start, compareTimetoken)
		log = log[:n]
	}
	if q.End > 0 {
		n, _ := slices.BinarySearchFunc(log, q.End, compareTimetoken)
		log = log[n:]
	}
	log = s.unexpiredLocked(log)
	if extra := len(log) - q.Max; extra > 0 {
		if q.Oldest {
			log = log[:q.Max]
		} else {
			log = log[extra:]
		}
	}
	out := make([]Stored, 0, len(log))
	for _, m := range log {
		stored := Stored{m.Timetoken, m.Publisher, m.CustomType, m.Type, m.body, m.meta, nil}
		if q.Actions {
			stored.Actions = t.actionsOfLocked(m.Timetoken)
		}
		out = append(out, stored)
	}
	return out
}

// unexpiredLocked leaves out the messages whose time is over.
func (s *Space) unexpiredLocked(log []*Message) []*Message {
	if s.ttls == 0 {
		return log
	}
	now := s.cfg.Now().UnixNano() / 100
	over := func(m *Message) bool { return m.expires != 0 && m.expires <= now }
	if !slices.ContainsFunc(log, over) {
		return log
	}
	return slices.DeleteFunc(slices.Clone(log), over)
}

// Count returns how many stored messages of a channel are newer than since.
func (s *Space) Count(channel string, since int64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.channels[channel]
	if t == nil {
		return 0
	}
	n, _ := slices.BinarySearchFunc(t.log, since+1, compareTimetoken)
	return len(s.unexpiredLocked(t.log[n:]))
}

// DeleteHistory removes stored messages of a channel, with their actions: those older than start if only start is
// given, end and newer ones if only end is, those of (start, end] if both are, all if none is. Subscribers that have
// yet to catch up still get them.
func (s *Space) DeleteHistory(channel string, start, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.channels[channel]
	if t == nil {
		return
	}
	if start > end && end > 0 { // the order in which a history is asked for
		start, end = end-1, start-1
	}
	s.unlogLocked(t, func(m *Message) bool {
		switch tt := m.Timetoken; {
		case start > 0 && end > 0:
			return tt > start && tt <= end
		case start > 0:
			return tt < start
		default:
			return tt >= end
		}
	})
}

// unlogLocked removes stored messages, with their actions.
func (s *Space) unlogLocked(t *topic, remove func(*Message) bool) {
	gone := map[int64]bool{}
	t.log = slices.DeleteFunc(t.log, func(m *Message) bool {
		if !remove(m) {
			return false
		}
		gone[m.Timetoken] = true
		s.unstoredLocked(m)
		return true
	})
	if len(gone) > 0 {
		s.cfg.Changed()
		t.actions = slices.DeleteFunc(t.actions, func(m *Message) bool {
			if !gone[m.action.MessageTimetoken] {
				return false
			}
			m.action = nil
			s.releaseLocked(m)
			return true
		})
	}
	s.tidyLocked(t)
}

// sweepHistoryLocked removes the messages whose time is over.
func (s *Space) sweepHistoryLocked(now time.Time) {
	tt := now.UnixNano() / 100
	if s.ttls == 0 || tt < s.sweep {
		return
	}
	s.sweep = tt + int64(sweepEvery/100)
	for _, t := range s.channels {
		s.unlogLocked(t, func(m *Message) bool { return m.expires != 0 && m.expires <= tt })
	}
}
