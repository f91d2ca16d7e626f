package blocks

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

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
		name  string
		score int
	}
	var after *hit
	if q.Cursor != "" {
		score, name, ok := strings.Cut(q.Cursor, ":")
		v, err := strconv.Atoi(score)
		if !ok || err != nil {
			return Found{}, InvalidParams("The cursor is invalid.")
		}
		after = &hit{name: name, score: v}
	}
	order := func(x, y hit) int {
		return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.name, y.name))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []hit
	for _, a := range n.registry.agents {
		score, ok := text.scoreLocked(a)
		switch {
		case !ok || !a.visibleLocked(p),
			n.cfg.Enterprise && p == nil,
			q.Tag != "" && !a.tagged(q.Tag),
			len(q.Listings) > 0 && !slices.Contains(q.Listings, a.listing()),
			q.Status == "online" && a.ready.Len() == 0, q.Status == "offline" && a.ready.Len() > 0,
			q.Owned && !p.OwnOrganization(a.Spec.OrgID):
			continue
		}
		if q.ByName {
			score = 0
		}
		all = append(all, hit{a, a.Spec.Name, score})
	}
	slices.SortFunc(all, order)
	out := Found{Total: len(all), ParseError: problem}
	for i, h := range all {
		if after != nil && order(h, *after) <= 0 {
			continue
		}
		if q.Limit > 0 && len(out.Agents) == q.Limit {
			last := all[i-1]
			out.Next = strconv.Itoa(last.score) + ":" + last.name
			break
		}
		out.Agents = append(out.Agents, n.recordLocked(h.a))
	}
	return out, nil
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

// scoreLocked says how well an agent matches, and whether it does.
func (ts terms) scoreLocked(a *agent) (score int, ok bool) {
	name, shown := strings.ToLower(a.Spec.Name), strings.ToLower(a.Spec.DisplayName)
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
		case strings.Contains(strings.ToLower(a.Spec.Description), t.text):
			s = 1
		}
		if (s > 0) == t.exclude {
			return 0, false
		}
		score += s
	}
	return score, true
}

func (a *agent) tagged(tag string) bool {
	return slices.ContainsFunc(a.Spec.Tags, func(t string) bool { return strings.EqualFold(t, tag) })
}

func (a *agent) listing() string {
	if a.Spec.Private {
		return "private"
	}
	return "public"
}
