package backend

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/blocksd/blocksd/network/wire"
)

// Agent is an entry of the registry.
type Agent struct {
	Name, DisplayName, Description string
	// Listing is "public" or "private".
	Listing     string
	BillingMode wire.BillingMode
	// Card as registered, nil if the entry has none.
	Card json.RawMessage
}

// Agent reads one entry with any credential that may see it: an API key, a consumer's token or none. The error is
// ErrNotFound (errors.Is) for an agent that does not exist or that this credential may not see.
func (c *Client) Agent(ctx context.Context, bearer, name string) (Agent, error) {
	a := apiCall{
		op: "look up", object: "agent " + name, method: http.MethodGet,
		path: "/api/v1/registry/agents?agentName=" + url.QueryEscape(name), bearer: bearer,
	}
	notFound := fmt.Errorf("look up agent %s: %w: register it, or use an API key that may see it", name, ErrNotFound)
	body, err := c.do(ctx, a)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return Agent{}, notFound
	}
	if err != nil {
		return Agent{}, err
	}
	agent, found, err := decodeAgent(a, body, name)
	if err == nil && !found {
		err = notFound
	}
	return agent, err
}

// decodeAgent reads {"agent":{…}}. found is false where the entry is missing or empty.
func decodeAgent(a apiCall, body []byte, name string) (agent Agent, found bool, err error) {
	var o struct {
		Agent struct {
			AgentName, Name, Description, Listing string
			BillingMode                           wire.BillingMode
			Card                                  json.RawMessage
		}
	}
	var present struct{ Agent map[string]json.RawMessage }
	if err := decode(a, body, &present); err != nil {
		return Agent{}, false, err
	}
	if len(present.Agent) == 0 {
		return Agent{}, false, nil
	}
	if err := decode(a, body, &o); err != nil {
		return Agent{}, false, err
	}
	agent = Agent{
		Name: o.Agent.AgentName, DisplayName: o.Agent.Name, Description: o.Agent.Description,
		Listing: o.Agent.Listing, BillingMode: o.Agent.BillingMode, Card: o.Agent.Card,
	}
	if agent.Name == "" {
		agent.Name = name
	}
	if agent.DisplayName == "" {
		agent.DisplayName = agent.Name
	}
	if bytes.Equal(agent.Card, []byte("null")) {
		agent.Card = nil
	}
	return agent, true, nil
}
