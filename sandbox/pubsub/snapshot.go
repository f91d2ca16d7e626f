package pubsub

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// Snapshot is the part of a space that outlives a restart: the stored messages, the message actions, the channel groups
// and the newest timetoken. Presence and what was not stored do not.
type Snapshot struct {
	Last     int64               `json:"last"`
	Messages []SavedMessage      `json:"messages"`
	Groups   map[string][]string `json:"groups,omitempty"`
}

// SavedMessage is a stored message, or the event of a message action that has not been taken back.
type SavedMessage struct {
	Channel    string          `json:"c"`
	Timetoken  int64           `json:"t"`
	Publisher  string          `json:"i,omitempty"`
	CustomType string          `json:"cmt,omitempty"`
	Type       int             `json:"e,omitempty"`
	TTL        time.Duration   `json:"ttl,omitempty"`
	Meta       json.RawMessage `json:"u,omitempty"`
	Body       json.RawMessage `json:"d"`
	Action     *Action         `json:"a,omitempty"`
}

// Snapshot returns what outlives a restart. The function with, if not nil, is called under the lock, so that what it
// looks at belongs to the same moment; it must not call the space.
func (s *Space) Snapshot(with func()) Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Snapshot{Last: s.last}
	for m := s.messages.first; m != nil; m = m.next {
		// The bytes of a message never change, so they may be used after the lock.
		if (m.Stored || m.action != nil) && m.envelope != nil {
			out.Messages = append(out.Messages, SavedMessage{m.Channel, m.Timetoken, m.Publisher, m.CustomType, m.Type, m.ttl, m.meta, m.body, m.action})
		}
	}
	for name, g := range s.groups {
		if len(g.channels) > 0 {
			if out.Groups == nil {
				out.Groups = map[string][]string{}
			}
			out.Groups[name] = slices.Sorted(maps.Keys(g.channels))
		}
	}
	if with != nil {
		with()
	}
	return out
}

// Restore puts what a snapshot holds into an empty space. Its observer is not notified.
func (s *Space) Restore(from Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, saved := range from.Messages {
		m := encode(s.cfg.SubscribeKey, Publication{
			Channel: saved.Channel, Publisher: saved.Publisher, CustomType: saved.CustomType, Type: saved.Type, TTL: saved.TTL,
			Meta: saved.Meta, Body: saved.Body, Store: saved.Action == nil,
		})
		m.action = saved.Action
		s.addLocked(m, saved.Timetoken)
	}
	for name, channels := range from.Groups {
		for _, channel := range channels {
			s.groupLocked(name).channels[channel] = struct{}{}
		}
	}
	s.last = max(s.last, from.Last)
}
