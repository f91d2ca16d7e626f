package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
)

// Agent is an entry of the registry, Instance a program that serves one.
type (
	Agent    = backend.Agent
	Instance = backend.Instance
)

// AgentQuery selects agents, AgentList is what it found.
type (
	AgentQuery = backend.AgentQuery
	AgentList  = backend.AgentList
)

// Agent reads the registry entry of an agent. The error is a *NotFoundError for one that does not exist, or that this
// credential may not see.
func (c *Client) Agent(ctx context.Context, name string) (Agent, error) {
	a, err := c.lookUp(ctx, name)
	return a, translate(err)
}

// AgentCard returns the card that an agent is registered with. If this version cannot read the card, the error is a
// card.Problems.
func (c *Client) AgentCard(ctx context.Context, agent string) (card.Card, error) {
	a, err := c.lookUp(ctx, agent)
	if err != nil {
		return card.Card{}, translate(err)
	}
	parsed, err := card.Parse(a.Card)
	if err != nil {
		return card.Card{}, fmt.Errorf("read the card of agent %s: %w", agent, err)
	}
	return parsed, nil
}

// Agents searches the registry.
func (c *Client) Agents(ctx context.Context, q AgentQuery) (AgentList, error) {
	list, err := c.consumer.Agents(ctx, q)
	if err != nil {
		return list, fmt.Errorf("search agents: %w", translate(err))
	}
	return list, nil
}

// AgentStatus returns the instances that serve an agent now; none means that it is offline.
func (c *Client) AgentStatus(ctx context.Context, name string) ([]Instance, error) {
	list, err := c.consumer.Instances(ctx, name)
	if err != nil {
		return list, fmt.Errorf("read the status of agent %s: %w", name, translate(err))
	}
	return list, nil
}

// RemoveAgent deletes an agent of the API key's organization from the registry. It returns false if there is none. reason
// may be empty; the network has announced that it will be needed.
func (c *Client) RemoveAgent(ctx context.Context, name, reason string) (existed bool, err error) {
	fail := func(err error) (bool, error) { return false, fmt.Errorf("remove agent %s: %w", name, err) }
	trimmed := strings.TrimSpace(reason)
	switch {
	case c.APIKey == "":
		return fail(errors.New("only an API key may do this: set Options.APIKey"))
	case name == "":
		return fail(errors.New("there is no name"))
	case reason != "" && trimmed == "":
		return fail(errors.New("the reason is blank: say why, or leave it empty"))
	}
	err = c.api.UnregisterFor(ctx, c.APIKey, name, trimmed)
	if errors.Is(err, backend.ErrNotFound) {
		return false, nil
	}
	return err == nil, translate(err)
}
