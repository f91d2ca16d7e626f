package blocks

import (
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// ConnectRequest of an instance; nil stands for a member that it left out.
type ConnectRequest struct {
	AgentName, InstanceID string
	BillingMode           wire.BillingMode
	Concurrency           *int
	MaxPendingBacklog     *int
	ExpectedInstances     *int
	MaxRunningTimeSec     *int
	// Build describes the software of the instance.
	Build Build
}

// Connection is what an instance gets.
type Connection struct {
	Credentials
	AgentName, DisplayName, AgentID, ControlChannel, PAMToken string
}

// Connect registers an instance and gives it its credentials. It may be called again for the same instance.
func (n *Network) Connect(p *Principal, req ConnectRequest) (Connection, error) {
	if req.AgentName == "" || req.InstanceID == "" {
		return Connection{}, InvalidParams("agentName and instanceId are required.")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.registry.agents[req.AgentName]
	if !a.visibleLocked(p) {
		return Connection{}, noAgent(req.AgentName)
	}
	if a.Spec.OrgID != p.OrgID {
		return Connection{}, refused(403, CodeDenied, "The agent %s belongs to another organization; only its own API keys may run it.", req.AgentName)
	}
	if a.ForcedOffline {
		return Connection{}, offline(req.AgentName)
	}
	if req.BillingMode != a.Spec.BillingMode {
		return Connection{}, &Error{
			Status: 409, Code: CodeBillingMode, RPC: RPCApplication,
			Message: "The agent " + req.AgentName + " is registered as " + string(a.Spec.BillingMode) + ", not " + string(req.BillingMode) + ".",
			Details: Mismatch{Expected: a.Spec.BillingMode, Got: req.BillingMode},
		}
	}
	if req.MaxPendingBacklog != nil && *req.MaxPendingBacklog >= 0 {
		a.Backlog = *req.MaxPendingBacklog
	}
	if req.ExpectedInstances != nil {
		a.Broadcast = *req.ExpectedInstances == 0
	}
	if req.MaxRunningTimeSec != nil && *req.MaxRunningTimeSec > 0 {
		a.MaxRunning = time.Duration(*req.MaxRunningTimeSec) * time.Second
	}
	i := a.instances[req.InstanceID]
	if i == nil {
		i = newInstance(a, instanceRecord{ID: req.InstanceID, slots: slots{Concurrency: a.Spec.Concurrency}})
		a.instances[i.ID] = i
		a.noteOfflineLocked(i)
	}
	if req.Concurrency != nil && !i.online {
		i.slots.Concurrency = max(*req.Concurrency, 0)
	}
	i.Build, i.ConnectedAt = req.Build, n.cfg.Now()
	token, err := n.controlTokenLocked(i)
	if err != nil {
		return Connection{}, err
	}
	credentials, err := n.issueLocked(refreshToken{APIKey: p.org.APIKey, Agent: a.Spec.Name, Instance: i.ID})
	if err != nil {
		return Connection{}, err
	}
	return Connection{
		Credentials: credentials, AgentName: a.Spec.Name, DisplayName: a.Spec.DisplayName, AgentID: a.ID,
		ControlChannel: a.control, PAMToken: token,
	}, nil
}
