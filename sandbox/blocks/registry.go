package blocks

import (
	"slices"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// registry holds the registered agents.
type registry struct {
	agents    map[string]*agent      // by name
	byControl map[string]*agent      // by control channel
	invites   map[string]*invitation // that are open, by token
}

func newRegistry() registry {
	return registry{agents: map[string]*agent{}, byControl: map[string]*agent{}, invites: map[string]*invitation{}}
}

// addLocked adds an agent that is new.
func (r *registry) addLocked(a *agent) {
	r.agents[a.Spec.Name] = a
	r.byControl[a.control] = a
}

// removeLocked removes an agent with the invitations to it.
func (r *registry) removeLocked(a *agent) {
	delete(r.agents, a.Spec.Name)
	delete(r.byControl, a.control)
	for token, v := range r.invites {
		if v.Agent == a.Spec.Name {
			delete(r.invites, token)
		}
	}
}

// ownedLocked returns an agent of p's own organization. what says what p is trying to do, for the refusal.
func (r *registry) ownedLocked(p *Principal, name, what string) (*agent, error) {
	a := r.agents[name]
	switch {
	case !a.visibleLocked(p):
		return nil, noAgent(name)
	case p == nil:
		return nil, Unauthorized("Only the owner of an agent may " + what + ".")
	case p.IsAgent():
		return nil, refused(403, CodeDenied, "An agent's own credentials may not %s: use an API key.", what)
	case a.Spec.OrgID != p.OrgID:
		return nil, refused(403, CodeDenied, "The agent %s belongs to another organization.", name)
	}
	return a, nil
}

// agent is a registered agent.
type agent struct {
	agentRecord
	control string // channel
	env     *Environment

	queue queue
	// unclaimed are the tasks that went out to all instances and that none has taken up.
	unclaimed map[string]*task

	instances map[string]*instance
	ready     loads    // those that take tasks, least loaded first
	offline   []string // those that are not online, longest first
	picks     int
}

// agentRecord is what is kept of an agent.
type agentRecord struct {
	Spec          AgentSpec
	ID            string
	RegisteredAt  time.Time
	ForcedOffline bool
	Backlog       int // limit of the queue
	Broadcast     bool
	MaxRunning    time.Duration
	Grants        []grant
	Streams       map[string]bool // shared streams that have been set up
}

func newAgent(record agentRecord) *agent {
	if record.Streams == nil {
		record.Streams = map[string]bool{}
	}
	return &agent{agentRecord: record, control: wire.ControlChannel(record.ID), instances: map[string]*instance{}, unclaimed: map[string]*task{}}
}

// visibleLocked reports whether p (nil: anonymous) may know of a. Without an agent it is false.
func (a *agent) visibleLocked(p *Principal) bool {
	return a != nil && (!a.Spec.Private || p != nil && (p.OrgID == a.Spec.OrgID || a.grantedLocked(p)))
}

func noAgent(name string) *Error {
	return refused(404, CodeNoAgent, "There is no agent %s, or it is not visible to you.", name)
}

// grant lets a user or an organization use a private agent.
type grant struct {
	ID      string
	OrgID   string `json:"Org"`
	Created time.Time
	User    bool // only its user; each organization has one, so this only changes how the grant is shown
}

// grantedLocked reports whether p was invited to a private agent.
func (a *agent) grantedLocked(p *Principal) bool {
	return slices.ContainsFunc(a.Grants, func(g grant) bool { return g.OrgID == p.OrgID })
}

// invitation is an open invitation to a private agent, as it is kept.
type invitation struct {
	ID, Token, Email, Slug string
	Agent                  string
	Created, Expires       time.Time
}

func offline(agent string) *Error {
	return refused(403, CodeForcedOffline, "The agent %s has been taken offline by an administrator.", agent)
}
