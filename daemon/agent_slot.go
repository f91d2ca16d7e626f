package daemon

import (
	"context"
	"errors"
	"sync"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/daemon/roster"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/runtime/agent"
)

// agentSlot is one agent of this daemon, from before the network is known until it has left.
type agentSlot struct {
	assignment roster.Assignment
	events     *event.Bus

	// quit closes when the agent must leave although the daemon goes on; patient is set before, and says that its tasks
	// may take as long as they do.
	quit    chan struct{}
	patient bool

	mu sync.Mutex // guards what follows
	// agent is nil until the deployment document has been fetched, and between two sessions.
	agent *agent.Agent
	// state and reason stand in for those of agent while that is nil.
	state, reason string
	// key is the API key of agent.
	key string
	// joined: it takes part in a session, or is about to. leaving: quit is closed. ended: it has left, or failed. final: the
	// network refused its authentication.
	joined, leaving, ended, final bool
	// past are the counts of earlier sessions.
	past agent.Counts
}

func newAgentSlot(a roster.Assignment, events *event.Bus) *agentSlot {
	return &agentSlot{
		assignment: a, events: events, quit: make(chan struct{}),
		state: agent.StateConnecting, reason: reasonNotReached,
	}
}

func (s *agentSlot) name() string { return s.assignment.Card.AgentName }

// status returns what is known, whether there is an agent yet or not.
func (s *agentSlot) status() agent.Status {
	s.mu.Lock()
	a, past := s.agent, s.past
	st := agent.Status{
		Name: s.name(), State: s.state, Reason: s.reason, Handler: s.assignment.Handler, Concurrency: s.assignment.Card.Concurrency,
	}
	s.mu.Unlock()
	if a != nil {
		st = a.Status()
	}
	st.Counts = st.Counts.Plus(past)
	return st
}

// forRoster is what the roster needs to know.
func (s *agentSlot) forRoster() roster.Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return roster.Slot{Assignment: s.assignment, Leaving: s.leaving, Ended: s.ended}
}

// set says how it is with an agent that is not there.
func (s *agentSlot) set(state, reason string) {
	s.mu.Lock()
	s.state, s.reason = state, reason
	s.mu.Unlock()
	s.emit(state, reason)
}

// emitState says once more how it is with an agent that is not there.
func (s *agentSlot) emitState() {
	s.mu.Lock()
	state, reason := s.state, s.reason
	s.mu.Unlock()
	s.emit(state, reason)
}

// explain says why the agent still waits for the network.
func (s *agentSlot) explain(reason string) {
	s.mu.Lock()
	waits := s.agent == nil && s.state == agent.StateConnecting && s.reason != reason
	if waits {
		s.reason = reason
	}
	s.mu.Unlock()
	if waits {
		s.emit(agent.StateConnecting, reason)
	}
}

func (s *agentSlot) emit(state, reason string) {
	s.events.Emit(event.Event{Type: event.AgentState, Agent: s.name(), Handler: s.assignment.Handler, State: state, Reason: reason})
}

// begin makes a the agent of the session that begins, with its API key.
func (s *agentSlot) begin(a *agent.Agent, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agent, s.key = a, key
}

// credentials returns the agent of the session and its API key, nil between two sessions.
func (s *agentSlot) credentials() (*agent.Agent, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent, s.key
}

// retire takes away the agent of a session that is over.
func (s *agentSlot) retire(reason string) {
	s.mu.Lock()
	counts := s.agent.Status().Counts
	counts.Outbox = 0 // counted again by the agent that finds them in the journal
	s.past = s.past.Plus(counts)
	s.agent, s.state, s.reason, s.joined = nil, agent.StateOffline, reason, false
	s.mu.Unlock()
	s.emit(agent.StateOffline, reason)
}

// leave makes the agent leave. Only the reconciler calls it, once.
func (s *agentSlot) leave(patient bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving, s.patient = true, patient
	close(s.quit)
}

// mustLeave reports whether the agent has to leave.
func (s *agentSlot) mustLeave() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

func (s *agentSlot) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
}

func (s *agentSlot) get() *agent.Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent
}

// takesPart reports whether the agent is on the network, or on its way there. One that has failed is not.
func (s *agentSlot) takesPart() bool {
	s.mu.Lock()
	joined := s.joined
	s.mu.Unlock()
	return joined && s.status().State != agent.StateFailed
}

func (s *agentSlot) setJoined(joined bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.joined = joined
}

func (s *agentSlot) isFinal() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.final
}

func (s *agentSlot) setFinal(final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.final = final
}

