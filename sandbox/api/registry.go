package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/network"
)

// maxAgents is how many agents a page of the list has at most.
const maxAgents = 100

// agentBody is an agent as the registry shows it.
type agentBody struct {
	AgentName    string           `json:"agentName"`
	Name         string           `json:"name"`
	DisplayName  string           `json:"displayName"`
	Description  string           `json:"description"`
	Listing      string           `json:"listing"`
	BillingMode  wire.BillingMode `json:"billingMode"`
	PricePerTask string           `json:"pricePerTask,omitempty"`
	OrgID        string           `json:"orgId"`
	OrgName      string           `json:"orgName"`
	OnlineCount  int              `json:"onlineCount"`
	RegisteredAt string           `json:"registeredAt"`
	Card         json.RawMessage  `json:"card,omitempty"`
}

func bodyOf(a network.AgentRecord) agentBody {
	b := agentBody{
		AgentName: a.Name, Name: a.DisplayName, DisplayName: a.DisplayName, Description: a.Description, Listing: "public", BillingMode: a.BillingMode,
		PricePerTask: a.PricePerTask, OrgID: a.OrgID, OrgName: a.OrgName, OnlineCount: a.OnlineCount,
		RegisteredAt: a.RegisteredAt.UTC().Format(time.RFC3339), Card: a.Card,
	}
	if a.Private {
		b.Listing = "private"
	}
	return b
}

// agents answers for one agent by name, or with a page of all that the caller may see.
func (s *Server) agents(w http.ResponseWriter, r *http.Request) {
	p := s.byAny(r)
	q := r.URL.Query()
	if q.Has("agentName") {
		a, err := s.network.Agent(p, q.Get("agentName"))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		answer(w, http.StatusOK, map[string]agentBody{"agent": bodyOf(a)})
		return
	}
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit <= 0 || limit > maxAgents {
		limit = maxAgents
	}
	page, next, total := s.network.Agents(p, q.Get("cursor"), limit)
	body := struct {
		Agents     []agentBody `json:"agents"`
		Next       *string     `json:"next"`
		TotalCount int         `json:"totalCount"`
	}{Agents: []agentBody{}, TotalCount: total}
	for _, a := range page {
		b := bodyOf(a)
		if q.Get("include") != "full" {
			b.Card = nil
		}
		body.Agents = append(body.Agents, b)
	}
	if next != "" {
		body.Next = &next
	}
	answer(w, http.StatusOK, body)
}
