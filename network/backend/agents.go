package backend

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxAgentsPage is the largest page of the registry.
const maxAgentsPage = 100

// AgentQuery selects agents of the registry.
type AgentQuery struct {
	// Text is words, "quoted phrases", tag:x and -exclusions; "" for all.
	Text string
	// Status is online or offline, "" for both.
	Status string
	// Owned leaves out the agents of other organizations.
	Owned bool
	// Limit is how many are wanted, 0 for all.
	Limit int
}

// AgentList is what a query found.
type AgentList struct {
	Agents []Agent
	// More says that there are more than were wanted.
	More bool
	// Problem is what the registry did not understand of the text.
	Problem string
}

// Agents searches the registry, page by page. bearer may be empty: then only public agents are found.
func (c *Client) Agents(ctx context.Context, bearer string, q AgentQuery) (AgentList, error) {
	var out AgentList
	for cursor := ""; ; {
		v := url.Values{"limit": {strconv.Itoa(pageSize(q.Limit, len(out.Agents)))}, "includeTotals": {"false"}}
		set := func(name, value string) {
			if value != "" {
				v.Set(name, value)
			}
		}
		set("q", q.Text)
		set("status", q.Status)
		set("cursor", cursor)
		if bearer != "" {
			v.Set("listing", "public,private")
		}
		if q.Owned {
			v.Set("scope", "owned")
		}
		a := apiCall{op: "search the registry", method: http.MethodGet, path: "/api/v1/registry/agents?" + v.Encode(), bearer: bearer}
		body, err := c.do(ctx, a)
		if err != nil {
			return AgentList{}, err
		}
		page, err := decodeAgents(a, body)
		if err != nil {
			return AgentList{}, err
		}
		out.Agents = append(out.Agents, page.agents...)
		out.Problem = page.problem
		full := q.Limit > 0 && len(out.Agents) >= q.Limit
		if full {
			out.More = page.next != "" || len(out.Agents) > q.Limit
			out.Agents = out.Agents[:q.Limit]
		}
		if full || page.next == "" || len(page.agents) == 0 {
			return out, nil
		}
		if page.next == cursor {
			return AgentList{}, &Error{Op: a.op, Status: http.StatusOK, Message: "the answer names the same page again"}
		}
		cursor = page.next
	}
}

func pageSize(limit, have int) int {
	if limit == 0 {
		return maxAgentsPage
	}
	return min(limit-have, maxAgentsPage)
}

type agentsPage struct {
	agents        []Agent
	next, problem string
}

func decodeAgents(a apiCall, body []byte) (agentsPage, error) {
	var o struct {
		Agents           []agentEntry
		Next             json.RawMessage
		SearchParseError json.RawMessage
	}
	if err := decode(a, body, &o); err != nil {
		return agentsPage{}, err
	}
	var p agentsPage
	for _, e := range o.Agents {
		if e.AgentName != "" {
			p.agents = append(p.agents, e.agent(""))
		}
	}
	_ = json.Unmarshal(o.Next, &p.next) // what is no text is no page
	_ = json.Unmarshal(o.SearchParseError, &p.problem)
	return p, nil
}

// Instance is a program that serves an agent.
type Instance struct {
	ID, ConnectedAt                   string
	SDKLanguage, SDKVersion, DeviceOS string
}

// Instances asks who serves an agent; there may be nobody.
func (c *Client) Instances(ctx context.Context, bearer, name string) ([]Instance, error) {
	a := apiCall{
		op: "ask who serves", object: "agent " + name, method: http.MethodGet, path: "/api/v1/agent-status?agentNames=" + url.QueryEscape(name), bearer: bearer,
	}
	body, err := c.do(ctx, a)
	if err != nil {
		return nil, err
	}
	return decodeInstances(a, body, name)
}

func decodeInstances(a apiCall, body []byte, name string) ([]Instance, error) {
	var o struct {
		Agents []struct {
			AgentName string
			Instances []struct{ InstanceID, ConnectedAt, SDKLanguage, SDKVersion, DeviceOS json.RawMessage }
		}
	}
	if err := decode(a, body, &o); err != nil {
		return nil, err
	}
	var out []Instance
	for _, agent := range o.Agents {
		if agent.AgentName != name {
			continue
		}
		for _, i := range agent.Instances {
			out = append(out, Instance{anyText(i.InstanceID), anyText(i.ConnectedAt), anyText(i.SDKLanguage), anyText(i.SDKVersion), anyText(i.DeviceOS)})
		}
	}
	return out, nil
}

// anyText is a JSON text, or whatever else stands there, as text; "" for nothing.
func anyText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return strings.TrimSpace(string(raw))
}
