package blocks

import (
	"cmp"
	"encoding/json"
	"math/big"
	"slices"
	"strconv"
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
	a := n.agents[spec.Name]
	switch {
	case p.IsAgent():
		return AgentRecord{}, refused(403, CodeDenied, "An agent's own credentials cannot register it: use an API key.")
	case a != nil && a.spec.OrgID != p.OrgID:
		return AgentRecord{}, refused(403, CodeDenied, "The agent name %s belongs to another organization.", spec.Name)
	case a != nil && a.spec.BillingMode == wire.Paid && spec.BillingMode == wire.Free:
		return AgentRecord{}, refused(409, CodeBillingInvalid, "The paid agent %s cannot become free: delete it first.", spec.Name)
	}
	spec.OrgID = p.OrgID
	if err := n.register(spec); err != nil {
		return AgentRecord{}, err
	}
	return n.record(n.agents[spec.Name]), nil
}

// checkPrices checks what an agent costs.
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

// owned returns an agent of p's own organization. The lock is held.
func (n *Network) owned(p *Principal, name, what string) (*agent, error) {
	a := n.agents[name]
	switch {
	case !a.visible(p):
		return nil, noAgent(name)
	case p == nil:
		return nil, Unauthorized("Only the owner of an agent may " + what + ".")
	case p.IsAgent():
		return nil, refused(403, CodeDenied, "An agent's own credentials may not %s: use an API key.", what)
	case a.spec.OrgID != p.OrgID:
		return nil, refused(403, CodeDenied, "The agent %s belongs to another organization.", name)
	}
	return a, nil
}

// Change alters how an agent is offered.
func (n *Network) Change(p *Principal, name string, c Change) (AgentRecord, error) {
	n.mu.Lock()
	a, err := n.owned(p, name, "change it")
	if err != nil {
		n.mu.Unlock()
		return AgentRecord{}, err
	}
	spec := a.spec
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

// Delete removes an agent. Its open tasks fail and its instances are on their own.
func (n *Network) Delete(p *Principal, name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := n.owned(p, name, "delete it")
	if err != nil {
		return err
	}
	n.fail(a, "the agent was deleted")
	for _, i := range a.instances {
		i.online, i.polled = false, false
		n.changed(i)
	}
	delete(n.agents, name)
	delete(n.byControl, a.control)
	for id, r := range n.refresh {
		if r.agent == name {
			delete(n.refresh, id)
		}
	}
	for id, v := range n.invites {
		if v.agent == a {
			delete(n.invites, id)
		}
	}
	n.touch()
	return nil
}

// Query selects agents; its zero value selects all that are visible.
type Query struct {
	Text string
	// Tag and the listings that are wanted, none for all.
	Tag      string
	Listings []string
	// Status is online, offline, or "" for both.
	Status string
	// Owned leaves out the agents of others.
	Owned bool
	// ByName orders by name even where Text would order by relevance.
	ByName bool
	Cursor string
	Limit  int
}

// Found is a page of agents.
type Found struct {
	Agents []AgentRecord
	Next   string
	Total  int
	// ParseError says what is wrong with the text of a query that was searched for as it stands.
	ParseError string
}

// Search returns the agents that p may see and that match, page by page.
func (n *Network) Search(p *Principal, q Query) (Found, error) {
	text, problem := parseText(q.Text)
	type hit struct {
		a     *agent
		score int
	}
	var after *hit
	if q.Cursor != "" {
		score, name, ok := strings.Cut(q.Cursor, ":")
		v, err := strconv.Atoi(score)
		if !ok || err != nil {
			return Found{}, InvalidParams("The cursor is none of ours.")
		}
		after = &hit{&agent{spec: AgentSpec{Name: name}}, v}
	}
	order := func(x, y hit) int {
		return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.a.spec.Name, y.a.spec.Name))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []hit
	for _, a := range n.agents {
		score, ok := text.score(a)
		switch {
		case !ok || !a.visible(p),
			n.cfg.Enterprise && p == nil,
			q.Tag != "" && !a.tagged(q.Tag),
			len(q.Listings) > 0 && !slices.Contains(q.Listings, a.listing()),
			q.Status == "online" && a.ready.Len() == 0, q.Status == "offline" && a.ready.Len() > 0,
			q.Owned && !p.OwnOrganization(a.spec.OrgID):
			continue
		}
		if q.ByName {
			score = 0
		}
		all = append(all, hit{a, score})
	}
	slices.SortFunc(all, order)
	out := Found{Total: len(all), ParseError: problem}
	for i, h := range all {
		if after != nil && order(h, *after) <= 0 {
			continue
		}
		if q.Limit > 0 && len(out.Agents) == q.Limit {
			last := all[i-1]
			out.Next = strconv.Itoa(last.score) + ":" + last.a.spec.Name
			break
		}
		out.Agents = append(out.Agents, n.record(h.a))
	}
	return out, nil
}

