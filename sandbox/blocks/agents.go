package blocks

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// AgentRecord is a registered agent as others see it.
type AgentRecord struct {
	AgentSpec
	OrgName      string
	RegisteredAt time.Time
	OnlineCount  int
}

// Agent returns one agent, if p may see it.
func (n *Network) Agent(p *Principal, name string) (AgentRecord, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.registry.agents[name]
	if !a.visibleLocked(p) {
		return AgentRecord{}, noAgent(name)
	}
	return n.recordLocked(a), nil
}

func (n *Network) recordLocked(a *agent) AgentRecord {
	return AgentRecord{AgentSpec: a.Spec, OrgName: n.accounts.orgs[a.Spec.OrgID].Name, RegisteredAt: a.RegisteredAt, OnlineCount: a.ready.Len()}
}

// InstanceRecord is an instance of an agent as others see it.
type InstanceRecord struct {
	ID          string
	ConnectedAt time.Time
	Build       Build
}

// AgentStatus lists the instances of an agent.
type AgentStatus struct {
	Name      string
	Instances []InstanceRecord
}

// Status returns the instances of the named agents that are online; agents that p cannot see are left out.
func (n *Network) Status(p *Principal, names []string) []AgentStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := []AgentStatus{}
	for _, name := range names {
		a := n.registry.agents[name]
		if !a.visibleLocked(p) {
			continue
		}
		st := AgentStatus{Name: name, Instances: []InstanceRecord{}}
		for _, i := range a.ready {
			st.Instances = append(st.Instances, InstanceRecord{i.ID, i.ConnectedAt, i.Build})
		}
		slices.SortFunc(st.Instances, func(x, y InstanceRecord) int { return cmp.Compare(x.ID, y.ID) })
		out = append(out, st)
	}
	return out
}

// CardSummary is what a card says in short, for lists.
func (s AgentSpec) CardSummary() json.RawMessage {
	b, err := json.Marshal(map[string]any{"displayName": s.DisplayName, "description": s.Description, "tags": s.Tags, "taskKinds": s.Kinds})
	if err != nil {
		return nil
	}
	return b
}
