package daemon

import "sync"

// session is a time during which agents are on the network: from one undrain to the next drain, or until the network has
// moved. over closes at its end.
type session struct{ over chan struct{} }

// sessions hands out one session after the other, the same to all agents. Its zero value is ready.
type sessions struct {
	mu      sync.Mutex // guards what follows
	drained bool
	current *session      // nil until somebody asks for one
	resumed chan struct{} // closed by undrain; nil while not drained
}

// drain ends the current session and keeps the next one from beginning. It reports whether that is new.
func (s *sessions) drain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		return false
	}
	s.drained, s.resumed = true, make(chan struct{})
	s.endLocked()
	return true
}

// undrain lets the next session begin. It reports whether that is new.
func (s *sessions) undrain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.drained {
		return false
	}
	s.drained = false
	close(s.resumed)
	s.resumed = nil
	return true
}

// renew ends the current session, so that all agents connect anew.
func (s *sessions) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked()
}

func (s *sessions) endLocked() {
	if s.current != nil {
		close(s.current.over)
		s.current = nil
	}
}

func (s *sessions) isDrained() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drained
}

// try returns the session that goes on, or a new one. While drained it returns nil and a channel that closes when trying
// again helps.
func (s *sessions) try() (*session, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained {
		return nil, s.resumed
	}
	if s.current == nil {
		s.current = &session{over: make(chan struct{})}
	}
	return s.current, nil
}
