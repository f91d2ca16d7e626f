package agent

import (
	"context"
	"fmt"
	"sync"

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
