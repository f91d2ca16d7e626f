package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/backend"
)

// Run serves the agent until ctx ends, then drains: it announces itself full and refuses tasks that still come, lets
// those that run go on for Config.Drain, asks the rest to end with reason DRAIN, leaves the network once their terminal
// events are out or Timeouts are over, and returns nil. An error is final and matches ErrFinal. Run may be called once.
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
	defer a.closeSessions()

	// Tasks outlast ctx by the drain; the attendance too, so that cancels still arrive.
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	s.work = func() (context.Context, context.CancelFunc) { return context.WithCancel(life) }
	attending, depart := context.WithCancel(life)
	defer depart()
	var services sync.WaitGroup
	a.recoverTasks(s)
	services.Go(func() { a.attend(attending) })
	services.Go(func() { a.keepTime(attending) })
	services.Go(func() { a.keepToken(attending) })

	select {
	case <-ctx.Done():
	case <-a.fatal:
	}
	a.drain()
	depart()
	services.Wait() // has left, explicitly
	kill()
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
	a.updateLocked()
}

// connect looks the agent up, connects, and prepares the link. It tries for ever; an error means that ctx ended or that
// the agent has failed for good.
func (a *Agent) connect(ctx context.Context) (*session, error) {
	var record backend.Agent
	err := a.retry(ctx, func(ctx context.Context) (err error) {
		record, err = a.cfg.Backend.Agent(ctx, a.cfg.APIKey, a.name)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			// To the registry a key that is not valid is like none. Who gives tokens for keys knows better.
			if _, err := a.cfg.Backend.NewConsumer(a.cfg.APIKey).UserID(ctx); final(err) {
				return err
			}
			return fmt.Errorf("look up agent %s: the network does not know it, or not for this API key: register it", a.name)
		case err == nil && !record.BillingMode.Valid():
			return fmt.Errorf("look up agent %s: the registry says billing mode %q, which is neither free nor paid", a.name, record.BillingMode)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c := a.cfg.Card
	auth := a.cfg.Backend.NewAgentSession(a.cfg.APIKey, backend.ConnectRequest{
		AgentName: a.name, InstanceID: a.cfg.InstanceID, BillingMode: record.BillingMode, Listing: record.Listing,
		ExpectedInstances: c.ExpectedInstances, Concurrency: c.Concurrency,
		MaxPendingBacklog: c.MaxPendingBacklog, MaxRunningTimeSec: c.MaxRunningTimeSec, SDKVersion: a.cfg.Version,
		OnGrant: a.granted,
	})
	var grant backend.Grant
	err = a.retry(ctx, func(ctx context.Context) (err error) {
		grant, err = auth.Connect(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	s, err := a.newSession(auth, record.BillingMode)
	if err != nil { // a keyset or origin that nothing can be done with
		a.mu.Lock()
		a.reason = fmt.Sprintf("The agent cannot use the network's messaging: %v.", err)
		a.updateLocked()
		a.mu.Unlock()
		a.log.Error("link cannot be made", "err", err)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.link.SetToken(grant.PAMToken)
	a.mu.Lock()
	a.session, a.sessions[s.mode] = s, s
	a.billing, a.channel, a.reason, a.troubled = s.mode, grant.ControlChannel, "", time.Time{}
	a.updateLocked()
	a.mu.Unlock()
	return s, nil
}

// retry calls attempt, whose errors say what was attempted, until it succeeds, ctx ends, or the answer is final. The wait grows and is spread, so that many
// agents do not return together.
func (a *Agent) retry(ctx context.Context, attempt func(context.Context) error) error {
	for n := 1; ; n++ {
		once, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
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
		a.trouble(err)
		a.mu.Lock()
		a.reason = fmt.Sprintf("Could not %v; trying again.", err)
		a.updateLocked()
		a.mu.Unlock()
		if err := retry.Pause(ctx, a.cfg.backoff().Delay(n)); err != nil {
			return err
		}
	}
}

func final(err error) bool {
	var answer *backend.Error
	return errors.As(err, &answer) && answer.Final()
}
