package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/runtime/agent"
)

// served is one agent of this daemon, from before the network is known until after it has ended.
type served struct {
	card    card.Card
	handler string
	keyFile string
	// assignment is where it comes from.
	assignment assignment

	// quit closes when the agent has to leave although the daemon goes on; patient is set before, and says that its tasks
	// may take as long as they do.
	quit    chan struct{}
	patient bool
	// leaving and over are guarded by Daemon.mu: told to leave, and gone.
	leaving, over bool

	// mu guards the fields that follow.
	mu sync.Mutex
	// agent is nil until the deployment document has been fetched.
	agent *agent.Agent
	// state and reason stand in for those of agent while that is nil.
	state, reason string
	// final: the network has refused the authentication for good.
	final bool
	// past are the counts of the rounds before.
	past agent.Counts
}

func newServed(a assignment) *served {
	return &served{card: a.card, handler: a.handler, keyFile: a.keyFile, assignment: a, quit: make(chan struct{}), state: agent.StateConnecting, reason: "the network has not been reached yet"}
}

// status returns what is known, whether there is an agent yet or not.
func (s *served) status() agent.Status {
	s.mu.Lock()
	a, state, reason, past := s.agent, s.state, s.reason, s.past
	s.mu.Unlock()
	st := agent.Status{Name: s.card.AgentName, State: state, Reason: reason, Handler: s.handler, Concurrency: s.card.Concurrency}
	if a != nil {
		st = a.Status()
	}
	st.Counts = st.Counts.Plus(past)
	return st
}

// retire takes the agent of a round that is over away.
func (s *served) retire(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts := s.agent.Status().Counts
	counts.Outbox = 0 // counted again by the agent that finds them in the journal
	s.past = s.past.Plus(counts)
	s.agent, s.state, s.reason = nil, agent.StateOffline, reason
}

// leave makes the agent leave. It is called once.
func (s *served) leave(patient bool) {
	s.patient = patient
	close(s.quit)
}

// told reports whether the agent has to leave.
func (s *served) told() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
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
	case <-s.quit:
		return
	case <-d.deployment.known:
	}
	for {
		r := d.nextRound(ctx, s)
		if r == nil {
			s.wait(agent.StateOffline, "the daemon stops")
			return
		}
		a, err := agent.New(d.agentConfig(s, key))
		if err != nil {
			fail(err)
			return
		}
		err = d.serveRound(ctx, r, s, a)
		if err != nil {
			s.mu.Lock()
			s.final = errors.Is(err, agent.ErrFinal)
			s.mu.Unlock()
			log.Error("agent has ended", "err", err)
			d.checkFinal()
		}
		if err != nil || ctx.Err() != nil || s.told() {
			d.changed.broadcast()
			return
		}
		s.retire(d.whyRetired())
		d.changed.broadcast()
	}
}

// serveRound runs an agent until the round ends, or the agent has to leave, and its tasks with it.
func (d *Daemon) serveRound(ctx context.Context, r *round, s *served, a *agent.Agent) error {
	staying, end := context.WithCancel(r.ctx)
	defer end()
	s.mu.Lock()
	s.agent = a
	s.mu.Unlock()
	watched, stopWatching := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-watched.Done():
		case <-s.quit:
			if s.patient {
				a.Linger(ctx.Done())
			}
			end()
		}
	})
	d.changed.broadcast()
	err := a.Run(staying)
	stopWatching()
	watch.Wait()
	return err
}

func (d *Daemon) agentConfig(s *served, key string) agent.Config {
	c, net := d.cfg.Settings, d.deployment.get()
	return agent.Config{
		Card: s.card, Handler: s.handler, APIKey: key,
		Backend: net.client, CDM: net.CDM, Origin: net.Origin, Secure: net.Secure,
		Dispatcher: d.fleet, Journal: d.journal, Slots: d.slots, Drain: c.Drain, CancelGrace: c.CancelGrace, InlineLimit: c.Limits.InlineBytes,
		ArtifactLimit: int64(c.Limits.ArtifactBytes),
		Events:        d.events,
		Version:       d.cfg.Version, Log: d.cfg.Log, OnMoved: d.deployment.suspect,
	}
}
