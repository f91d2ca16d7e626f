package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

// Sizes of pages.
const (
	maxAgents      = 100
	defaultSuggest = 10
)

// agentBody is an agent as the registry shows it.
type agentBody struct {
	AgentName      string           `json:"agentName"`
	Name           string           `json:"name"`
	DisplayName    string           `json:"displayName"`
	Description    string           `json:"description"`
	Tags           []string         `json:"tags"`
	Listing        string           `json:"listing"`
	BillingMode    wire.BillingMode `json:"billingMode"`
	PricePerTask   string           `json:"pricePerTask,omitempty"`
	PricePerMinute string           `json:"pricePerMinute,omitempty"`
	FreeTasks      int              `json:"freeTasksPerConsumer,omitempty"`
	FreeMinutes    int              `json:"freeMinutesPerConsumer,omitempty"`
	OrgID          string           `json:"orgId"`
	OrgName        string           `json:"orgName"`
	OnlineCount    int              `json:"onlineCount"`
	RegisteredAt   string           `json:"registeredAt"`
	CardSummary    json.RawMessage  `json:"cardSummary,omitempty"`
	Card           json.RawMessage  `json:"card,omitempty"`
}

func bodyOf(a blocks.AgentRecord) agentBody {
	b := agentBody{
		AgentName: a.Name, Name: a.DisplayName, DisplayName: a.DisplayName, Description: a.Description, Tags: a.Tags, Listing: "public",
		BillingMode: a.BillingMode, PricePerTask: a.PerTask, PricePerMinute: a.PerMinute, FreeTasks: a.FreeTasks, FreeMinutes: a.FreeMinutes,
		OrgID: a.OrgID, OrgName: a.OrgName, OnlineCount: a.OnlineCount, RegisteredAt: a.RegisteredAt.UTC().Format(time.RFC3339),
		CardSummary: a.CardSummary(), Card: a.Card,
	}
	if a.Private {
		b.Listing = "private"
	}
	if b.Tags == nil {
		b.Tags = []string{}
	}
	return b
}

// reader returns who reads the registry: anyone, except in an enterprise.
func (s *Server) reader(r *http.Request) (*blocks.Principal, error) {
	if s.cfg.Enterprise {
		return s.identified(r)
	}
	return s.byAny(r), nil
}

// agents answers for one agent by name, or with a page of all that the caller may see.
func (s *Server) agents(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Has("agentName") {
		p, err := s.reader(r)
		var a blocks.AgentRecord
		if err == nil {
			a, err = s.blocks.Agent(p, q.Get("agentName"))
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		answer(w, http.StatusOK, map[string]agentBody{"agent": bodyOf(a)})
		return
	}
	query, err := queryOf(q.Get)
	var found blocks.Found
	if err == nil {
		// Without credentials an enterprise shows an empty page.
		found, err = s.blocks.Search(s.byAny(r), query)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	body := struct {
		Agents     []agentBody `json:"agents"`
		Next       *string     `json:"next"`
		TotalCount *int        `json:"totalCount,omitempty"`
		ParseError *string     `json:"searchParseError"`
	}{Agents: []agentBody{}}
	if q.Get("includeTotals") != "false" {
		body.TotalCount = &found.Total
	}
	for _, a := range found.Agents {
		b := bodyOf(a)
		if q.Get("include") != "full" {
			b.Card = nil
		}
		body.Agents = append(body.Agents, b)
	}
	if found.Next != "" {
		body.Next = &found.Next
	}
	if found.ParseError != "" {
		body.ParseError = &found.ParseError
	}
	answer(w, http.StatusOK, body)
}

// queryOf reads the parameters of a list.
func queryOf(get func(string) string) (blocks.Query, error) {
	q := blocks.Query{
		Text: get("q"), Tag: get("tag"), Owned: get("scope") == "owned", Cursor: get("cursor"), ByName: get("sort") == "name", Limit: maxAgents,
	}
	if text := get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return q, blocks.InvalidParams("limit must be a number from 1 to %d.", maxAgents)
		}
		q.Limit = min(n, maxAgents)
	}
	for _, l := range strings.Split(get("listing"), ",") {
		switch l {
		case "":
		case "public", "private":
			q.Listings = append(q.Listings, l)
		default:
			return q, blocks.InvalidParams("listing must be public or private, not %q.", l)
		}
	}
	switch status := get("status"); status {
	case "", "all":
	case "online", "offline":
		q.Status = status
	default:
		return q, blocks.InvalidParams("status must be online, offline or all, not %q.", status)
	}
	if sort := get("sort"); sort != "" && sort != "name" && sort != "relevance" {
		return q, blocks.InvalidParams("sort must be relevance or name, not %q.", sort)
	}
	if scope := get("scope"); scope != "" && scope != "owned" && scope != "all" {
		return q, blocks.InvalidParams("scope must be owned or all, not %q.", scope)
	}
	return q, nil
}

