package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Registration is what the registry is to know of an agent.
type Registration struct {
	AgentName string
	Card      json.RawMessage
	// Listing is "public" or "private".
	Listing     string
	BillingMode wire.BillingMode
	// PerTask and PerMinute are decimal texts, "" for none. TermsAcceptedAt is when somebody accepted the terms of paid
	// agents. A free agent has none of these.
	PerTask, PerMinute     string
	FreeTasks, FreeMinutes int
	TermsAcceptedAt        time.Time
	// ToolVersion is the version of the program that registers it.
	ToolVersion string
}

// Body is what is sent.
func (r Registration) Body() any {
	body := struct {
		AgentName   string           `json:"agentName"`
		Card        json.RawMessage  `json:"card"`
		CLIVersion  string           `json:"cliVersion"`
		Protocols   []string         `json:"protocolVersions"`
		Preferred   string           `json:"preferredProtocolVersion"`
		Listing     string           `json:"listing"`
		BillingMode wire.BillingMode `json:"billingMode"`
		PerTask     string           `json:"pricePerTask,omitempty"`
		PerMinute   string           `json:"pricePerMinute,omitempty"`
		FreeTasks   int              `json:"freeTasksPerConsumer,omitempty"`
		FreeMinutes int              `json:"freeMinutesPerConsumer,omitempty"`
		Terms       string           `json:"tcAcceptedAt,omitempty"`
	}{
		r.AgentName, r.Card, r.ToolVersion, []string{wire.ProtocolVersion}, wire.ProtocolVersion, r.Listing, r.BillingMode,
		r.PerTask, r.PerMinute, r.FreeTasks, r.FreeMinutes, "",
	}
	if !r.TermsAcceptedAt.IsZero() {
		body.Terms = r.TermsAcceptedAt.UTC().Format(time.RFC3339)
	}
	return body
}

// Register makes an agent known to the network, or replaces what is known of it. It returns the address where people find
// it, "" if the network does not say.
func (c *Client) Register(ctx context.Context, apiKey string, r Registration) (address string, err error) {
	a := apiCall{op: "register", object: "agent " + r.AgentName, method: http.MethodPost, path: "/api/v1/registry/agents", bearer: apiKey, body: r.Body()}
	body, err := c.do(ctx, a)
	if err != nil {
		return "", err
	}
	return decodeRegistered(a, body)
}

// decodeRegistered reads an answer that must be an object and may name an address in any of four places.
func decodeRegistered(a apiCall, body []byte) (string, error) {
	type addresses struct{ AgentURL, URL json.RawMessage }
	var o struct {
		addresses
		Agent json.RawMessage
	}
	var inner addresses
	if err := decode(a, body, &o); err != nil {
		return "", err
	}
	_ = json.Unmarshal(o.Agent, &inner) // it may be anything
	for _, raw := range []json.RawMessage{o.AgentURL, o.URL, inner.AgentURL, inner.URL} {
		var text string
		if json.Unmarshal(raw, &text) == nil && text != "" {
			return text, nil
		}
	}
	return "", nil
}

// Unregister deletes an agent. A success is only what the network confirms by name. The request is sent once: after a lost
// answer the next one would be that there is no such agent.
func (c *Client) Unregister(ctx context.Context, apiKey, name string) error {
	return c.UnregisterFor(ctx, apiKey, name, "")
}

// UnregisterFor is Unregister with a reason, which the network will ask for one day; "" for none.
func (c *Client) UnregisterFor(ctx context.Context, apiKey, name, reason string) error {
	a := apiCall{
		op: "unregister", object: "agent " + name, method: http.MethodDelete, path: "/api/v1/registry/agents?agentName=" + url.QueryEscape(name),
		bearer: apiKey, once: true,
	}
	if reason != "" {
		a.body = struct {
			Reason string `json:"reason"`
		}{reason}
	}
	body, err := c.do(ctx, a)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return fmt.Errorf("unregister agent %s: %w: check its name, or use an API key that may see it", name, ErrNotFound)
	}
	if err != nil {
		return err
	}
	return decodeUnregistered(a, body, name)
}

func decodeUnregistered(a apiCall, body []byte, name string) error {
	var o struct{ AgentName, Status string }
	if err := decode(a, body, &o); err != nil {
		return err
	}
	if o.AgentName != name || o.Status != "deleted" {
		return &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the network did not confirm it: look it up to see whether it is gone"}
	}
	return nil
}

// PriceLimits bound what an agent may cost, as decimal texts in US dollars; "" is no bound.
type PriceLimits struct {
	MinPerTask, MaxPerTask, MinPerMinute, MaxPerMinute string
}

// DefaultPriceLimits stand in for those that a network does not say.
var DefaultPriceLimits = PriceLimits{"0.0001", "25.00", "0.01", "1.00"}

// PriceLimits asks for the bounds of prices; a network that does not know gives the default ones.
func (c *Client) PriceLimits(ctx context.Context) (PriceLimits, error) {
	a := apiCall{op: "ask for the limits of prices", method: http.MethodGet, path: "/api/v1/pricing/limits", plain: true, timeout: priceLimitsTimeout}
	body, err := c.do(ctx, a)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusNotFound {
		return DefaultPriceLimits, nil
	}
	if err != nil {
		return PriceLimits{}, err
	}
	var o struct{ MinPricePerTask, MaxPricePerTask, MinPricePerMinute, MaxPricePerMinute json.RawMessage }
	if err := decode(a, body, &o); err != nil {
		return PriceLimits{}, err
	}
	return PriceLimits{priceText(o.MinPricePerTask), priceText(o.MaxPricePerTask), priceText(o.MinPricePerMinute), priceText(o.MaxPricePerMinute)}, nil
}

// priceLimitsTimeout is short, because there are limits to go on with.
const priceLimitsTimeout = 5 * time.Second