func (a *agent) tagged(tag string) bool {
	return slices.ContainsFunc(a.spec.Tags, func(t string) bool { return strings.EqualFold(t, tag) })
}

func (a *agent) listing() string {
	if a.spec.Private {
		return "private"
	}
	return "public"
}

// term is one element of a query's text.
type term struct {
	text    string // lower case
	tag     bool
	exclude bool
}

type terms []term

// parseText reads words, "quoted phrases", tag:x and -exclusions.
func parseText(q string) (out terms, problem string) {
	rest := strings.ToLower(strings.TrimSpace(q))
	for rest != "" {
		var t term
		if strings.HasPrefix(rest, "-") && len(rest) > 1 {
			t.exclude, rest = true, rest[1:]
		}
		if after, ok := strings.CutPrefix(rest, "tag:"); ok {
			t.tag, rest = true, after
		}
		if after, ok := strings.CutPrefix(rest, `"`); ok {
			var closed bool
			if t.text, rest, closed = strings.Cut(after, `"`); !closed {
				problem = "A quotation mark is not closed."
			}
		} else {
			t.text, rest, _ = strings.Cut(rest, " ")
		}
		rest = strings.TrimLeft(rest, " ")
		if t.text != "" {
			out = append(out, t)
		}
	}
	return out, problem
}

// score says how well an agent matches, and whether it does. The lock of the network is held.
func (ts terms) score(a *agent) (score int, ok bool) {
	name, shown := strings.ToLower(a.spec.Name), strings.ToLower(a.spec.DisplayName)
	for _, t := range ts {
		s := 0
		switch {
		case t.tag:
			if a.tagged(t.text) {
				s = 1
			}
		case name == t.text:
			s = 8
		case strings.HasPrefix(name, t.text):
			s = 6
		case strings.Contains(name, t.text):
			s = 4
		case strings.Contains(shown, t.text):
			s = 3
		case a.tagged(t.text):
			s = 2
		case strings.Contains(strings.ToLower(a.spec.Description), t.text):
			s = 1
		}
		if (s > 0) == t.exclude {
			return 0, false
		}
		score += s
	}
	return score, true
}

// InstanceRecord is an instance of an agent as others see it.
type InstanceRecord struct {
	ID          string
	ConnectedAt time.Time
	Build       Build
}

// AgentStatus is who runs an agent.
type AgentStatus struct {
	Name      string
	Instances []InstanceRecord
}

// Status returns the instances of the named agents that are online; agents that p cannot see are left out.
func (n *Network) Status(p *Principal, names []string) []AgentStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := []AgentStatus{}
	for _, name := range names {
		a := n.agents[name]
		if !a.visible(p) {
			continue
		}
		st := AgentStatus{Name: name, Instances: []InstanceRecord{}}
		for _, i := range a.ready {
			st.Instances = append(st.Instances, InstanceRecord{i.id, i.connectedAt, i.build})
		}
		slices.SortFunc(st.Instances, func(x, y InstanceRecord) int { return cmp.Compare(x.ID, y.ID) })
		out = append(out, st)
	}
	return out
}

// CardSummary is what a card says in short, for lists.
func (s AgentSpec) CardSummary() json.RawMessage {
	b, err := json.Marshal(map[string]any{"displayName": s.DisplayName, "description": s.Description, "tags": s.Tags, "taskKinds": s.Kinds})
	if err != nil {
		return nil
	}
	return b
}
