package pubsub

import (
	"slices"
)

// region is the constant region of all cursors; it must fit into eight bits.
const region = "1"

// Delivery is one message for one subscriber.
type Delivery struct {
	envelope []byte
	match    string
}

// Poll is a long poll that is being held. The holder waits on Wake and then calls Next, until it answers; then it
// calls Close.
type Poll struct {
	space *Space
	sub   Subscription
	// sources are the topics that the poll waits on, each with the name under which it was asked for; guarded by the
	// lock of the space, because a group may change meanwhile.
	sources []source
	id      string
	plain   bool // exactly one plain channel: no subscription match on its messages

	wake       chan struct{}
	superseded chan struct{}
	seen       int64 // newest message that the filter held back; guarded by the lock of the space
}

type source struct {
	t     *topic
	match string
}

// attachLocked puts the poll on all topics that it asks for.
func (p *Poll) attachLocked() {
	s := p.space
	add := func(t *topic, match string) {
		if t.waiters == nil {
			t.waiters = map[*Poll]struct{}{}
		}
		t.waiters[p] = struct{}{}
		p.sources = append(p.sources, source{t, match})
	}
	for _, name := range p.sub.Channels {
		if IsWildcard(name) {
			add(s.patternLocked(name), name)
		} else {
			add(s.channelLocked(name), name)
		}
	}
	for _, name := range p.sub.Groups {
		for _, channel := range s.expandLocked(nil, []string{name}) {
			add(s.channelLocked(channel), name)
		}
	}
}

// detachLocked takes the poll off its topics.
func (p *Poll) detachLocked() {
	for _, src := range p.sources {
		delete(src.t.waiters, p)
		if !IsWildcard(src.t.name) {
			p.space.tidyLocked(src.t)
		}
	}
	p.sources = nil
}

// Wake receives when there may be something to deliver, and when the space is closed.
func (p *Poll) Wake() <-chan struct{} { return p.wake }

// Superseded is closed when a newer poll has superseded this one.
func (p *Poll) Superseded() <-chan struct{} { return p.superseded }

// notify wakes the poll; one pending wake-up is enough, because Next looks at everything.
func (p *Poll) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// notifyLocked notifies the subscribers of t that let m through.
func (t *topic) notifyLocked(m *Message) {
	for p := range t.waiters {
		if p.acceptsLocked(m) {
			p.notify()
		} else {
			p.seen = max(p.seen, m.Timetoken)
		}
	}
}

func (p *Poll) acceptsLocked(m *Message) bool {
	if p.sub.Filter == nil || m.Type > 1 || IsPresence(m.Channel) {
		return true
	}
	return p.sub.Filter.Match(m.meta, m.body)
}

func sortFound[T any](all []T, timetoken func(T) int64) {
	slices.SortStableFunc(all, func(a, b T) int {
		switch x, y := timetoken(a), timetoken(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
}
