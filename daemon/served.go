package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/runtime/agent"
)

// served is one agent of this daemon, from before the network is known until after it has ended.
type served struct {
	card    card.Card
	handler string
	keyFile string

	// mu guards the fields that follow.
	mu sync.Mutex
	// agent is nil until the deployment document has been fetched.
	agent *agent.Agent
	// state and reason stand in for those of agent while that is nil.
	state, reason string
	// final: the network has refused the authentication for good.
	final bool
}

func newServed(a assignment) *served {
	return &served{card: a.card, handler: a.handler, keyFile: a.keyFile, state: agent.StateConnecting, reason: "the network has not been reached yet"}
}

// status returns what is known, whether there is an agent yet or not.
func (s *served) status() agent.Status {
	s.mu.Lock()
	a, state, reason := s.agent, s.state, s.reason
	s.mu.Unlock()
	if a != nil {
		return a.Status()
	}
	return agent.Status{Name: s.card.AgentName, State: state, Reason: reason, Handler: s.handler, Concurrency: s.card.Concurrency}
}

func (s *served) get() *agent.Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent
}

func (s *served) wait(state, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.reason = state, reason
}

// explain says why the agent still waits for the network.
func (s *served) explain(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == agent.StateConnecting {
		s.reason = reason
	}
}

func (s *served) isFinal() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.final
}

// serve runs one agent from the moment the network is known until its drain is over. It never fails the daemon: what
// goes wrong is the agent's state.
func (d *Daemon) serve(ctx context.Context, s *served) {
	log := d.cfg.Log.With("agent", s.card.AgentName, "handler", s.handler)
	fail := func(err error) {
		log.Error("agent is not served", "err", err)
		s.wait(agent.StateFailed, err.Error())
		d.changed.broadcast()
	}
	key, err := d.cfg.Key(s.keyFile)
	if err != nil {
		fail(fmt.Errorf("serve agent %s: %w", s.card.AgentName, err))
		return
	}
	if d.cfg.OnAgent != nil {
		if err := d.cfg.OnAgent(s.card); err != nil {
			fail(err)
			return
		}
	}
	select {
	case <-ctx.Done():
		s.wait(agent.StateOffline, "the daemon stops")
		return
	case <-d.deployment.known:
	}
	a, err := agent.New(d.agentConfig(s, key))
	if err != nil {
		fail(err)
		return
	}
	s.mu.Lock()
	s.agent = a
	s.mu.Unlock()
	watched, stopWatching := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			changed := a.Changed()
			d.changed.broadcast()
			select {
			case <-watched.Done():
				return
			case <-changed:
			}
		}
	})
	err = a.Run(ctx)
	stopWatching()
	watch.Wait()
	if err != nil {
		s.mu.Lock()
		s.final = errors.Is(err, agent.ErrFinal)
		s.mu.Unlock()
		log.Error("agent has ended", "err", err)
		d.checkFinal()
	}
	d.changed.broadcast()
}

func (d *Daemon) agentConfig(s *served, key string) agent.Config {
	c := d.cfg.Settings
	return agent.Config{
		Card: s.card, Handler: s.handler, APIKey: key,
		Backend: d.deployment.client, CDM: d.deployment.cdm, Origin: d.deployment.origin, Secure: d.deployment.secure,
		Dispatcher: d.fleet, Journal: d.journal, Slots: d.slots, Drain: c.Drain, CancelGrace: c.CancelGrace, InlineLimit: c.Limits.InlineBytes,
		Version: d.cfg.Version, Log: d.cfg.Log,
	}
}

// deployment is where the network is. All fields but known are set once, before known closes.
type deployment struct {
	known  chan struct{}
	cdm    backend.CDM
	client *backend.Client
	origin string
	secure bool
}
