package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// attend keeps the agent on its control channel: subscribed first, then present, until ctx ends. An agent whose handler
// is unavailable stays away, unless it has tasks in flight: then it announces itself full and goes when they are over.
//
// Subscription and presence come and go together, because every poll makes its sender present: an agent that left and
// went on polling would be sent tasks again. And an agent that left is taken for lost, so that the network ends its
// running tasks after a while and sends what has not begun elsewhere; therefore it leaves only when it has none.
func (a *Agent) attend(ctx context.Context) {
	var v *visit
	defer func() {
		if v != nil {
			v.end()
		}
	}()
	for {
		availability, changed := a.cfg.Dispatcher.Availability(a.cfg.Handler)
		illness, _ := a.illness()
		a.mu.Lock()
		a.availability = availability
		want := availability != dispatch.Unavailable || a.running > 0 || len(a.jobs) > 0
		s, channel := a.session, a.channel
		a.announceSlots()
		a.updateLocked()
		a.mu.Unlock()

		if v != nil && (!want || v.session != s || v.channel != channel) {
			v.end()
			v = nil
		}
		if want && v == nil {
			v = a.visit(ctx, s, channel)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-illness:
		case <-a.kick:
		}
	}
}

// visit is a stay on one control channel in one environment.
type visit struct {
	agent    *Agent
	session  *session
	channel  string
	presence *link.Presence

	// unsubscribe ends the subscription, vanish the presence; listening and announcing are their goroutines.
	unsubscribe, vanish   context.CancelFunc
	listening, announcing sync.WaitGroup
}

// visit begins a stay. Tasks that it brings outlast it: their context is that of the agent's work.
func (a *Agent) visit(ctx context.Context, s *session, channel string) *visit {
	subscribing, unsubscribe := context.WithCancel(ctx)
	present, vanish := context.WithCancel(context.WithoutCancel(ctx)) // until it has left
	v := &visit{
		agent: a, session: s, channel: channel, unsubscribe: unsubscribe, vanish: vanish,
		presence: s.link.NewPresence(channel, wire.PresenceTimeout, a.cfg.Timeouts.Heartbeat),
	}
	arrived := make(chan struct{}) // closes when the subscription is confirmed
	once := sync.OnceFunc(func() { close(arrived) })
	v.listening.Go(func() {
		err := s.link.Subscribe(subscribing, link.SubscribeConfig{
			Channels:  []string{channel},
			Filter:    wire.ControlFilter(a.cfg.InstanceID),
			Heartbeat: wire.PresenceTimeout,
			Cursor:    a.resume(subscribing, s, channel),
			OnState: func(state link.State, err error) {
				if state == link.Connected {
					once()
				}
				a.subscription(v, state, err)
			},
			OnDenied: func(ctx context.Context) error { return a.renewDenied(ctx, s) },
		}, func(r link.Received) { a.receive(s, r) })
		if subscribing.Err() == nil {
			a.log.Error("the subscription ended by itself", "channel", channel, "err", err)
		}
	})
	v.announcing.Go(func() {
		select {
		case <-arrived: // only from here on nothing is missed
		case <-subscribing.Done():
			return
		}
		a.mu.Lock()
		a.presence = v.presence
		a.announceSlots()
		a.mu.Unlock()
		v.announcing.Go(func() {
			if v.presence.WaitFirst(present) != nil {
				return
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.presence == v.presence {
				a.announced = true
				a.updateLocked()
			}
		})
		_ = v.presence.Run(present) // until it has left
	})
	return v
}

// end leaves the channel. The leave is explicit and its answer awaited: without it tasks would be sent here until the
// network notices by itself.
func (v *visit) end() {
	a := v.agent
	v.unsubscribe()
	v.listening.Wait()
	a.mu.Lock()
	a.connected, a.announced, a.presence = false, false, nil
	a.updateLocked()
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.Timeouts.Leave)
	defer cancel()
	if err := v.presence.Leave(ctx); err != nil {
		a.log.Warn("leaving the network was not confirmed; it will notice by itself", "channel", v.channel, "err", err)
	}
	v.vanish()
	v.announcing.Wait()
}

// subscription follows the state of a visit's subscription.
func (a *Agent) subscription(v *visit, state link.State, err error) {
	if err != nil {
		a.trouble(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if state == link.Lost || state == link.Denied {
		for _, j := range a.jobs {
			j.doubt.raise() // the network may take us for lost and end them
		}
	}
	switch state {
	case link.Connected:
		if a.connected {
			return
		}
		a.connected, a.connectedAt, a.reason, a.troubled = true, time.Now(), "", time.Time{}
		v.presence.Resync() // the network may have forgotten us meanwhile
	case link.Lost:
		a.connected, a.reason = false, fmt.Sprintf("The connection to the network is lost: %v; trying again.", err)
	case link.Denied:
		a.connected, a.reason = false, fmt.Sprintf("The network denied the subscription: %v; connecting again for a new token.", err)
	}
	a.updateLocked()
}

// renewDenied gets a new token in place of one that was denied.
func (a *Agent) renewDenied(ctx context.Context, s *session) error {
	err := a.reconnect(ctx, s)
	if err != nil && ctx.Err() == nil {
		a.trouble(err)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.reason = fmt.Sprintf("The network denied the subscription, and there is no new token: %v; trying again.", err)
		a.updateLocked()
	}
	return err
}

// trouble notes that something failed without which the agent is not connected, and says so to whoever can look whether
// the network has moved.
func (a *Agent) trouble(err error) {
	a.mu.Lock()
	now := a.cfg.Now()
	if a.troubled.IsZero() {
		a.troubled = now
	}
	moved := now.Sub(a.troubled) >= a.cfg.Timeouts.Moved
	a.mu.Unlock()
	switch status(err) {
	case http.StatusBadRequest, http.StatusNotFound: // of PubNub: it does not know the keys
		moved = true
	}
	if moved && a.cfg.OnMoved != nil {
		a.cfg.OnMoved()
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
	if a.availability != dispatch.Available || a.phase != serving || a.hastened || a.failure != nil || a.ill() != nil {
		active = concurrency // full: the network must send nothing now
	}
	state, err := json.Marshal(wire.NewPresenceState(a.cfg.InstanceID, active, concurrency, a.startedAt))
	if err != nil {
		a.log.Error("presence state cannot be encoded", "err", err)
		return
	}
	a.presence.Set(state)
}

// wake makes attend look again. It never blocks.
func (a *Agent) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}
