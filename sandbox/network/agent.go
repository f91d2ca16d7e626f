package network

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
)

// AgentSpec is what is registered about an agent.
type AgentSpec struct {
	Name, DisplayName, Description string
	// OrgID owns the agent.
	OrgID string
	// Private agents are seen by their organization only.
	Private     bool
	BillingMode wire.BillingMode
	// PricePerTask is a decimal text, for paid agents.
	PricePerTask string
	Concurrency  int
	// MaxPendingBacklog is nil where the network's default applies.
	MaxPendingBacklog *int
	// Streams says that the card declares streams.
	Streams bool
	Card    json.RawMessage
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
	if n.orgsByID[spec.OrgID] == nil {
		return InvalidParams("The organization %q is unknown.", spec.OrgID)
	}
	if !spec.BillingMode.Valid() {
		return InvalidParams("The billing mode must be free or paid, not %q.", spec.BillingMode)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.agents[spec.Name]
	if a == nil {
		id := "ag_" + strings.ToLower(rand.Text())
		a = &agent{id: id, control: wire.ControlChannel(id), registeredAt: n.cfg.Now(), instances: map[string]*instance{}}
		n.agents[spec.Name] = a
		n.byControl[a.control] = a
	} else if a.spec.OrgID != spec.OrgID {
		return refused(403, CodeDenied, "The agent name %s belongs to another organization.", spec.Name)
	}
	if a.env != nil && a.env != n.envs[spec.BillingMode] {
		// Its instances sit in the other environment and have to connect anew; tasks stay where they are.
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
	return nil
}

// visible reports whether p (nil: anonymous) may know of a. Without an agent it is false.
func (a *agent) visible(p *Principal) bool {
	return a != nil && (!a.spec.Private || p != nil && p.OrgID == a.spec.OrgID)
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

// Agents returns the agents that p may see, by name, from the one after the cursor on, and how many there are in all.
func (n *Network) Agents(p *Principal, after string, limit int) (page []AgentRecord, next string, total int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*agent
	for _, a := range n.agents {
		if a.visible(p) {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(x, y *agent) int { return cmp.Compare(x.spec.Name, y.spec.Name) })
	for _, a := range all {
		if a.spec.Name <= after {
			continue
		}
		if len(page) == limit {
			return page, page[len(page)-1].Name, len(all)
		}
		page = append(page, n.record(a))
	}
	return page, "", len(all)
}

func (n *Network) record(a *agent) AgentRecord {
	return AgentRecord{AgentSpec: a.spec, OrgName: n.orgsByID[a.spec.OrgID].Name, RegisteredAt: a.registeredAt, OnlineCount: a.ready.Len()}
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
		failed := wire.Terminal{State: wire.Failed, Error: "the agent has been taken offline"}
		for t := a.queue.pop(); t != nil; t = a.queue.pop() {
			n.endTask(t, failed)
		}
		for _, i := range a.instances {
			for _, t := range i.tasks {
				n.endTask(t, failed)
			}
		}
	}
	for _, i := range a.instances {
		n.changed(i)
	}
	return nil
}

// ConnectRequest of an instance; nil means that it said nothing.
type ConnectRequest struct {
	AgentName, InstanceID string
	BillingMode           wire.BillingMode
	Concurrency           *int
	MaxPendingBacklog     *int
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

// controlToken returns a token for the control channel with at least half of its life left. The lock is held.
func (n *Network) controlToken(i *instance) (string, error) {
	now := n.cfg.Now()
	if i.controlToken != "" && now.Before(i.controlRenew) {
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
