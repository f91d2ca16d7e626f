package stream

import "sync/atomic"

// Spare is memory that the readers of one process share, for what has come and was not read: a reader that is read in bursts
// goes on asking the network, and many that nobody reads need no more than this. It is safe for concurrent use.
type Spare struct{ free atomic.Int64 }

// NewSpare returns so many bytes.
func NewSpare(bytes int) *Spare {
	s := &Spare{}
	s.free.Store(int64(bytes))
	return s
}

// Free is how many bytes are left.
func (s *Spare) Free() int { return int(s.free.Load()) }

// take takes n bytes, or none if there are not as many. A nil Spare has none.
func (s *Spare) take(n int) bool {
	if s == nil {
		return false
	}
	if s.free.Add(-int64(n)) < 0 {
		s.free.Add(int64(n))
		return false
	}
	return true
}

func (s *Spare) give(n int) {
	if n > 0 {
		s.free.Add(int64(n))
	}
}
