package blocks

import (
	"cmp"
	"crypto/rand"
	"slices"
	"strings"
	"time"
)

// inviteLife is how long an invitation can be accepted.
const inviteLife = 7 * 24 * time.Hour

// maxInvites bounds the open invitations of a network.
const maxInvites = 10_000

// grant lets a user or an organization use a private agent.
type grant struct {
	id      string
	created time.Time
	org     *Organization
	user    bool // its user alone; as each organization has one, that is a matter of how it is shown
}

func (a *agent) granted(p *Principal) bool {
	for _, g := range a.grants {
		if g.org.ID == p.OrgID {
			return true
		}
	}
	return false
}

type invitation struct {
	id, token, email, slug string
	agent                  *agent
	created, expires       time.Time
}

// Invitation is an open invitation to a private agent.
type Invitation struct {
	ID, Email, OrgSlug string
	// Token is what accepts it, only set in the answer to its creation.
	Token            string
	Created, Expires time.Time
}

// GrantRecord says who may use a private agent; User means the user of the organization alone.
type GrantRecord struct {
	ID      string
	Created time.Time
	User    bool
	Org     Organization
}

// Invite offers the use of an agent to the user of an email address or to an organization.
func (n *Network) Invite(p *Principal, agentName, email, slug string) (Invitation, error) {
	if (email == "") == (slug == "") {
		return Invitation{}, InvalidParams("An invitation needs either an email or a targetOrgSlug.")
	}
	if email != "" && !strings.Contains(email, "@") {
		return Invitation{}, InvalidParams("%q is no email address.", email)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := n.owned(p, agentName, "invite others")
	if err != nil {
		return Invitation{}, err
	}
	if len(n.invites) >= maxInvites {
		return Invitation{}, refused(429, CodeTooMany, "There are %d open invitations, as many as the sandbox keeps.", len(n.invites))
	}
	if slug != "" && !n.hasSlug(slug) {
		return Invitation{}, refused(404, CodeNoOrg, "There is no organization %s.", slug)
	}
	now := n.cfg.Now()
	v := &invitation{
		id: "inv_" + strings.ToLower(rand.Text()), token: "it_" + rand.Text(), email: email, slug: slug, agent: a, created: now, expires: now.Add(inviteLife),
	}
	n.invites[v.token] = v
	n.touch()
	out := v.public()
	out.Token = v.token
	return out, nil
}

// hasSlug says whether an organization goes by that name. The lock is held.
func (n *Network) hasSlug(slug string) bool {
	for _, o := range n.orgs {
		if o.Slug == slug {
			return true
		}
	}
	return false
}

func (v *invitation) public() Invitation {
	return Invitation{ID: v.id, Email: v.email, OrgSlug: v.slug, Created: v.created, Expires: v.expires}
}

// Invitations lists the open invitations to an agent, oldest first.
func (n *Network) Invitations(p *Principal, agentName string) ([]Invitation, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := n.owned(p, agentName, "see its invitations")
	if err != nil {
		return nil, err
	}
	out := []Invitation{}
	for token, v := range n.invites {
		switch {
		case !n.cfg.Now().Before(v.expires):
			delete(n.invites, token)
		case v.agent == a:
			out = append(out, v.public())
		}
	}
	slices.SortFunc(out, func(x, y Invitation) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return out, nil
}

// Accept takes up an invitation and returns the name of the agent.
func (n *Network) Accept(p *Principal, token string) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.invites[token]
	switch {
	case v == nil || !n.cfg.Now().Before(v.expires):
		return "", refused(404, CodeNoInvitation, "The invitation is unknown, used or expired.")
	case p.IsAgent(), v.email != "" && !strings.EqualFold(v.email, p.org.Email), v.slug != "" && v.slug != p.org.Slug:
		return "", refused(403, CodeDenied, "The invitation is for somebody else.")
	}
	delete(n.invites, token)
	if !v.agent.granted(p) && v.agent.spec.OrgID != p.OrgID {
		g := &grant{id: "grant_" + strings.ToLower(rand.Text()), created: n.cfg.Now(), org: p.org, user: v.email != ""}
		v.agent.grants[g.id] = g
	}
	n.touch()
	return v.agent.spec.Name, nil
}

// Grants lists who may use a private agent, oldest first.
func (n *Network) Grants(p *Principal, agentName string) ([]GrantRecord, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := n.owned(p, agentName, "see who may use it")
	if err != nil {
		return nil, err
	}
	out := []GrantRecord{}
	for _, g := range a.grants {
		out = append(out, GrantRecord{g.id, g.created, g.user, *g.org})
	}
	slices.SortFunc(out, func(x, y GrantRecord) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return out, nil
}

// RevokeGrant takes the use of a private agent away again.
func (n *Network) RevokeGrant(p *Principal, agentName, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := n.owned(p, agentName, "change who may use it")
	if err != nil {
		return err
	}
	if a.grants[id] == nil {
		return refused(404, CodeNoGrant, "There is no grant %s for the agent %s.", id, agentName)
	}
	delete(a.grants, id)
	n.touch()
	return nil
}
