package blocks

import (
	"encoding/json"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
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
