package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/runtime/lifecycle"
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
		return fmt.Errorf("run agent %s: it ran already; make a new one", a.name())
	}
	defer a.step(lifecycle.Stopped{})

	s, err := a.connect(ctx)
	if err != nil {
		return a.failure()
	}
	defer a.closeSessions()

	// Tasks outlast ctx by the drain; the presence too, so that cancels still arrive.
	life, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	s.work = func() (context.Context, context.CancelFunc) { return context.WithCancel(life) }
	present, leave := context.WithCancel(life)
	defer leave()
	var services sync.WaitGroup
	a.recoverTasks(s)
	services.Go(func() { a.runPresence(present) })
	services.Go(func() { a.keepTime(present) })
	services.Go(func() { a.keepToken(present) })

	select {
	case <-ctx.Done():
	case <-a.fatal:
	}
	a.drain()
	leave()
	services.Wait() // has left, explicitly
	kill()
	a.awaitWork()
	return a.failure()
}

// failure is what Run returns.
func (a *Agent) failure() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.life.Failure()
}

// connect looks the agent up, connects, and prepares the link. It tries indefinitely; an error means that ctx ended or
// that the agent has failed for good.
func (a *Agent) connect(ctx context.Context) (*session, error) {
	var record backend.Agent
	err := a.retry(ctx, func(ctx context.Context) (err error) {
		record, err = a.lookUp(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	c := a.cfg.Card
	auth := a.cfg.Backend.NewAgentSession(a.cfg.APIKey, backend.ConnectRequest{
		AgentName: a.name(), InstanceID: a.cfg.InstanceID, BillingMode: record.BillingMode, Listing: record.Listing,
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
		a.step(lifecycle.Unreachable{Cause: lifecycle.Unusable, Err: err})
		a.log.Error("link cannot be made", "err", err)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.link.SetToken(grant.PAMToken)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn.session, a.conn.sessions[s.mode], a.conn.channel = s, s, grant.ControlChannel
	a.stepLocked(lifecycle.Granted{})
	return s, nil
}

// lookUp asks the registry for the agent.
func (a *Agent) lookUp(ctx context.Context) (backend.Agent, error) {
	record, err := a.cfg.Backend.Agent(ctx, a.cfg.APIKey, a.name())
	switch {
	case errors.Is(err, backend.ErrNotFound):
		// To the registry a key that is not valid is like none. Who gives tokens for keys knows better.
		if _, err := a.cfg.Backend.NewConsumer(a.cfg.APIKey).UserID(ctx); final(err) {
			return record, err
		}
		return record, fmt.Errorf("look up agent %s: the network does not know it, or not for this API key: register it", a.name())
	case err == nil && !record.BillingMode.Valid():
		return record, fmt.Errorf("look up agent %s: the registry says billing mode %q, which is neither free nor paid", a.name(), record.BillingMode)
	}
	return record, err
}

// retry calls attempt, whose errors say what was attempted, until it succeeds, ctx ends, or the answer is final. The wait
// grows and is spread, so that many agents do not return together.
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
		a.unreachable(lifecycle.NoConnect, err)
		if err := retry.Pause(ctx, a.cfg.backoff().Delay(n)); err != nil {
			return err
		}
	}
}
