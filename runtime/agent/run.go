package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// session is the agent's connection to the network while Run lasts.
type session struct {
	auth *backend.AgentSession
	link *link.Link
}

// Run serves the agent until ctx ends, then drains: it leaves the network's presence, refuses tasks that still come,
// lets those that run go on for Config.Drain, asks the rest to end with reason DRAIN, and returns nil once their
// terminal events are out or Timeouts are over. An error is final and matches ErrFinal. Run may be called once.
func (a *Agent) Run(ctx context.Context) error {
	a.mu.Lock()
	again := a.started
	a.started = true
	a.mu.Unlock()
	if again {
		return fmt.Errorf("run agent %s: it ran already; make a new one", a.name)
	}
	defer a.stop()

	s, err := a.connect(ctx)
	if err != nil {
		return a.verdict()
	}
	defer s.link.Close()

	// life outlasts ctx by the drain: cancels still arrive, terminals still go out.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var services sync.WaitGroup
	services.Go(func() { a.listen(life, s) })
	services.Go(func() { a.announce(life, s) })
	if a.servesPipes() {
		services.Go(func() { a.measureClock(life, s) })
	}

	select {
	case <-ctx.Done():
	case <-a.fatal:
	}
	a.drain()
	end()
	services.Wait()
	a.leaveLast(s)
	a.awaitWork()
	return a.verdict()
}

// verdict is what Run returns.
func (a *Agent) verdict() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure
}

func (a *Agent) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phase = stopped
	a.connected = false
	a.update()
}

