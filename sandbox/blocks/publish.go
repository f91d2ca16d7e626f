package blocks

import (
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Limits of prices, in US dollars, and of what is free for each consumer.
const (
	MinPricePerTask, MaxPricePerTask     = "0.0001", "25.00"
	MinPricePerMinute, MaxPricePerMinute = "0.01", "1.00"
	MaxFreeTasks, MaxFreeMinutes         = 100, 30
)

// Publish creates an agent or replaces it, on behalf of p.
func (n *Network) Publish(p *Principal, spec AgentSpec) (AgentRecord, error) {
	if err := wire.CheckAgentName(spec.Name); err != nil {
		return AgentRecord{}, InvalidParams("%v", err)
	}
	if !spec.BillingMode.Valid() {
		return AgentRecord{}, InvalidParams("billingMode must be free or paid, not %q.", spec.BillingMode)
	}
	if err := n.checkPrices(spec); err != nil {
		return AgentRecord{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.registry.agents[spec.Name]
	switch {
	case p.IsAgent():
		return AgentRecord{}, refused(403, CodeDenied, "An agent's own credentials cannot register it: use an API key.")
	case a != nil && a.Spec.OrgID != p.OrgID:
		return AgentRecord{}, refused(403, CodeDenied, "The agent name %s belongs to another organization.", spec.Name)
	case a != nil && a.Spec.BillingMode == wire.Paid && spec.BillingMode == wire.Free:
		return AgentRecord{}, refused(409, CodeBillingInvalid, "The paid agent %s cannot become free: delete it first.", spec.Name)
	}
	spec.OrgID = p.OrgID
	if err := n.registerLocked(spec); err != nil {
		return AgentRecord{}, err
	}
	return n.recordLocked(n.registry.agents[spec.Name]), nil
}

// checkPrices checks the prices of an agent.
func (n *Network) checkPrices(spec AgentSpec) error {
	perTask, err := price("pricePerTask", spec.PerTask, MinPricePerTask, MaxPricePerTask, spec.BillingMode)
	if err != nil {
		return err
	}
	perMinute, err := price("pricePerMinute", spec.PerMinute, MinPricePerMinute, MaxPricePerMinute, spec.BillingMode)
	if err != nil {
		return err
	}
	kind := func(k wire.TaskKind) bool { return len(spec.Kinds) == 0 || slices.Contains(spec.Kinds, k) }
	switch {
	case spec.BillingMode == wire.Free:
		return nil
	case n.cfg.Enterprise:
		return InvalidParams("This deployment has no marketplace: only free agents can be registered.")
	case !(perTask && kind(wire.Request)) && !(perMinute && kind(wire.Pipe)):
		return InvalidParams("A paid agent needs a price for a kind of task that it takes.")
	case spec.FreeTasks < 0 || spec.FreeTasks > MaxFreeTasks:
		return InvalidParams("freeTasksPerConsumer must be between 0 and %d.", MaxFreeTasks)
	case spec.FreeMinutes < 0 || spec.FreeMinutes > MaxFreeMinutes:
		return InvalidParams("freeMinutesPerConsumer must be between 0 and %d.", MaxFreeMinutes)
	}
	if _, err := time.Parse(time.RFC3339, spec.TermsAccepted); err != nil {
		return InvalidParams("tcAcceptedAt must say when the terms for paid agents were accepted.")
	}
	return nil
}

// price checks one price; positive is false for none.
func price(name, text, low, high string, mode wire.BillingMode) (positive bool, err error) {
	if text == "" {
		return false, nil
	}
	v, ok := new(big.Rat).SetString(text)
	if !ok || len(text) > 32 || strings.ContainsAny(text, "/eEpPxX_") || v.Sign() < 0 {
		return false, InvalidParams("%s must be a decimal number, not %q.", name, text)
	}
	if v.Sign() == 0 {
		return false, nil
	}
	if mode == wire.Free {
		return false, InvalidParams("A free agent has no %s.", name)
	}
	least, _ := new(big.Rat).SetString(low)
	most, _ := new(big.Rat).SetString(high)
	if v.Cmp(least) < 0 || v.Cmp(most) > 0 {
		return false, InvalidParams("%s must be between %s and %s, not %s.", name, low, high, text)
	}
	return true, nil
}

// Change of a registered agent; nil leaves a member as it is.
type Change struct {
	Private     *bool
	BillingMode *wire.BillingMode
	PerTask     *string
	PerMinute   *string
	FreeTasks   *int
	FreeMinutes *int
	Terms       *string
}

// Change alters how an agent is offered.
func (n *Network) Change(p *Principal, name string, c Change) (AgentRecord, error) {
	n.mu.Lock()
	a, err := n.registry.ownedLocked(p, name, "change it")
	if err != nil {
		n.mu.Unlock()
		return AgentRecord{}, err
	}
	spec := a.Spec
	n.mu.Unlock()
	set(&spec.Private, c.Private)
	set(&spec.BillingMode, c.BillingMode)
	set(&spec.PerTask, c.PerTask)
	set(&spec.PerMinute, c.PerMinute)
	set(&spec.FreeTasks, c.FreeTasks)
	set(&spec.FreeMinutes, c.FreeMinutes)
	set(&spec.TermsAccepted, c.Terms)
	return n.Publish(p, spec)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// Delete removes an agent. Its open tasks fail; its instances get no more tasks.
func (n *Network) Delete(p *Principal, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := n.registry.ownedLocked(p, name, "delete it")
	if err != nil {
		return err
	}
	n.failAllLocked(a, "the agent was deleted")
	for _, i := range a.instances {
		i.online, i.polled = false, false
		n.updateReadyLocked(i)
	}
	n.registry.removeLocked(a)
	for id, r := range n.tokens.refresh {
		if r.Agent == name {
			delete(n.tokens.refresh, id)
		}
	}
	n.touch()
	return nil
}
