package pubsub

import "strings"

// channelLocked returns the topic of a channel, making it if needed.
func (s *Space) channelLocked(name string) *topic {
	t := s.channels[name]
	if t == nil {
		t = &topic{name: name}
		s.channels[name] = t
	}
	return t
}

// patternLocked returns the topic of a wildcard. A new one is filled from the channels that it covers, so that a cursor
// from before its first poll works.
func (s *Space) patternLocked(name string) *topic {
	if t := s.patterns[name]; t != nil {
		return t
	}
	for other, t := range s.patterns {
		if len(s.patterns) < maxPatterns {
			break
		}
		if len(t.waiters) == 0 {
			delete(s.patterns, other)
		}
	}
	t := &topic{name: name}
	prefix := strings.TrimSuffix(name, "*")
	for _, c := range s.channels {
		if strings.HasPrefix(c.name, prefix) {
			t.ring = append(t.ring, c.ring...)
		}
	}
	sortByTimetoken(t.ring)
	if extra := len(t.ring) - s.cfg.RingSize; extra > 0 && !s.cfg.Lossless {
		t.ring = t.ring[extra:]
	}
	s.patterns[name] = t
	return t
}

// tidyLocked forgets a channel in which nothing is left. Presence channels stay: events between two polls of a watcher
// would have nowhere to go.
func (s *Space) tidyLocked(t *topic) {
	if len(t.ring) == 0 && len(t.log) == 0 && len(t.waiters) == 0 && len(t.members) == 0 && len(t.actions) == 0 && !IsPresence(t.name) && s.channels[t.name] == t {
		delete(s.channels, t.name)
	}
}

// IsPresence reports whether a name is that of a presence channel. Nobody is present on those.
func IsPresence(name string) bool { return strings.HasSuffix(name, presenceSuffix) }

// IsWildcard reports whether a subscribed name is a pattern: it ends in .* and has at most two dots.
func IsWildcard(name string) bool {
	return strings.HasSuffix(name, ".*") && strings.Count(name, ".") <= 2
}

// watchersLocked returns the presence channels on which changes of a channel are announced, as far as anyone has asked
// for them: its own, and those of the wildcards that cover it. An event that comes through a wildcard names the
// wildcard as its channel, as the network's do.
func (s *Space) watchersLocked(channel string) []string {
	var names []string
	if name := channel + presenceSuffix; s.channels[name] != nil {
		names = append(names, name)
	}
	for i := 0; i < len(channel); i++ {
		if channel[i] == '.' {
			if name := channel[:i] + ".*" + presenceSuffix; s.channels[name] != nil {
				names = append(names, name)
			}
		}
	}
	return names
}
