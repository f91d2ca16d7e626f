package agent

import (
	"context"
	"encoding/json"
	"sync"

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
func (a *Agent) announce(ctx context.Context, s *session) {
	var current *announcement
	for {
		availability, changed := a.cfg.Dispatcher.Availability(a.cfg.Handler)
		a.mu.Lock()
		a.availability = availability
		over := a.phase != serving || a.failure != nil
		want := a.subscribed && !over && availability != wire.Unavailable
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
		if over {
			close(a.left)
			return
		}
		select {
		case <-ctx.Done():
			if current != nil {
				a.leave(ctx, current)
			}
			return
		case <-changed:
		case <-a.kick:
		}
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
	a.presence, a.announced = nil, false
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Timeouts.Leave)
	defer cancel()
	if err := n.presence.Leave(ctx); err != nil {
		a.log.Warn("leaving the network's presence failed", "channel", n.channel, "err", err)
	}
	n.stop()
	n.running.Wait()
}

// announceSlots tells the network how many slots are taken. It waits for nothing. mu is held, so that the latest number
// is the last one told.
func (a *Agent) announceSlots() {
	if a.presence == nil {
		return
	}
	concurrency := a.cfg.Card.Concurrency
	active := a.running
	if a.availability != wire.Available {
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
