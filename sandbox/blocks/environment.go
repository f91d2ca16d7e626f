package blocks

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// SwitchEnvironment moves an agent to the other environment while it runs: its instances are asked to connect there.
// What they run is finished where it began; what waits fails.
func (n *Network) SwitchEnvironment(name string, mode wire.BillingMode) error {
	if !mode.Valid() {
		return InvalidParams("The billing mode must be free or paid, not %q.", mode)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.registry.agents[name]
	if a == nil {
		return noAgent(name)
	}
	if a.env == n.envs[mode] {
		return nil
	}
	n.failWaitingLocked(a, "the agent moved to another environment of the network")
	from := a.env
	a.env, a.Spec.BillingMode = n.envs[mode], mode
	n.touch()
	for _, i := range a.instances {
		i.controlToken = ""
		if !i.online {
			continue
		}
		token, err := n.controlTokenLocked(i)
		if err != nil {
			return fmt.Errorf("switch environment of agent %s: %w", name, err)
		}
		b := pubsub.AppendString([]byte(`{"type":"`+string(wire.TypeSwitchEnvironment)+`","environment":`), environmentNames[mode])
		b = pubsub.AppendString(append(b, `,"pamToken":`...), token)
		b = append(b, `,"protocolVersion":"`+wire.ProtocolVersion+`"}`...)
		meta := instanceMeta(i.ID)
		n.loop.pushLocked(func() {
			from.Space.Publish(pubsub.Publication{Channel: a.control, Publisher: backendUUID, Meta: meta, Body: b})
		})
		// It has not connected there yet. It has got its tasks, or gets them before this message.
		i.online, i.polled, i.lostAt = false, false, n.cfg.Now()
		a.noteOfflineLocked(i)
		if len(i.tasks) > 0 {
			n.loop.atLocked(i.lostAt.Add(n.cfg.SafetyNet), func() { n.failLostLocked(i) })
		}
		n.updateReadyLocked(i)
	}
	return nil
}

// environmentNames are what the environments are called in control messages.
var environmentNames = map[wire.BillingMode]string{wire.Free: "playground", wire.Paid: "network"}

// Register creates an agent, or replaces what is known of it; its instances and tasks stay.
func (n *Network) Register(spec AgentSpec) error {
	if err := wire.CheckAgentName(spec.Name); err != nil {
		return InvalidParams("%v", err)
	}
	if n.accounts.orgs[spec.OrgID] == nil {
		return InvalidParams("The organization %q is unknown.", spec.OrgID)
	}
	if !spec.BillingMode.Valid() {
		return InvalidParams("The billing mode must be free or paid, not %q.", spec.BillingMode)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.registerLocked(spec)
}

// registerLocked is Register for checked specs.
func (n *Network) registerLocked(spec AgentSpec) error {
	a := n.registry.agents[spec.Name]
	if a == nil {
		a = newAgent(agentRecord{Spec: spec, ID: "ag_" + strings.ToLower(rand.Text()), RegisteredAt: n.cfg.Now()})
		n.registry.addLocked(a)
	} else if a.Spec.OrgID != spec.OrgID {
		return refused(403, CodeDenied, "The agent name %s belongs to another organization.", spec.Name)
	}
	if a.env != nil && a.env != n.envs[spec.BillingMode] {
		// Its instances are in the other environment and have to connect again. What they run stays where it is; the
		// instances would not see what waits.
		n.failWaitingLocked(a, "the agent moved to another environment of the network")
		for id, i := range a.instances {
			i.controlToken = "" // is one of the old environment
			if i.online {
				n.lostLocked(i)
			}
			if len(i.tasks) == 0 {
				delete(a.instances, id)
			}
		}
	}
	a.Spec, a.env = spec, n.envs[spec.BillingMode]
	a.Backlog = n.cfg.DefaultBacklog
	if spec.MaxPendingBacklog != nil {
		a.Backlog = *spec.MaxPendingBacklog
	}
	a.Broadcast, a.MaxRunning = spec.Broadcast, spec.MaxRunning
	n.touch()
	return nil
}

// ForceOffline takes an agent out of service, as an administrator can: its work fails, new work and new connections are
// refused. Or it brings it back.
func (n *Network) ForceOffline(name string, on bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.registry.agents[name]
	if a == nil {
		return noAgent(name)
	}
	a.ForcedOffline = on
	if on {
		n.failAllLocked(a, "the agent has been taken offline")
	}
	n.touch()
	for _, i := range a.instances {
		n.updateReadyLocked(i)
	}
	return nil
}

// Environment is one of two, which share only the names of agents.
type Environment struct {
	Keys   wire.Keyset
	Space  *pubsub.Space
	Access *access.Manager
}
