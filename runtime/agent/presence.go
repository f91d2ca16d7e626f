package agent

import (
	"context"
	"sync"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/lifecycle"
)

// runPresence keeps the agent on its control channel: subscribed first, then present, until ctx ends. An agent whose
// handler is unavailable stays away, unless it has tasks in flight: then it announces itself full and goes when they are
// over.
//
// Subscription and presence come and go together, because every poll makes its sender present: an agent that left and
// went on polling would be sent tasks again. And an agent that left is taken for lost, so that the network ends its
// running tasks after a while and sends what has not begun elsewhere; therefore it leaves only when it has none.
func (a *Agent) runPresence(ctx context.Context) {
	var current *stay
	defer func() {
		if current != nil {
			current.end()
		}
	}()
	for {
		availability, availabilityChanged := a.cfg.Dispatcher.Availability(a.cfg.Handler)
		healthChanged, _ := a.health()
		a.mu.Lock()
		a.checkJournalLocked()
		a.stepLocked(lifecycle.Handler{Availability: availability})
		a.announceSlotsLocked()
		want := a.life.Present(a.tasks.running > 0 || len(a.tasks.jobs) > 0)
		s, channel := a.conn.session, a.conn.channel
		a.mu.Unlock()

		if current != nil && (!want || current.session != s || current.channel != channel) {
			current.end()
			current = nil
		}
		if want && current == nil {
			current = a.beginStay(ctx, s, channel)
		}
		select {
		case <-ctx.Done():
			return
		case <-availabilityChanged:
		case <-healthChanged:
		case <-a.wakeup:
		}
	}
}

// stay is the time that an agent is on one control channel in one environment.
type stay struct {
	agent    *Agent
	session  *session
	channel  string
	presence *link.Presence
	poll     link.HeldPoll

	// unsubscribe ends the subscription, vanish the presence; listening and announcing are their goroutines.
	unsubscribe, vanish   context.CancelFunc
	listening, announcing sync.WaitGroup
}

// beginStay begins a stay. Tasks that it brings outlast it: their context is that of the agent's work.
func (a *Agent) beginStay(ctx context.Context, s *session, channel string) *stay {
	subscribing, unsubscribe := context.WithCancel(ctx)
	present, vanish := context.WithCancel(context.WithoutCancel(ctx)) // until it has left
	v := &stay{
		agent: a, session: s, channel: channel, unsubscribe: unsubscribe, vanish: vanish,
		presence: s.link.NewPresence(channel, wire.PresenceTimeout, a.cfg.Timeouts.Heartbeat),
	}
	v.presence.OnSilence(func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.conn.presence == v.presence {
			a.stepLocked(lifecycle.Silence{For: wire.PresenceTimeout, Err: err})
		}
		if err != nil { // what lets nothing through may have forgotten the poll, too
			v.poll.GiveUp(err)
		}
	})
	arrived := make(chan struct{}) // closes when the subscription is confirmed
	v.listening.Go(func() { v.listen(subscribing, sync.OnceFunc(func() { close(arrived) })) })
	v.announcing.Go(func() {
		select {
		case <-arrived: // only from here on nothing is missed
			v.announce(present)
		case <-subscribing.Done():
		}
	})
	return v
}

// listen receives what is sent to the agent, until ctx ends.
func (v *stay) listen(ctx context.Context, arrived func()) {
	a, s := v.agent, v.session
	err := s.link.Subscribe(ctx, link.SubscribeConfig{
		Channels:  []string{v.channel},
		Filter:    wire.ControlFilter(a.cfg.InstanceID),
		Heartbeat: wire.PresenceTimeout,
		Cursor:    a.resume(ctx, s, v.channel),
		Held:      &v.poll,
		OnState: func(state link.State, err error) {
			switch state {
			case link.Connected:
				a.step(lifecycle.Subscribed{})
				arrived()
			case link.Lost:
				a.unreachable(lifecycle.Lost, err)
			case link.Denied:
				a.unreachable(lifecycle.Denied, err)
			}
		},
		OnDenied: func(ctx context.Context) error {
			err := a.reconnect(ctx, s)
			if err != nil && ctx.Err() == nil {
				a.unreachable(lifecycle.NoToken, err)
			}
			return err
		},
	}, func(r link.Received) { a.receive(s, r) })
	if ctx.Err() == nil {
		a.log.Error("the subscription ended by itself", "channel", v.channel, "err", err)
	}
}

// announce announces the agent, until ctx ends or the stay does.
func (v *stay) announce(ctx context.Context) {
	a := v.agent
	a.mu.Lock()
	a.conn.presence = v.presence
	a.announceSlotsLocked()
	a.mu.Unlock()
	v.announcing.Go(func() {
		if v.presence.WaitFirst(ctx) != nil {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.conn.presence == v.presence {
			a.stepLocked(lifecycle.Acknowledged{})
		}
	})
	_ = v.presence.Run(ctx) // until it has left
}

// end leaves the channel. The leave is explicit and its answer awaited: without it tasks would be sent here until the
// network notices by itself.
func (v *stay) end() {
	a := v.agent
	v.unsubscribe()
	v.listening.Wait()
	a.mu.Lock()
	a.conn.presence = nil
	a.stepLocked(lifecycle.Away{})
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Timeouts.Leave)
	defer cancel()
	if err := v.presence.Leave(ctx); err != nil {
		a.log.Warn("leaving the network was not confirmed; it will notice by itself", "channel", v.channel, "err", err)
	}
	v.vanish()
	v.announcing.Wait()
}
