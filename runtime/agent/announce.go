package agent

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// announcement is a running presence.
type announcement struct {
	presence *link.Presence
	channel  string
	stop     context.CancelFunc
	running  sync.WaitGroup
}

// announce keeps the agent in the network's presence while it can take tasks, or will soon: from the first
// confirmation of the subscription until the drain, except while the handler is unavailable. It owns the presence;
// the slots are announced by whoever takes or frees one.
//
// While the agent is to be out of sight its subscription goes on, for the cancels of tasks that run. But each poll
// makes the agent present again, so it leaves again after each message, and now and then for polls that brought none.
func (a *Agent) announce(ctx context.Context, s *session) {
	var current *announcement
	gone := false // left for good
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		availability, changed := a.cfg.Dispatcher.Availability(a.cfg.Handler)
		a.mu.Lock()
		a.availability = availability
		over := a.phase != serving || a.failure != nil
		want := a.subscribed && !over && availability != wire.Unavailable
		hidden := a.subscribed && !want
		rejoined := a.rejoined
		channel := a.channel
		a.announceSlots()
		a.update()
		a.mu.Unlock()

		if current != nil && (!want || current.channel != channel) {
			a.leave(ctx, current)
			current = nil
		}
		if want && current == nil {
			current = a.join(ctx, s, channel)
		}
		if over && !gone {
			gone = true
			close(a.left)
		}
		again.Stop()
		switch {
		case hidden && rejoined:
			again.Reset(pollAhead)
		case hidden:
			again.Reset(hideEvery)
		}
		select {
		case <-ctx.Done():
			if current != nil {
				a.leave(ctx, current)
			}
			return
		case <-changed:
		case <-a.kick:
		case <-again.C:
			a.mu.Lock()
			a.rejoined = false
			a.mu.Unlock()
			a.leaveOnce(ctx, s.link.NewPresence(channel, wire.PresenceTimeout, wire.HeartbeatInterval), channel)
		}
	}
}

const (
	// pollAhead is how long after a message the next poll has surely been sent.
	pollAhead = 250 * time.Millisecond
	// hideEvery is how often an agent out of sight leaves again although no message came.
	hideEvery = 10 * time.Second
)

// leaveLast leaves once more if a poll has made the agent present since. The subscription has ended.
func (a *Agent) leaveLast(s *session) {
	a.mu.Lock()
	rejoined, channel := a.rejoined, a.channel
	a.mu.Unlock()
	if rejoined {
		a.leaveOnce(context.Background(), s.link.NewPresence(channel, wire.PresenceTimeout, wire.HeartbeatInterval), channel)
	}
}

// join starts to announce the agent on channel.
func (a *Agent) join(ctx context.Context, s *session, channel string) *announcement {
	ctx, stop := context.WithCancel(ctx)
	p := s.link.NewPresence(channel, wire.PresenceTimeout, wire.HeartbeatInterval)
	n := &announcement{presence: p, channel: channel, stop: stop}
	a.mu.Lock()
	a.presence, a.announced = p, false
	a.announceSlots()
	a.mu.Unlock()
	n.running.Go(func() { _ = p.Run(ctx) }) // ends with ctx only
	n.running.Go(func() {
		if p.WaitFirst(ctx) != nil {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.presence == p {
			a.announced = true
			a.update()
		}
	})
	return n
}

// leave ends an announcement with an explicit leave, so that no task is sent to an agent that is gone.
func (a *Agent) leave(ctx context.Context, n *announcement) {
	a.mu.Lock()
	a.presence, a.announced, a.rejoined = nil, false, false
	a.mu.Unlock()
	a.leaveOnce(ctx, n.presence, n.channel)
	n.stop()
	n.running.Wait()
}

// leaveOnce waits for the network's answer, even if ctx has ended: without it tasks would be sent here until the
// network notices.
func (a *Agent) leaveOnce(ctx context.Context, p *link.Presence, channel string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Timeouts.Leave)
	defer cancel()
	if err := p.Leave(ctx); err != nil {
		a.log.Warn("leaving the network's presence failed", "channel", channel, "err", err)
	}
}

// announceSlots tells the network how many slots are taken. It waits for nothing. mu is held, so that the latest number
// is the last one told.
func (a *Agent) announceSlots() {
	if a.presence == nil {
		return
	}
	concurrency := a.cfg.Card.Concurrency
	active := a.running
	if a.availability != wire.Available || a.phase != serving {
		active = concurrency // full: whatever came now would only wait
	}
	state, err := json.Marshal(wire.NewPresenceState(a.cfg.InstanceID, active, concurrency, a.startedAt))
	if err != nil {
		a.log.Error("presence state cannot be encoded", "err", err)
		return
	}
	a.presence.Set(state)
}

// wake makes the announcer look again. It never blocks.
func (a *Agent) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}
