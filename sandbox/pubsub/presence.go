package pubsub

import (
	"bytes"
	"container/heap"
	"encoding/json"
	"sort"
	"time"
)

const presenceSuffix = "-pnpres"

// PresenceKind says what happened to a member of a channel.
type PresenceKind int

// The kinds. StateSet also comes for a state that did not change.
const (
	Joined PresenceKind = iota + 1
	Left
	TimedOut
	StateSet
)

var presenceActions = [...]string{Joined: "join", Left: "leave", TimedOut: "timeout", StateSet: "state-change"}

// PresenceEvent is a change of a member of a channel.
type PresenceEvent struct {
	Kind          PresenceKind
	Channel, UUID string
	// State is what the member has announced last, nil for none.
	State []byte
	// Polling, of one that joined, says that a poll of it with a cursor is being held.
	Polling bool
}

// member of a channel. One that is not present has only announced a state so far: a state may arrive before the first
// poll, and after a leave.
type member struct {
	topic    *topic
	uuid     string
	present  bool
	state    []byte
	timeout  time.Duration
	deadline time.Time
	queuedAt time.Time // deadline under which it stands in the heap, never later than deadline
	index    int       // in the heap
}

// expiries is a heap of members by the deadline at which they were queued; a member that was heard of since is queued
// again when its old deadline comes up.
type expiries []*member

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].queuedAt.Before(e[j].queuedAt) }

func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

func (e *expiries) Push(x any) {
	m := x.(*member)
	m.index = len(*e)
	*e = append(*e, m)
}

func (e *expiries) Pop() any {
	old := *e
	m := old[len(old)-1]
	old[len(old)-1] = nil
	*e = old[:len(old)-1]
	return m
}

// Heartbeat makes uuid present on the channels and keeps it so for timeout (0: the default). states are states to
// announce, by channel.
func (s *Space) Heartbeat(channels []string, uuid string, timeout time.Duration, states map[string]json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joinLocked(channels, uuid, timeout, states)
}

func (s *Space) joinLocked(channels []string, uuid string, timeout time.Duration, states map[string]json.RawMessage) {
	if uuid == "" {
		return
	}
	for _, name := range channels {
		if IsPresence(name) || IsWildcard(name) {
			continue
		}
		m := s.memberLocked(name, uuid)
		if timeout > 0 {
			m.timeout = timeout
		}
		s.keepLocked(m)
		state, hasState := states[name]
		changed := hasState && !bytes.Equal(m.state, state)
		if hasState {
			m.state = bytes.Clone(state)
		}
		if !m.present {
			m.present = true
			m.topic.present++
			s.changeLocked(Joined, m, true)
		} else if hasState {
			s.changeLocked(StateSet, m, changed)
		}
	}
}

// memberLocked returns the record of uuid on a channel, making one that is not present if needed.
func (s *Space) memberLocked(channel, uuid string) *member {
	t := s.channelLocked(channel)
	m := t.members[uuid]
	if m == nil {
		m = &member{topic: t, uuid: uuid, timeout: DefaultPresenceTimeout}
		if t.members == nil {
			t.members = map[string]*member{}
		}
		t.members[uuid] = m
		s.keepLocked(m)
	}
	return m
}

// keepLocked restarts the time-out of a member.
func (s *Space) keepLocked(m *member) {
	m.deadline = s.cfg.Now().Add(m.timeout)
	switch {
	case m.queuedAt.IsZero():
		m.queuedAt = m.deadline
		heap.Push(&s.due, m)
	case m.deadline.Before(m.queuedAt):
		m.queuedAt = m.deadline
		heap.Fix(&s.due, m.index)
	}
}

func (s *Space) touchLocked(channels []string, uuid string) {
	for _, name := range channels {
		if t := s.channels[name]; t != nil {
			if m := t.members[uuid]; m != nil {
				s.keepLocked(m)
			}
		}
	}
}

// Leave takes uuid off the channels.
func (s *Space) Leave(channels []string, uuid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range channels {
		if t := s.channels[name]; t != nil && t.members[uuid] != nil {
			s.endLocked(t.members[uuid], Left)
		}
	}
}

// SetState announces a state; it does not make uuid present.
func (s *Space) SetState(channels []string, uuid string, state []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range channels {
		if IsPresence(name) || IsWildcard(name) {
			continue
		}
		m := s.memberLocked(name, uuid)
		changed := !bytes.Equal(m.state, state)
		m.state = bytes.Clone(state)
		if m.present {
			s.changeLocked(StateSet, m, changed)
		}
	}
}

// State returns what uuid has announced on a channel, nil for nothing.
func (s *Space) State(channel, uuid string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.channels[channel]; t != nil && t.members[uuid] != nil {
		return t.members[uuid].state
	}
	return nil
}

// Occupant is one who is present on a channel.
type Occupant struct {
	UUID  string
	State []byte
}

// Expand returns the channels together with those of the groups (a presence name for a group's presence), without
// duplicates.
func (s *Space) Expand(channels, groups []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expandLocked(channels, groups)
}

// HereNow returns who is present on each of the channels, sorted by uuid; no channels means all of the space. A named
// channel without members has no entry.
func (s *Space) HereNow(channels []string) map[string][]Occupant {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]Occupant{}
	add := func(t *topic) {
		for _, m := range t.members {
			if m.present {
				out[t.name] = append(out[t.name], Occupant{m.uuid, m.state})
			}
		}
		sort.Slice(out[t.name], func(i, j int) bool { return out[t.name][i].UUID < out[t.name][j].UUID })
	}
	if len(channels) == 0 {
		for _, t := range s.channels {
			add(t)
		}
	}
	for _, name := range channels {
		if t := s.channels[name]; t != nil && out[name] == nil {
			add(t)
		}
	}
	return out
}

// WhereNow returns the channels on which uuid is present, sorted.
func (s *Space) WhereNow(uuid string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for _, t := range s.channels {
		if m := t.members[uuid]; m != nil && m.present {
			out = append(out, t.name)
		}
	}
	sort.Strings(out)
	return out
}

func (s *Space) endLocked(m *member, kind PresenceKind) {
	s.removeMemberLocked(m.topic, m.uuid)
	if m.present {
		s.changeLocked(kind, m, true)
	}
	s.tidyLocked(m.topic)
}

func (s *Space) removeMemberLocked(t *topic, uuid string) {
	m := t.members[uuid]
	heap.Remove(&s.due, m.index)
	if m.present {
		t.present--
	}
	delete(t.members, uuid)
}
