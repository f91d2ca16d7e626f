package backend

import (
	"bytes"
	"cmp"
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

	// OrgID and OrgName are the organization that owns it, Online how many instances take tasks. Some answers lack them.
	OrgID, OrgName string
	Online         int
	Tags           []string
	// PerTask and PerMinute are decimal texts, "" for no price; FreeTasks and FreeMinutes are what is free for each consumer.
	PerTask, PerMinute     string
	FreeTasks, FreeMinutes int
	RegisteredAt           string
}

// Agent reads one entry with any credential that may see it: an API key, a consumer's token or none. The error is
// ErrNotFound (errors.Is) for an agent that does not exist or that this credential may not see.
func (c *Client) Agent(ctx context.Context, bearer, name string) (Agent, error) {
	a := apiCall{
		op: "look up", object: "agent " + name, method: http.MethodGet,
		path: "/api/v1/registry/agents?agentName=" + url.QueryEscape(name), bearer: bearer,
	}
	notFound := fmt.Errorf("look up agent %s: %w: check its name, register it, or use an API key that may see it", name, ErrNotFound)
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
	var o struct{ Agent agentEntry }
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
	return o.Agent.agent(name), true, nil
}

// agentEntry is an agent as the registry writes it. A price may be text or a number.
type agentEntry struct {
	AgentName, Name, DisplayName, Description, Listing, OrgID, OrgName, RegisteredAt string
	BillingMode                                                                      wire.BillingMode
	Card, Tags, PricePerTask, PricePerMinute                                         json.RawMessage
	OnlineCount, FreeTasksPerConsumer, FreeMinutesPerConsumer                        float64
}

// agent returns the entry in our form; name stands in where it names none.
func (e agentEntry) agent(name string) Agent {
	a := Agent{
		Name: cmp.Or(e.AgentName, name), Description: e.Description, Listing: e.Listing, BillingMode: e.BillingMode, Card: e.Card,
		OrgID: e.OrgID, OrgName: e.OrgName, Online: count(e.OnlineCount), PerTask: priceText(e.PricePerTask), PerMinute: priceText(e.PricePerMinute),
		FreeTasks: count(e.FreeTasksPerConsumer), FreeMinutes: count(e.FreeMinutesPerConsumer), RegisteredAt: e.RegisteredAt,
	}
	a.DisplayName = cmp.Or(e.Name, e.DisplayName, a.Name)
	if bytes.Equal(a.Card, []byte("null")) {
		a.Card = nil
	}
	_ = json.Unmarshal(e.Tags, &a.Tags) // older entries hold something else
	return a
}

// count is a number of things that a network may write in any way.
func count(v float64) int {
	if v > 0 && v < 1<<31 {
		return int(v)
	}
	return 0
}

func priceText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String()
	}
	return ""
}
