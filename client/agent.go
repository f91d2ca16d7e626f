package client

import (
	"context"
	"fmt"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
)

// Agent is an entry of the registry.
type Agent = backend.Agent

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
