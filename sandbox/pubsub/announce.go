package pubsub

import (
	"context"
	"fmt"
	"time"
)

// change is a presence event that has yet to be published. Events come a moment after their cause, so that a client
// whose join was handled just before its handshake sees it too.
type change struct {
	at        time.Time // of the cause
	kind      PresenceKind
	topic     *topic
	uuid      string
	state     []byte
	occupancy int // after the change
}

// idle is how long Run waits when there is nothing to publish; a change wakes it.
const idle = time.Hour

// Run publishes presence events when they are due, until ctx ends.
func (s *Space) Run(ctx context.Context) error {
	timer := time.NewTimer(s.Announce())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		case <-timer.C:
		}
		timer.Reset(s.Announce())
	}
}

// Announce publishes the presence events that are due, and returns after how long the next one is.
func (s *Space) Announce() (next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		return idle
	}
	now := s.cfg.Now()
	s.announceLocked(now)
	if len(s.pending) == 0 {
		return idle
	}
	return s.pending[0].at.Add(s.cfg.PresenceDelay).Sub(now)
}

// announceLocked publishes the presence events that are due.
func (s *Space) announceLocked(now time.Time) {
	n := 0
	for n < len(s.pending) {
		c := s.pending[n]
		// One from the future is due too: the clock was set back.
		if wait := c.at.Add(s.cfg.PresenceDelay).Sub(now); wait > 0 && wait <= s.cfg.PresenceDelay {
			break
		}
		s.publishChangeLocked(c)
		n++
	}
	if s.pending = s.pending[n:]; len(s.pending) == 0 {
		s.pending = nil
	}
}

// changeLocked notifies the observer of a change at once and, if news, those who have subscribed to the channel's
// presence when its event is due.
func (s *Space) changeLocked(kind PresenceKind, m *member, news bool) {
	if s.cfg.Observer != nil {
		e := PresenceEvent{Kind: kind, Channel: m.topic.name, UUID: m.uuid, State: m.state}
		if kind == Joined {
			for p := range m.topic.waiters {
				e.Polling = e.Polling || p.sub.UUID == m.uuid
			}
		}
		s.cfg.Observer.Presence(e)
	}
	if !news || s.crowdedLocked(m, kind) { // an interval event comes late anyway
		return
	}
	s.pending = append(s.pending, change{
		at: s.cfg.Now(), kind: kind, topic: m.topic, uuid: m.uuid, state: m.state, occupancy: m.topic.present,
	})
	if len(s.pending) == 1 {
		select {
		case s.changed <- struct{}{}:
		default: // Run has yet to look
		}
	}
}

// publishChangeLocked publishes one change on the presence channels that somebody has asked for by now.
func (s *Space) publishChangeLocked(c change) {
	watched := s.watchersLocked(c.topic.name)
	if len(watched) == 0 {
		return
	}
	seconds := c.at.Unix()
	action := presenceActions[c.kind]
	uuid := AppendString(nil, c.uuid)
	body := fmt.Appendf(nil, `{"action":%q,"timestamp":%d,"uuid":%s,"occupancy":%d`, action, seconds, uuid, c.occupancy)
	if c.kind == StateSet {
		body = fmt.Appendf(body, `,"data":%s`, c.state)
	}
	meta := fmt.Appendf(nil, `{"pn_action":%q,"pn_uuid":%s,"pn_timestamp":%d,"pn_occupancy":%d,"pn_ispresence":1,"pn_channel":%s}`,
		action, uuid, seconds, c.occupancy, AppendString(nil, c.topic.name))
	body = append(body, '}')
	for _, name := range watched {
		s.appendLocked(encode(s.cfg.SubscribeKey, Publication{Channel: name, Meta: meta, Body: body}))
	}
}
