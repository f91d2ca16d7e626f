package stream

import (
	"fmt"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Limits of messages that come in pieces.
const (
	// groupTTL is how long the next piece of a message may take.
	groupTTL = 30 * time.Second
	// maxGroups is how many messages may be in pieces at once, maxGroupBytes how many bytes of them are kept.
	maxGroups     = 64
	maxGroupBytes = 64 << 20
)

// groups puts messages together that came in pieces.
type groups struct {
	byKey map[groupKey]*group
	bytes int
}

// groupKey: ids are unique for each sender only.
type groupKey struct {
	lane *lane
	id   string
}

type group struct {
	key           groupKey
	seq           int64
	total         int
	typ, streamID string
	parts         map[int][]byte
	bytes         int
	begun, latest time.Time
}

// add takes a piece and returns the whole message when it was the last one missing. lost means that the message of the
// piece will never be whole.
func (g *groups) add(l *lane, m wire.StreamMessage, now time.Time) (whole *wire.StreamMessage, lost bool, err error) {
	g.expire(now)
	key := groupKey{l, m.Part.ID}
	p := g.byKey[key]
	if p == nil {
		if g.byKey == nil {
			g.byKey = make(map[groupKey]*group)
		}
		p = &group{key: key, seq: m.Seq, total: m.Part.Total, typ: m.Type, streamID: m.StreamID, parts: make(map[int][]byte), begun: now}
		g.byKey[key] = p
		if len(g.byKey) > maxGroups {
			g.remove(g.oldest())
		}
	}
	refuse := func(format string, args ...any) (*wire.StreamMessage, bool, error) {
		g.remove(p)
		return nil, true, fmt.Errorf("message %d of a stream cannot be put together: %s", m.Seq, fmt.Sprintf(format, args...))
	}
	if p.total != m.Part.Total || p.seq != m.Seq || p.typ != m.Type || p.streamID != m.StreamID {
		return refuse("its pieces contradict each other")
	}
	if m.Part.Broken {
		return refuse("piece %d is not base64", m.Part.Number)
	}
	data := m.Part.Data
	p.latest = now
	if old, ok := p.parts[m.Part.Number]; ok {
		if string(old) != string(data) {
			return refuse("piece %d came twice with different contents", m.Part.Number)
		}
		return nil, false, nil
	}
	p.parts[m.Part.Number] = data
	p.bytes += len(data) + itemOverhead
	g.bytes += len(data) + itemOverhead
	if g.bytes > maxGroupBytes {
		return refuse("more than %d bytes of pieces are waiting for others", maxGroupBytes)
	}
	if len(p.parts) < p.total {
		return nil, false, nil
	}
	body := make([]byte, 0, p.bytes)
	for i := 1; i <= p.total; i++ {
		body = append(body, p.parts[i]...)
	}
	message, err := wire.DecodeStreamMessage(body)
	if err != nil {
		return refuse("%v", err)
	}
	if message.Kind == wire.StreamPiece || message.Kind == wire.StreamEnd {
		return refuse("it is itself a piece or an end marker")
	}
	g.remove(p)
	return &message, false, nil
}

func (g *groups) remove(p *group) {
	if g.byKey[p.key] == p {
		delete(g.byKey, p.key)
		g.bytes -= p.bytes
	}
}

// expire forgets groups whose next piece takes too long.
func (g *groups) expire(now time.Time) {
	for _, p := range g.byKey {
		if !p.latest.IsZero() && now.Sub(p.latest) > groupTTL {
			g.remove(p)
		}
	}
}

func (g *groups) oldest() (oldest *group) {
	for _, p := range g.byKey {
		if oldest == nil || p.begun.Before(oldest.begun) {
			oldest = p
		}
	}
	return oldest
}

// latest is when the latest piece of a message came; ok is false if there is none.
func (g *groups) latest(l *lane, seq int64) (at time.Time, ok bool) {
	for _, p := range g.byKey {
		if p.key.lane == l && p.seq == seq {
			at, ok = maxTime(at, p.latest), true
		}
	}
	return at, ok
}

// within reports whether pieces of a message of the lane are there whose number is at least from and below to.
func (g *groups) within(l *lane, from, to int64) bool {
	for _, p := range g.byKey {
		if p.key.lane == l && p.seq >= from && p.seq < to {
			return true
		}
	}
	return false
}

// last is the highest number of a message of the lane that has come in part, -1 for none.
func (g *groups) last(l *lane) int64 {
	last := int64(-1)
	for _, p := range g.byKey {
		if p.key.lane == l {
			last = max(last, p.seq)
		}
	}
	return last
}

// forget removes all groups of a lane.
func (g *groups) forget(l *lane) {
	for _, p := range g.byKey {
		if p.key.lane == l {
			g.remove(p)
		}
	}
}
