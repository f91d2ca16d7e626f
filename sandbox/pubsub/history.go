package pubsub

import "slices"

// HistoryQuery asks for stored messages of one channel.
type HistoryQuery struct {
	Channel string
	// Max is how many at most, the newest of the range.
	Max int
	// Start is exclusive: only older ones. End is inclusive: only this one and newer ones. 0 means no limit.
	Start, End int64
}

// Stored is a message of the history. Its bytes are not to be changed.
type Stored struct {
	Timetoken  int64
	Publisher  string
	CustomType string
	Type       int
	Body, Meta []byte
}

// History returns the newest Max messages of the range, oldest first.
func (s *Space) History(q HistoryQuery) []Stored {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.channels[q.Channel]
	if t == nil {
		return nil
	}
	log := t.log
	if q.Start > 0 {
		n, _ := slices.BinarySearchFunc(log, q.Start, compareTimetoken)
		log = log[:n]
	}
	if q.End > 0 {
		n, _ := slices.BinarySearchFunc(log, q.End, compareTimetoken)
		log = log[n:]
	}
	if extra := len(log) - q.Max; extra > 0 {
		log = log[extra:]
	}
	out := make([]Stored, 0, len(log))
	for _, m := range log {
		out = append(out, Stored{m.Timetoken, m.Publisher, m.CustomType, m.Type, m.body, m.meta})
	}
	return out
}