// suggest completes the beginning of an agent's name.
func (s *Server) suggest(w http.ResponseWriter, r *http.Request) {
	p, err := s.identified(r)
	q := r.URL.Query()
	get := func(name string) string {
		switch name {
		case "limit", "listing":
			return q.Get(name)
		}
		return ""
	}
	var query blocks.Query
	if err == nil {
		query, err = queryOf(get)
	}
	if err == nil && q.Get("field") != "agentname" {
		err = blocks.InvalidParams("field must be agentname.")
	}
	var found blocks.Found
	if err == nil {
		limit := query.Limit
		if q.Get("limit") == "" {
			limit = defaultSuggest
		}
		query.Limit = 0
		if found, err = s.blocks.Search(p, query); err == nil {
			typed := strings.ToLower(q.Get("q"))
			found.Agents = slices.DeleteFunc(found.Agents, func(a blocks.AgentRecord) bool { return !strings.HasPrefix(strings.ToLower(a.Name), typed) })
			found.Agents = found.Agents[:min(limit, len(found.Agents))]
		}
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	type suggestion struct {
		AgentName   string `json:"agentName"`
		DisplayName string `json:"displayName"`
	}
	out := []suggestion{}
	for _, a := range found.Agents {
		out = append(out, suggestion{a.Name, a.DisplayName})
	}
	answer(w, http.StatusOK, map[string]any{"agents": out})
}

// offer is how an agent is offered: the members that registering and changing have in common.
type offer struct {
	Listing     *string           `json:"listing"`
	BillingMode *wire.BillingMode `json:"billingMode"`
	PerTask     *string           `json:"pricePerTask"`
	PerMinute   *string           `json:"pricePerMinute"`
	FreeTasks   *int              `json:"freeTasksPerConsumer"`
	FreeMinutes *int              `json:"freeMinutesPerConsumer"`
	Terms       *string           `json:"tcAcceptedAt"`
}

func (o offer) private() (*bool, error) {
	if o.Listing == nil {
		return nil, nil
	}
	if *o.Listing != "public" && *o.Listing != "private" {
		return nil, blocks.InvalidParams("listing must be public or private, not %q.", *o.Listing)
	}
	private := *o.Listing == "private"
	return &private, nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// publish registers an agent, or replaces what is known of it.
func (s *Server) publish(w http.ResponseWriter, r *http.Request) {
	var req struct {
		AgentName string          `json:"agentName"`
		Card      json.RawMessage `json:"card"`
		Protocols []string        `json:"protocolVersions"`
		offer
	}
	p, err := s.identified(r)
	if err == nil {
		err = read(r, &req)
	}
	var spec blocks.AgentSpec
	if err == nil {
		spec, err = specOf(req.AgentName, req.Card, req.Protocols, req.offer)
	}
	var a blocks.AgentRecord
	if err == nil {
		a, err = s.blocks.Publish(p, spec)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"agentName": a.Name, "status": "registered", "agentUrl": "http://" + s.origin + "/agents/" + a.Name, "agent": bodyOf(a),
	})
}

func specOf(name string, doc json.RawMessage, protocols []string, o offer) (blocks.AgentSpec, error) {
	if name == "" || len(doc) == 0 {
		return blocks.AgentSpec{}, blocks.InvalidParams("agentName and card are required.")
	}
	if len(protocols) > 0 && !slices.Contains(protocols, wire.ProtocolVersion) {
		return blocks.AgentSpec{}, blocks.InvalidParams("protocolVersions must contain %s.", wire.ProtocolVersion)
	}
	c, err := card.Parse(doc)
	if err != nil {
		return blocks.AgentSpec{}, blocks.InvalidParams("The card is not valid: %v.", err)
	}
	if c.AgentName != name {
		return blocks.AgentSpec{}, blocks.InvalidParams("The card is for the agent %s, not for %s.", c.AgentName, name)
	}
	private, err := o.private()
	if err != nil {
		return blocks.AgentSpec{}, err
	}
	if private == nil || o.BillingMode == nil {
		return blocks.AgentSpec{}, blocks.InvalidParams("listing and billingMode are required.")
	}
	spec := blocks.SpecOf(c)
	spec.Private, spec.BillingMode = *private, *o.BillingMode
	spec.Prices = blocks.Prices{
		PerTask: value(o.PerTask), PerMinute: value(o.PerMinute), FreeTasks: value(o.FreeTasks), FreeMinutes: value(o.FreeMinutes),
		TermsAccepted: value(o.Terms),
	}
	return spec, nil
}

// change alters how an agent is offered, without its card.
func (s *Server) change(w http.ResponseWriter, r *http.Request) {
	var req offer
	p, err := s.identified(r)
	if err == nil {
		err = read(r, &req)
	}
	var private *bool
	if err == nil {
		private, err = req.private()
	}
	if err == nil && req.BillingMode != nil && !req.BillingMode.Valid() {
		err = blocks.InvalidParams("billingMode must be free or paid, not %q.", *req.BillingMode)
	}
	var a blocks.AgentRecord
	if err == nil {
		a, err = s.blocks.Change(p, r.URL.Query().Get("agentName"), blocks.Change{
			Private: private, BillingMode: req.BillingMode, PerTask: req.PerTask, PerMinute: req.PerMinute, FreeTasks: req.FreeTasks,
			FreeMinutes: req.FreeMinutes, Terms: req.Terms,
		})
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]agentBody{"agent": bodyOf(a)})
}

