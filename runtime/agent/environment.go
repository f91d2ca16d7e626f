package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// The network has two environments, one for free and one for paid tasks, each with a keyset of its own. An agent is in
// one of them and can be moved to the other while it runs: its subscription and presence move, and each task stays where
// it began, because its channel and its token are there.

// session is the agent's connection to one environment while Run lasts.
type session struct {
	auth *backend.AgentSession
	link *link.Link
	mode wire.BillingMode
	keys wire.Keyset
	// streams are the live streams of the tasks in this environment.
	streams *streamTable
	// work makes a context for a task: it outlasts Run's own by the drain. Set before the first message arrives.
	work func() (context.Context, context.CancelFunc)
}

// connection is how an agent is connected. Agent.mu guards it.
type connection struct {
	// session is that of the environment that the agent is in, nil before the first connect; sessions holds it and, after
	// a move, the other one.
	session  *session
	sessions map[wire.BillingMode]*session
	channel  string         // the control channel
	presence *link.Presence // nil while the agent is away

	clockOffset time.Duration // the network's clock is ahead by this
	resumed     bool          // the control channel was taken up where it was left
	resumedAt   int64         // timetoken of that moment; what is older was sent before the restart
}

// environments are the names in control messages.
var environments = map[string]wire.BillingMode{"playground": wire.Free, "network": wire.Paid}

// newSession makes the session of an environment. Nothing is sent.
func (a *Agent) newSession(auth *backend.AgentSession, mode wire.BillingMode) (*session, error) {
	// The user id must be the instance id: tokens can be bound to it.
	l, err := link.New(link.Config{
		Origin: a.cfg.Origin, Secure: a.cfg.Secure, Keys: a.cfg.CDM.Keyset(mode), UserID: a.cfg.InstanceID,
		Log: a.log, Transport: a.cfg.transport, Shared: a.cfg.Shared, Now: a.cfg.Now, Jitter: a.cfg.Jitter,
		OnPublished: a.cfg.Meters.Published,
	})
	if err != nil {
		return nil, err
	}
	s := &session{auth: auth, link: l, mode: mode, keys: a.cfg.CDM.Keyset(mode)}
	s.streams = newStreamTable(a, s)
	return s, nil
}

// switchEnvironment does what a control message says.
func (a *Agent) switchEnvironment(from *session, c wire.Control) error {
	mode, ok := environments[c.Environment]
	switch {
	case !wire.SupportsVersion(c.ProtocolVersion):
		return fmt.Errorf("SwitchEnvironment of protocol version %q ignored", wire.CutText(c.ProtocolVersion, maxVersion))
	case !ok:
		return fmt.Errorf("SwitchEnvironment to %q ignored: there is no such environment", wire.CutText(c.Environment, maxVersion))
	}
	a.mu.Lock()
	current := a.conn.session
	a.mu.Unlock()
	if current != from || current.mode == mode {
		return fmt.Errorf("SwitchEnvironment to %s ignored: the agent is there already", c.Environment)
	}
	return a.enter(from, mode, c.PAMToken)
}

// sessionOf returns the session of an environment. A new one has the credentials of like, and so long a life.
func (a *Agent) sessionOf(mode wire.BillingMode, like *session) (*session, error) {
	a.mu.Lock()
	s := a.conn.sessions[mode]
	a.mu.Unlock()
	if s != nil {
		return s, nil
	}
	made, err := a.newSession(like.auth, mode)
	if err != nil {
		return nil, fmt.Errorf("enter the environment of %s tasks: %w", mode, err)
	}
	made.work = like.work
	a.mu.Lock()
	if s = a.conn.sessions[mode]; s == nil { // nobody else was faster
		s, a.conn.sessions[mode] = made, made
	}
	a.mu.Unlock()
	if s != made {
		made.link.Close()
	}
	return s, nil
}

// enter makes another environment the current one. It waits for nothing; runPresence moves the subscription.
func (a *Agent) enter(from *session, mode wire.BillingMode, token string) error {
	to, err := a.sessionOf(mode, from)
	if err != nil {
		return err
	}
	to.link.SetToken(token)
	from.auth.SetBillingMode(mode)
	a.log.Info("the agent moves to another environment; running tasks stay where they are", "from", from.mode, "to", mode)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn.session = to
	a.wake()
	return nil
}

// granted takes what a connect brought, whoever asked for it.
func (a *Agent) granted(g backend.Grant) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.conn.sessions[g.BillingMode]; s != nil && g.PAMToken != "" {
		s.link.SetToken(g.PAMToken)
	}
	if a.conn.channel != g.ControlChannel {
		a.conn.channel = g.ControlChannel
		a.wake()
	}
}

// reconnect gets a new token. The instance id stays, so the subscription goes on from its cursor; only if the network has
// moved the control channel, or the agent to another billing mode, a new stay begins.
func (a *Agent) reconnect(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
	defer cancel()
	grant, err := s.auth.Connect(ctx)
	if wrong := (*backend.Error)(nil); errors.As(err, &wrong) && wrong.WrongBillingMode() {
		grant, err = a.followBillingMode(ctx, s)
	}
	if err != nil {
		if final(err) {
			a.fail(err)
		}
		return err
	}
	a.log.Info("connected again for a new token", "channel", grant.ControlChannel)
	return nil
}

// followBillingMode connects with the billing mode that the registry says now.
func (a *Agent) followBillingMode(ctx context.Context, s *session) (backend.Grant, error) {
	record, err := a.cfg.Backend.Agent(ctx, a.cfg.APIKey, a.name())
	if err != nil {
		return backend.Grant{}, err
	}
	if !record.BillingMode.Valid() || record.BillingMode == s.mode {
		return backend.Grant{}, fmt.Errorf("connect agent %s again: the registry says billing mode %q, and connecting with %s is refused", a.name(), record.BillingMode, s.mode)
	}
	s.auth.SetBillingMode(record.BillingMode)
	grant, err := s.auth.Connect(ctx)
	if err != nil {
		s.auth.SetBillingMode(s.mode)
		return grant, err
	}
	return grant, a.enter(s, record.BillingMode, grant.PAMToken)
}

// closeSessions frees the links.
func (a *Agent) closeSessions() {
	a.mu.Lock()
	all := slices.Collect(maps.Values(a.conn.sessions))
	a.mu.Unlock()
	for _, s := range all {
		s.link.Close()
	}
}
