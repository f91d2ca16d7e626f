package pubsub

import (
	"slices"
	"strconv"
	"time"
)

// maxDeltas bounds the names in one interval event; beyond it the event only says that here-now should be asked.
const maxDeltas = 32 << 10

// crowd collects what the next interval event of a channel with many members will report.
type crowd struct {
	due                  time.Time
	join, leave, timeout []string
	size                 int // of the names
}

// crowdedLocked takes a change over into the next interval event, if the channel is one of those that have them. A
// change of state is not reported there.
func (s *Space) crowdedLocked(m *member, kind PresenceKind) bool {
	t := m.topic
	// One that leaves the last place above the limit still belongs to the crowd.
	was := t.present
	if kind == Left || kind == TimedOut {
		was++
	}
	c := s.crowds[t]
	if was <= s.cfg.AnnounceMax && c == nil {
		return false
	}
	if c == nil {
		c = &crowd{due: s.cfg.Now().Add(s.cfg.PresenceInterval)}
		s.crowds[t] = c
	}
	if c.size += len(m.uuid); c.size <= maxDeltas {
		switch kind {
		case Joined:
			c.join = append(c.join, m.uuid)
		case Left:
			c.leave = append(c.leave, m.uuid)
		case TimedOut:
			c.timeout = append(c.timeout, m.uuid)
		}
	}
	return true
}

// reportCrowdsLocked sends the interval events that are due. A channel that is no longer crowded gets a last one.
func (s *Space) reportCrowdsLocked(now time.Time) {
	for t, c := range s.crowds {
		if c.due.After(now) {
			continue
		}
		body := strconv.AppendInt([]byte(`{"action":"interval","timestamp":`), now.Unix(), 10)
		body = strconv.AppendInt(append(body, `,"occupancy":`...), int64(t.present), 10)
		switch {
		case c.size > maxDeltas:
			body = append(body, `,"here_now_refresh":true`...)
		default:
			body = appendDelta(body, "join", c.join)
			body = appendDelta(body, "leave", c.leave)
			body = appendDelta(body, "timeout", c.timeout)
		}
		body = append(body, '}')
		meta := strconv.AppendInt([]byte(`{"pn_action":"interval","pn_timestamp":`), now.Unix(), 10)
		meta = strconv.AppendInt(append(meta, `,"pn_occupancy":`...), int64(t.present), 10)
		meta = append(AppendString(append(meta, `,"pn_ispresence":1,"pn_channel":`...), t.name), '}')
		for _, name := range s.watchersLocked(t.name) {
			s.appendLocked(encode(s.cfg.SubscribeKey, Publication{Channel: name, Meta: meta, Body: body}))
		}
		if t.present <= s.cfg.AnnounceMax {
			delete(s.crowds, t)
			continue
		}
		*c = crowd{due: now.Add(s.cfg.PresenceInterval)}
	}
}

func appendDelta(b []byte, kind string, uuids []string) []byte {
	if len(uuids) == 0 {
		return b
	}
	slices.Sort(uuids)
	b = append(append(append(b, `,"`...), kind...), `":[`...)
	for i, uuid := range slices.Compact(uuids) {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, uuid)
	}
	return append(b, ']')
}
