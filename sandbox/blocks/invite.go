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
		return Invitation{}, InvalidParams("%q is not an email address.", email)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.registry.ownedLocked(p, agentName, "invite others"); err != nil {
		return Invitation{}, err
	}
	if len(n.registry.invites) >= maxInvites {
		return Invitation{}, refused(429, CodeTooMany, "There are %d open invitations, as many as the sandbox keeps.", len(n.registry.invites))
	}
	if slug != "" && !n.accounts.hasSlugLocked(slug) {
		return Invitation{}, refused(404, CodeNoOrg, "There is no organization %s.", slug)
	}
	now := n.cfg.Now()
	v := &invitation{
		ID: "inv_" + strings.ToLower(rand.Text()), Token: "it_" + rand.Text(), Email: email, Slug: slug, Agent: agentName, Created: now, Expires: now.Add(inviteLife),
	}
	n.registry.invites[v.Token] = v
	n.touch()
	out := v.public()
	out.Token = v.Token
	return out, nil
}

func (v *invitation) public() Invitation {
	return Invitation{ID: v.ID, Email: v.Email, OrgSlug: v.Slug, Created: v.Created, Expires: v.Expires}
}

// Invitations lists the open invitations to an agent, oldest first.
func (n *Network) Invitations(p *Principal, agentName string) ([]Invitation, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.registry.ownedLocked(p, agentName, "see its invitations"); err != nil {
		return nil, err
	}
	out := []Invitation{}
	for token, v := range n.registry.invites {
		switch {
		case !n.cfg.Now().Before(v.Expires):
			delete(n.registry.invites, token)
		case v.Agent == agentName:
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
	v := n.registry.invites[token]
	switch {
	case v == nil || !n.cfg.Now().Before(v.Expires):
		return "", refused(404, CodeNoInvitation, "The invitation is unknown, used or expired.")
	case p.IsAgent(), v.Email != "" && !strings.EqualFold(v.Email, p.org.Email), v.Slug != "" && v.Slug != p.org.Slug:
		return "", refused(403, CodeDenied, "The invitation is for another user or organization.")
	}
	delete(n.registry.invites, token)
	if a := n.registry.agents[v.Agent]; !a.grantedLocked(p) && a.Spec.OrgID != p.OrgID {
		a.Grants = append(a.Grants, grant{ID: "grant_" + strings.ToLower(rand.Text()), OrgID: p.OrgID, Created: n.cfg.Now(), User: v.Email != ""})
	}
	n.touch()
	return v.Agent, nil
}

// Grants lists who may use a private agent, oldest first.
func (n *Network) Grants(p *Principal, agentName string) ([]GrantRecord, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := n.registry.ownedLocked(p, agentName, "see who may use it")
	if err != nil {
		return nil, err
	}
	out := []GrantRecord{}
	for _, g := range a.Grants {
		out = append(out, GrantRecord{g.ID, g.Created, g.User, *n.accounts.orgs[g.OrgID]})
	}
	slices.SortFunc(out, func(x, y GrantRecord) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return out, nil
}

// RevokeGrant takes the use of a private agent away again.
func (n *Network) RevokeGrant(p *Principal, agentName, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, err := n.registry.ownedLocked(p, agentName, "change who may use it")
	if err != nil {
		return err
	}
	at := slices.IndexFunc(a.Grants, func(g grant) bool { return g.ID == id })
	if at < 0 {
		return refused(404, CodeNoGrant, "There is no grant %s for the agent %s.", id, agentName)
	}
	a.Grants = slices.Delete(a.Grants, at, at+1)
	n.touch()
	return nil
}
