package pubsub

import (
	"fmt"
	"maps"
	"slices"
)

// AddToGroup puts channels into a group, which begins to exist with its first channel. Held polls of the group get
// their messages from now on. The error is ErrGroupFull, and then nothing has changed.
func (s *Space) AddToGroup(name string, channels []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groupLocked(name)
	defer s.tidyGroupLocked(name, g)
	added := 0
	for _, channel := range slices.Compact(slices.Sorted(slices.Values(channels))) {
		if _, ok := g.channels[channel]; !ok {
			added++
		}
	}
	if len(g.channels)+added > s.cfg.GroupSize || len(s.groups) > maxGroups {
		return fmt.Errorf("add %d channels to group %q: %w", len(channels), name, ErrGroupFull)
	}
	for _, channel := range channels {
		g.channels[channel] = struct{}{}
	}
	s.groupChangedLocked(g)
	return nil
}

// RemoveFromGroup takes channels out of a group; those that are not in it are ignored.
func (s *Space) RemoveFromGroup(name string, channels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[name]; g != nil {
		for _, channel := range channels {
			delete(g.channels, channel)
		}
		s.groupChangedLocked(g)
		s.tidyGroupLocked(name, g)
	}
}

// DeleteGroup takes all channels out of a group, with which it ends.
func (s *Space) DeleteGroup(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[name]; g != nil {
		clear(g.channels)
		s.groupChangedLocked(g)
		s.tidyGroupLocked(name, g)
	}
}

// groupChangedLocked attaches the held polls of a group to its current channels.
func (s *Space) groupChangedLocked(g *group) {
	s.cfg.Changed()
	for p := range g.polls {
		p.detachLocked()
		p.attachLocked()
		p.notify() // a channel that is new may have messages after the cursor
	}
}

// Group returns the channels of a group, sorted.
func (s *Space) Group(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[name]; g != nil {
		return slices.Sorted(maps.Keys(g.channels))
	}
	return nil
}

// Groups returns the names of all groups, sorted.
func (s *Space) Groups() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for name, g := range s.groups {
		if len(g.channels) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
