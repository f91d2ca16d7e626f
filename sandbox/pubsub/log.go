package pubsub

// tickLocked assigns the next timetoken: 100 ns units of Unix time, strictly increasing whatever the clock does.
func (s *Space) tickLocked() int64 {
	s.last = max(s.cfg.Now().UnixNano()/100, s.last+1, minTimetoken)
	return s.last
}

func (s *Space) appendLocked(m *Message) { s.addLocked(m, s.tickLocked()) }

// addLocked is append with a given timetoken, which is greater than all before.
func (s *Space) addLocked(m *Message, timetoken int64) {
	m.stamp(timetoken)
	t := s.channelLocked(m.Channel)
	s.messages.push(m)
	s.bytes += m.size()
	m.refs++
	if t.ring = append(t.ring, m); len(t.ring) > s.cfg.RingSize && !s.cfg.Lossless {
		s.releaseLocked(t.ring[0])
		t.ring[0] = nil
		t.ring = t.ring[1:]
	}
	if m.Stored {
		m.refs++
		t.log = append(t.log, m)
		if m.ttl > 0 {
			m.expires = m.Timetoken + int64(m.ttl/100)
			s.ttls++
		}
	}
	if m.action != nil {
		m.refs++
		t.actions = append(t.actions, m)
	}
	if m.Stored || m.action != nil {
		s.cfg.Changed()
	}
	t.notifyLocked(m)
	if len(s.patterns) > 0 {
		s.appendToPatternsLocked(m)
	}
	for s.bytes > s.cfg.HistoryBytes && s.messages.first != m {
		s.evictLocked(s.messages.first)
	}
}

// appendToPatternsLocked gives m to the wildcards that cover its channel. Their rings hold no references: the newest
// messages of a pattern are among the newest of its channels.
func (s *Space) appendToPatternsLocked(m *Message) {
	for i := 0; i < len(m.Channel); i++ {
		if m.Channel[i] != '.' {
			continue
		}
		if t := s.patterns[m.Channel[:i]+".*"]; t != nil {
			t.ring = append(t.ring, m)
			for t.ring[0].envelope == nil || len(t.ring) > s.cfg.RingSize && !s.cfg.Lossless {
				t.ring[0] = nil
				t.ring = t.ring[1:]
			}
			t.notifyLocked(m)
		}
	}
}

// releaseLocked gives back one reference to m; with the last one its bytes go.
func (s *Space) releaseLocked(m *Message) {
	if m.refs--; m.refs == 0 {
		s.bytes -= m.size()
		s.messages.remove(m)
		m.drop()
	}
}

// unstoredLocked gives back the reference of a log.
func (s *Space) unstoredLocked(m *Message) {
	if m.expires != 0 {
		s.ttls--
	}
	m.Stored = false
	s.releaseLocked(m)
}

// evictLocked takes the oldest message of the space out of its channel.
func (s *Space) evictLocked(m *Message) {
	t := s.channels[m.Channel]
	if len(t.log) > 0 && t.log[0] == m {
		t.log[0] = nil
		t.log = t.log[1:]
		s.unstoredLocked(m)
	}
	if len(t.actions) > 0 && t.actions[0] == m {
		t.actions[0], m.action = nil, nil
		t.actions = t.actions[1:]
		s.releaseLocked(m)
	}
	if len(t.ring) > 0 && t.ring[0] == m {
		t.ring[0] = nil
		t.ring = t.ring[1:]
		s.releaseLocked(m)
	}
	s.tidyLocked(t)
}