// connect looks the agent up, connects, and prepares the link. It tries for ever; an error means that ctx ended or that
// the agent has failed for good.
func (a *Agent) connect(ctx context.Context) (*session, error) {
	var record backend.Agent
	err := a.retry(ctx, "look up", func(ctx context.Context) (err error) {
		record, err = a.cfg.Backend.Agent(ctx, a.cfg.APIKey, a.name)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			return errors.New("the network does not know it, or not for this API key; register it")
		case err == nil && !record.BillingMode.Valid():
			return fmt.Errorf("the registry says billing mode %q, which is neither free nor paid", record.BillingMode)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c := a.cfg.Card
	s := &session{auth: a.cfg.Backend.NewAgentSession(a.cfg.APIKey, backend.ConnectRequest{
		AgentName: a.name, InstanceID: a.cfg.InstanceID, BillingMode: record.BillingMode, Listing: record.Listing,
		ExpectedInstances: c.ExpectedInstances, Concurrency: c.Concurrency,
		MaxPendingBacklog: c.MaxPendingBacklog, MaxRunningTimeSec: c.MaxRunningTimeSec, SDKVersion: a.cfg.Version,
	})}
	var grant backend.Grant
	err = a.retry(ctx, "connect", func(ctx context.Context) (err error) {
		grant, err = s.auth.Connect(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	// The user id must be the instance id: tokens can be bound to it.
	s.link, err = link.New(link.Config{
		Origin: a.cfg.Origin, Secure: a.cfg.Secure, Keys: a.cfg.CDM.Keyset(record.BillingMode), UserID: a.cfg.InstanceID,
		Log: a.log, Now: a.cfg.Now, Jitter: a.cfg.Jitter,
	})
	if err != nil { // a keyset or origin that nothing can be done with
		a.mu.Lock()
		a.reason = fmt.Sprintf("The agent cannot use the network's messaging: %v.", err)
		a.update()
		a.mu.Unlock()
		a.log.Error("link cannot be made", "err", err)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.link.SetToken(grant.PAMToken)
	a.mu.Lock()
	a.billing, a.channel, a.reason = record.BillingMode, grant.ControlChannel, ""
	a.update()
	a.mu.Unlock()
	return s, nil
}

// retry calls attempt until it succeeds, ctx ends, or the answer is final. The wait grows and is spread, so that many
// agents do not return together.
func (a *Agent) retry(ctx context.Context, what string, attempt func(context.Context) error) error {
	t := a.cfg.Timeouts
	for wait := t.RetryStart; ; wait = min(2*wait, t.RetryCap) {
		once, cancel := context.WithTimeout(ctx, t.Connect)
		err := attempt(once)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if final(err) {
			a.fail(err)
			return err
		}
		pause := wait/2 + time.Duration(a.cfg.Jitter()*float64(wait/2))
		a.mu.Lock()
		reason := fmt.Sprintf("Could not %s agent %s: %v; trying again.", what, a.name, err)
		if reason != a.reason { // the same again is no news
			a.log.Warn("agent is not connected, trying again", "step", what, "err", err)
		}
		a.reason = reason
		a.update()
		a.mu.Unlock()
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func final(err error) bool {
	var answer *backend.Error
	return errors.As(err, &answer) && answer.Final()
}

// errMoved ends a subscription because the network has given the agent another control channel.
var errMoved = errors.New("the control channel has changed")

// listen keeps the subscription to the control channel until ctx ends.
func (a *Agent) listen(ctx context.Context, s *session) {
	for ctx.Err() == nil {
		a.mu.Lock()
		channel := a.channel
		a.mu.Unlock()
		once, cancel := context.WithCancelCause(ctx)
		err := s.link.Subscribe(once, link.SubscribeConfig{
			Channels:  []string{channel},
			Filter:    wire.ControlFilter(a.cfg.InstanceID),
			Heartbeat: wire.PresenceTimeout,
			OnState:   a.subscription,
			OnDenied: func(ctx context.Context) error {
				err := a.reconnect(ctx, s)
				a.mu.Lock()
				moved := a.channel != channel
				a.mu.Unlock()
				if moved {
					cancel(errMoved)
				}
				return err
			},
		}, func(r link.Received) { a.receive(ctx, s, r) })
		if ctx.Err() == nil && !errors.Is(context.Cause(once), errMoved) {
			a.log.Error("subscription ended by itself, starting it again", "channel", channel, "err", err)
		}
		cancel(nil)
	}
}

// reconnect gets a new token after the network has denied the subscription. The instance id stays, so the subscription
// goes on from its cursor.
func (a *Agent) reconnect(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
	defer cancel()
	grant, err := s.auth.Connect(ctx)
	if err != nil {
		if final(err) {
			a.fail(err)
		}
		return fmt.Errorf("connect agent %s again: %w", a.name, err)
	}
	s.link.SetToken(grant.PAMToken)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.channel = grant.ControlChannel
	a.log.Info("connected again after the network denied the subscription", "channel", grant.ControlChannel)
	return nil
}

// subscription follows the state of the subscription.
func (a *Agent) subscription(state link.State, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch state {
	case link.Connected:
		if a.connected {
			return
		}
		if a.subscribed && a.presence != nil {
			a.presence.Resync() // the network may have timed us out meanwhile
		}
		a.subscribed, a.connected, a.reason = true, true, ""
		a.wake()
	case link.Lost:
		a.connected, a.reason = false, fmt.Sprintf("The connection to the network is lost: %v; trying again.", err)
	case link.Denied:
		a.connected, a.reason = false, "The network denied the subscription; connecting again for a new token."
	}
	a.update()
}

func (a *Agent) servesPipes() bool {
	for _, kind := range a.cfg.Card.TaskKinds {
		if kind == wire.Pipe {
			return true
		}
	}
	return false
}

// measureClock learns how far the network's clock is ahead of ours, because the deadlines of pipe tasks are stated in
// it. Without an answer the clocks are taken to agree.
func (a *Agent) measureClock(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
	defer cancel()
	before := a.cfg.Now()
	answer, err := s.link.Time(ctx)
	after := a.cfg.Now()
	ticks, parseErr := strconv.ParseInt(answer, 10, 64) // of 100 ns
	if err != nil || parseErr != nil {
		a.log.Warn("the network's clock could not be read, so deadlines go by the local one", "err", errors.Join(err, parseErr))
		return
	}
	middle := before.Add(after.Sub(before) / 2)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clockOffset = time.Unix(0, ticks*100).Sub(middle)
}