// remove deletes an agent. A reason in the body may be given and is not needed yet.
func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Reason string `json:"reason"`
	}
	p, err := s.identified(r)
	if err == nil {
		err = read(r, &req)
	}
	name := r.URL.Query().Get("agentName")
	if err == nil {
		err = s.blocks.Delete(p, name)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]any{"agentName": name, "status": "deleted", "ts": s.now().UnixMilli()})
}

// agentStatus answers who runs the named agents. The counts of tasks are reserved, as in the live network.
func (s *Server) agentStatus(w http.ResponseWriter, r *http.Request) {
	p, err := s.reader(r)
	if err == nil && r.URL.Query().Get("agentNames") == "" {
		err = blocks.InvalidParams("agentNames is required.")
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	type instance struct {
		InstanceID        string   `json:"instanceId"`
		ConnectedAt       string   `json:"connectedAt"`
		SDKLanguage       string   `json:"sdkLanguage,omitempty"`
		SDKVersion        string   `json:"sdkVersion,omitempty"`
		CLIVersion        string   `json:"cliVersion,omitempty"`
		DeviceOS          string   `json:"deviceOs,omitempty"`
		PreferredProtocol string   `json:"preferredProtocolVersion,omitempty"`
		Protocols         []string `json:"protocolVersions,omitempty"`
		ActiveTasks       int      `json:"activeTasks"`
		Concurrent        int      `json:"concurrentTasksPerInstance"`
	}
	type status struct {
		AgentName   string     `json:"agentName"`
		OnlineCount int        `json:"onlineCount"`
		Total       int        `json:"totalActiveTasks"`
		Instances   []instance `json:"instances"`
	}
	out := []status{}
	for _, st := range s.blocks.Status(p, strings.Split(r.URL.Query().Get("agentNames"), ",")) {
		body := status{AgentName: st.Name, OnlineCount: len(st.Instances), Instances: []instance{}}
		for _, i := range st.Instances {
			b := i.Build
			body.Instances = append(body.Instances, instance{
				i.ID, timeText(i.ConnectedAt), b.SDKLanguage, b.SDKVersion, b.CLIVersion, b.DeviceOS, b.PreferredProtocol, b.Protocols, 0, 0,
			})
		}
		out = append(out, body)
	}
	answer(w, http.StatusOK, map[string]any{"agents": out})
}

// agentPage is where tools send people to look at an agent.
func (s *Server) agentPage(w http.ResponseWriter, r *http.Request) {
	a, err := s.blocks.Agent(s.byAny(r), r.PathValue("name"))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, map[string]agentBody{"agent": bodyOf(a)})
}
