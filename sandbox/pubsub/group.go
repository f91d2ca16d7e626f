package pubsub

import (
	"errors"
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

// groupLocked returns the group of a name, making it if needed. One without channels and polls goes with leaveGroup.
func (s *Space) groupLocked(name string) *group {
	g := s.groups[name]
	if g == nil {
		g = &group{channels: map[string]struct{}{}, polls: map[*Poll]struct{}{}}
		s.groups[name] = g
	}
	return g
}

func (s *Space) leaveGroupLocked(p *Poll, name string) {
	if g := s.groups[name]; g != nil {
		delete(g.polls, p)
		s.tidyGroupLocked(name, g)
	}
}

func (s *Space) tidyGroupLocked(name string, g *group) {
	if len(g.channels) == 0 && len(g.polls) == 0 {
		delete(s.groups, name)
	}
}

// expandLocked returns the channels together with those of the groups, without duplicates.
func (s *Space) expandLocked(channels, groups []string) []string {
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
