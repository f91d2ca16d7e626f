package pubsub

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ErrGroupFull says that a change would make a channel group, or the number of groups, larger than allowed.
var ErrGroupFull = errors.New("channel group is full")

// maxGroups bounds the channel groups of a space.
const maxGroups = 10_000

// group is a named set of channels that a subscriber asks for by the name of the group.
type group struct {
	channels map[string]struct{}
	polls    map[*Poll]struct{} // held polls that name it, directly or for its presence
}

// group returns the group of a name, making it if needed. One without channels and polls goes with leaveGroup.
func (s *Space) group(name string) *group {
	g := s.groups[name]
	if g == nil {
		g = &group{channels: map[string]struct{}{}, polls: map[*Poll]struct{}{}}
		s.groups[name] = g
	}
	return g
}

func (s *Space) leaveGroup(p *Poll, name string) {
	if g := s.groups[name]; g != nil {
		delete(g.polls, p)
		s.tidyGroup(name, g)
	}
}

func (s *Space) tidyGroup(name string, g *group) {
	if len(g.channels) == 0 && len(g.polls) == 0 {
		delete(s.groups, name)
	}
}

// expand returns the channels together with those of the groups, without doubles.
func (s *Space) expand(channels, groups []string) []string {
	if len(groups) == 0 {
		return channels
	}
	all := slices.Clone(channels)
	for _, name := range groups {
		base, presence := strings.CutSuffix(name, presenceSuffix)
		g := s.groups[base]
		if g == nil {
			continue
		}
		for _, channel := range slices.Sorted(maps.Keys(g.channels)) {
			if presence {
				channel += presenceSuffix
			}
			if !slices.Contains(all, channel) {
				all = append(all, channel)
			}
		}
	}
	return all
}

// AddToGroup puts channels into a group, which begins to exist with its first channel. Held polls of the group hear
// them from now on. The error is ErrGroupFull, and then nothing has changed.
func (s *Space) AddToGroup(name string, channels []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group(name)
	defer s.tidyGroup(name, g)
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
	s.changed(g)
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
		s.changed(g)
		s.tidyGroup(name, g)
	}
}

// DeleteGroup takes all channels out of a group, with which it ends.
func (s *Space) DeleteGroup(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[name]; g != nil {
		clear(g.channels)
		s.changed(g)
		s.tidyGroup(name, g)
	}
}

// changed lets the held polls of a group look at its channels of now.
func (s *Space) changed(g *group) {
	s.cfg.Changed()
	for p := range g.polls {
		p.detach()
		p.attach()
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
