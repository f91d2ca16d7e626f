package blocks

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
)

// AgentSpec is what is registered about an agent.
type AgentSpec struct {
	Name, DisplayName, Description string
	// OrgID owns the agent.
	OrgID string
	// Private agents are seen by their organization and those who were invited.
	Private     bool
	BillingMode wire.BillingMode
	// Prices of paid agents.
	Prices
	Concurrency int
	// Broadcast agents get each task on all instances; the card says so with expectedInstances 0.
	Broadcast bool
	// MaxPendingBacklog is nil where the network's default applies.
	MaxPendingBacklog *int
	// MaxRunning is how long a request task may run, 0 for no limit.
	MaxRunning time.Duration
	// Streams that the card declares, by name.
	Streams map[string]card.Stream
	// Kinds of tasks, both if it is empty; Tags are for searching.
	Kinds []wire.TaskKind
	Tags  []string
	Card  json.RawMessage
}

// Prices of a paid agent: decimal texts, "" for none, and what is free for each consumer.
type Prices struct {
	PerTask, PerMinute     string
	FreeTasks, FreeMinutes int
	// TermsAccepted is when the owner accepted the terms, RFC 3339.
	TermsAccepted string
}

// SpecOf returns what a card says about its agent; owner, listing and prices are not in it.
func SpecOf(c card.Card) AgentSpec {
	spec := AgentSpec{
		Name: c.AgentName, DisplayName: c.DisplayName, Description: c.Description, BillingMode: wire.Free, Concurrency: c.Concurrency,
		Broadcast: c.ExpectedInstances == 0, MaxPendingBacklog: c.MaxPendingBacklog, Streams: c.Streams, Kinds: c.TaskKinds, Card: c.Raw,
	}
	if c.MaxRunningTimeSec != nil {
		spec.MaxRunning = time.Duration(*c.MaxRunningTimeSec) * time.Second
	}
	var doc struct{ Tags []struct{ ID, Name string } }
	_ = json.Unmarshal(c.Raw, &doc) // it is valid; tags are only for searching
	for _, t := range doc.Tags {
		spec.Tags = append(spec.Tags, t.ID)
	}
	return spec
}

// AgentRecord is a registered agent as others see it.
type AgentRecord struct {
	AgentSpec
	OrgName      string
	RegisteredAt time.Time
	OnlineCount  int
}

type agent struct {
	spec          AgentSpec
	id            string
	control       string // channel
	env           *Environment
	registeredAt  time.Time
	forcedOffline bool
	backlog       int // limit of the queue
	broadcast     bool
	maxRunning    time.Duration
	grants        map[string]*grant
	streams       map[string]bool // shared streams that have been set up

	// unclaimed are the tasks that went out to all instances and that none has taken up.
	unclaimed map[string]*task

	instances map[string]*instance
	ready     loads // those that take tasks, least loaded first
	offline   []string
	picks     int
	queue     queue
}

// maxOffline bounds the instances of an agent that are remembered although they are gone.
const maxOffline = 256