// serve runs one agent from the moment the network is known until it has left. It never fails the daemon: what goes wrong
// is the agent's state.
func (d *Daemon) serve(ctx context.Context, s *agentSlot) {
	log := d.cfg.Log.With("agent", s.name(), "handler", s.assignment.Handler)
	for _, w := range s.assignment.Card.Warnings() {
		log.Warn("card of an agent", "pointer", w.Pointer, "reason", w.Message)
	}
	fail := func(err error) {
		log.Error("agent is not served", "err", err)
		s.set(agent.StateFailed, err.Error())
	}
	key := d.awaitKey(ctx, s, fail)
	if key == "" {
		return
	}
	if d.cfg.OnAgent != nil {
		if err := d.cfg.OnAgent(s.assignment.Card); err != nil {
			fail(err)
			return
		}
	}
	select {
	case <-ctx.Done():
		s.set(agent.StateOffline, reasonStopping)
		return
	case <-s.quit:
		return
	case <-d.network.known:
	}
	for {
		next := d.nextSession(ctx, s)
		if next == nil {
			if ctx.Err() != nil {
				s.set(agent.StateOffline, reasonStopping)
			}
			return
		}
		if now, err := d.cfg.Key(s.assignment.KeyFile); err == nil {
			key = now // it may have been replaced since the session before
		}
		a, err := agent.New(d.agentConfig(s, key))
		if err != nil {
			fail(err)
			return
		}
		s.begin(a, key)
		tune(a, d.settings()) // they may have changed since it was made
		err = stay(ctx, next, s, a)
		switch {
		case errors.Is(err, agent.ErrFinal):
			if key = d.awaitOtherKey(ctx, s, key); key == "" {
				log.Error("agent has ended", "err", err)
				return
			}
			log.Info("the API key has been replaced, so the agent connects again")
			s.retire("the API key has been replaced, so the agent connects again")
		case err != nil:
			log.Error("agent has ended", "err", err)
			return
		case ctx.Err() != nil || s.mustLeave():
			return
		default:
			s.retire(d.whyRetired())
		}
	}
}

// nextSession returns the session that is on, or the next one. It is nil when ctx, which is that of all agents, has ended,
// and when the agent has to leave.
func (d *Daemon) nextSession(ctx context.Context, s *agentSlot) *session {
	for ctx.Err() == nil && !s.mustLeave() {
		s.setJoined(true) // before it asks, so that a drain that comes now waits for it
		next, resumed := d.sessions.try()
		if next != nil {
			return next
		}
		s.setJoined(false)
		s.set(agent.StateOffline, reasonDrained)
		select {
		case <-resumed:
		case <-s.quit:
		case <-ctx.Done():
		}
	}
	return nil
}

// stay runs an agent until the session ends, or the agent has to leave, and its tasks with it.
func stay(ctx context.Context, in *session, s *agentSlot, a *agent.Agent) error {
	staying, end := context.WithCancel(ctx)
	defer end()
	over := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-over:
			return
		case <-in.over:
		case <-ctx.Done():
		case <-s.quit:
			if s.patient { // until the others have to go too
				hold := make(chan struct{})
				defer close(hold)
				a.HoldDrain(hold)
				end()
				select {
				case <-over:
				case <-in.over:
				case <-ctx.Done():
				}
			}
		}
		end()
	})
	err := a.Run(staying)
	close(over)
	watch.Wait()
	return err
}

func (d *Daemon) agentConfig(s *agentSlot, key string) agent.Config {
	c, net := d.settings(), d.network.get()
	return agent.Config{
		Card: s.assignment.Card, Handler: s.assignment.Handler, APIKey: key,
		Backend: net.client, CDM: net.CDM, Origin: net.Origin, Secure: net.Secure,
		Shared:     net.shared,
		Dispatcher: d.fleet, Calls: d.calls, Journal: d.journal, Slots: d.taskSlots, Drain: c.Drain, CancelGrace: c.CancelGrace, InlineLimit: c.Limits.InlineBytes,
		ArtifactLimit: int64(c.Limits.ArtifactBytes),
		Version:       d.cfg.Version, Log: d.cfg.Log, Events: d.events, Meters: d.telemetry.meters(), Trace: d.telemetry.tracer != nil, TraceRatio: c.Telemetry.TracesRatio, OnMoved: d.network.suspect,
	}
}

// tune makes the settings those of an agent that runs.
func tune(a *agent.Agent, c config.Config) {
	a.Tune(agent.Tunables{
		Drain: c.Drain, CancelGrace: c.CancelGrace, InlineLimit: c.Limits.InlineBytes, ArtifactLimit: int64(c.Limits.ArtifactBytes),
	})
}