// Register creates an agent, or replaces what is known of it; its instances and tasks stay.
func (n *Network) Register(spec AgentSpec) error {
	if err := wire.CheckAgentName(spec.Name); err != nil {
		return InvalidParams("%v", err)
	}
	if n.orgs[spec.OrgID] == nil {
		return InvalidParams("The organization %q is unknown.", spec.OrgID)
	}
	if !spec.BillingMode.Valid() {
		return InvalidParams("The billing mode must be free or paid, not %q.", spec.BillingMode)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.register(spec)
}

// register is Register for checked specs. The lock is held.
func (n *Network) register(spec AgentSpec) error {
	a := n.agents[spec.Name]
	if a == nil {
		id := "ag_" + strings.ToLower(rand.Text())
		a = &agent{id: id, control: wire.ControlChannel(id), registeredAt: n.cfg.Now(), instances: map[string]*instance{},
			grants: map[string]*grant{}, streams: map[string]bool{}, unclaimed: map[string]*task{}}
		n.agents[spec.Name] = a
		n.byControl[a.control] = a
	} else if a.spec.OrgID != spec.OrgID {
		return refused(403, CodeDenied, "The agent name %s belongs to another organization.", spec.Name)
	}
	if a.env != nil && a.env != n.envs[spec.BillingMode] {
		// Its instances sit in the other environment and have to connect anew. What they run stays where it is; what
		// waits would be sought there in vain.
		n.drop(a, "the agent moved to another environment of the network")
		for id, i := range a.instances {
			i.controlToken = "" // is one of the old environment
			if i.online {
				n.lost(i)
			}
			if len(i.tasks) == 0 {
				delete(a.instances, id)
			}
		}
	}
	a.spec, a.env = spec, n.envs[spec.BillingMode]
	a.backlog = n.cfg.DefaultBacklog
	if spec.MaxPendingBacklog != nil {
		a.backlog = *spec.MaxPendingBacklog
	}
	a.broadcast, a.maxRunning = spec.Broadcast, spec.MaxRunning
	n.touch()
	return nil
}

// drop ends what waits for an agent. The lock is held.
func (n *Network) drop(a *agent, reason string) {
	for t := a.queue.pop(); t != nil; t = a.queue.pop() {
		n.endTask(t, wire.Terminal{State: wire.Failed, Error: reason})
	}
	for _, t := range a.unclaimed {
		n.endTask(t, wire.Terminal{State: wire.Failed, Error: reason})
	}
}

// visible reports whether p (nil: anonymous) may know of a. Without an agent it is false.
func (a *agent) visible(p *Principal) bool {
	return a != nil && (!a.spec.Private || p != nil && (p.OrgID == a.spec.OrgID || a.granted(p)))
}

func noAgent(name string) *Error {
	return refused(404, CodeNoAgent, "There is no agent %s, or it is not visible to you.", name)
}

// Agent returns one agent, if p may see it.
func (n *Network) Agent(p *Principal, name string) (AgentRecord, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.agents[name]
	if !a.visible(p) {
		return AgentRecord{}, noAgent(name)
	}
	return n.record(a), nil
}

func (n *Network) record(a *agent) AgentRecord {
	return AgentRecord{AgentSpec: a.spec, OrgName: n.orgs[a.spec.OrgID].Name, RegisteredAt: a.registeredAt, OnlineCount: a.ready.Len()}
}

// ForceOffline takes an agent out of service, as an administrator can: its work fails, new work and new connections are
// refused. Or it brings it back.
func (n *Network) ForceOffline(name string, on bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.agents[name]
	if a == nil {
		return noAgent(name)
	}
	a.forcedOffline = on
	if on {
		n.fail(a, "the agent has been taken offline")
	}
	n.touch()
	for _, i := range a.instances {
		n.changed(i)
	}
	return nil
}

// fail ends all tasks of an agent. The lock is held.
func (n *Network) fail(a *agent, reason string) {
	n.drop(a, reason)
	for _, i := range a.instances {
		for _, t := range i.tasks {
			n.endTask(t, wire.Terminal{State: wire.Failed, Error: reason})
		}
	}
}

// ConnectRequest of an instance; nil means that it said nothing.
type ConnectRequest struct {
	AgentName, InstanceID string
	BillingMode           wire.BillingMode
	Concurrency           *int
	MaxPendingBacklog     *int
	ExpectedInstances     *int
	MaxRunningTimeSec     *int
	// Build says what the instance is made of.
	Build Build
}

// Build is what an instance says about its software.
type Build struct {
	SDKLanguage, SDKVersion, CLIVersion, DeviceOS, PreferredProtocol string
	Protocols                                                        []string
}

// Connection is what an instance gets.
type Connection struct {
	Credentials
	AgentName, DisplayName, AgentID, ControlChannel, PAMToken string
}

// Connect makes an instance known and gives it its credentials. It may be called again for the same instance.
func (n *Network) Connect(p *Principal, req ConnectRequest) (Connection, error) {
	if req.AgentName == "" || req.InstanceID == "" {
		return Connection{}, InvalidParams("agentName and instanceId are required.")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.agents[req.AgentName]
	if !a.visible(p) {
		return Connection{}, noAgent(req.AgentName)
	}
	if a.spec.OrgID != p.OrgID {
		return Connection{}, refused(403, CodeDenied, "The agent %s belongs to another organization; only its own API keys may run it.", req.AgentName)
	}
	if a.forcedOffline {
		return Connection{}, offline(req.AgentName)
	}
	if req.BillingMode != a.spec.BillingMode {
		return Connection{}, &Error{
			Status: 409, Code: CodeBillingMode, RPC: RPCApplication,
			Message: "The agent " + req.AgentName + " is registered as " + string(a.spec.BillingMode) + ", not " + string(req.BillingMode) + ".",
			Details: Mismatch{Expected: a.spec.BillingMode, Got: req.BillingMode},
		}
	}
	if req.MaxPendingBacklog != nil && *req.MaxPendingBacklog >= 0 {
		a.backlog = *req.MaxPendingBacklog
	}
	if req.ExpectedInstances != nil {
		a.broadcast = *req.ExpectedInstances == 0
	}
	if req.MaxRunningTimeSec != nil && *req.MaxRunningTimeSec > 0 {
		a.maxRunning = time.Duration(*req.MaxRunningTimeSec) * time.Second
	}
	i := a.instances[req.InstanceID]
	if i == nil {
		i = &instance{id: req.InstanceID, agent: a, tasks: map[string]*task{}, index: -1}
		i.slots.concurrency = a.spec.Concurrency
		a.instances[i.id] = i
		a.retire(i)
	}
	if req.Concurrency != nil && !i.online {
		i.slots.concurrency = max(*req.Concurrency, 0)
	}
	i.build, i.connectedAt = req.Build, n.cfg.Now()
	token, err := n.controlToken(i)
	if err != nil {
		return Connection{}, err
	}
	credentials, err := n.issue(refreshToken{apiKey: p.org.APIKey, agent: a.spec.Name, instance: i.id})
	if err != nil {
		return Connection{}, err
	}
	return Connection{
		Credentials: credentials, AgentName: a.spec.Name, DisplayName: a.spec.DisplayName, AgentID: a.id,
		ControlChannel: a.control, PAMToken: token,
	}, nil
}

// retire notes that an instance is not online, and forgets the one that has been so for longest when there are many.
func (a *agent) retire(i *instance) {
	a.offline = append(a.offline, i.id)
	for len(a.offline) > maxOffline {
		if old := a.instances[a.offline[0]]; old != nil && !old.online && len(old.tasks) == 0 && old != i {
			delete(a.instances, old.id)
		}
		a.offline = a.offline[1:]
	}
}

// Mismatch are the details of a billing mode that is not the agent's.
type Mismatch struct {
	Expected wire.BillingMode `json:"expected"`
	Got      wire.BillingMode `json:"got"`
}

// taskChannels is what a control token may write to: rejections of tasks are published with it.
const taskChannels = `^u\.[^.]+\.[^.]+$`

// controlToken returns a token for the control channel with at least half of its life left, not one that was revoked. The
// lock is held.
func (n *Network) controlToken(i *instance) (string, error) {
	now := n.cfg.Now()
	if i.controlToken != "" && now.Before(i.controlRenew) && i.agent.env.Access.Check(i.controlToken, i.id, access.Read, i.agent.control) == nil {
		return i.controlToken, nil
	}
	token, err := i.agent.env.Access.Issue(access.Grant{
		Issued: now, TTL: n.cfg.ControlTTL, UUID: i.id,
		Channels: map[string]access.Right{i.agent.control: access.Read | access.Write},
		Patterns: map[string]access.Right{taskChannels: access.Write},
	})
	if err != nil {
		return "", err
	}
	i.controlToken, i.controlRenew = token, now.Add(n.cfg.ControlTTL/2)
	return token, nil
}
