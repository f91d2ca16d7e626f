package blocks

import (
	"strings"
)

// Org is an organization as its members see it.
type Org struct {
	ID, Name, Slug string
	AgentCount     int
}

// Own returns the organization of p.
func (n *Network) Own(p *Principal) Org {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := Org{ID: p.org.ID, Name: p.org.Name, Slug: p.org.Slug}
	for _, a := range n.registry.agents {
		if a.Spec.OrgID == o.ID {
			o.AgentCount++
		}
	}
	return o
}

// maxOrgName is the longest name of an organization.
const maxOrgName = 100

// RenameOrg gives the organization of p another name.
func (n *Network) RenameOrg(p *Principal, id, name string) (Org, error) {
	name = strings.TrimSpace(name)
	if p.OrgID != id || p.IsAgent() {
		return Org{}, refused(403, CodeDenied, "You may not change the organization %s.", id)
	}
	if name == "" || len(name) > maxOrgName {
		return Org{}, InvalidParams("The name of an organization has 1 to %d characters.", maxOrgName)
	}
	n.mu.Lock()
	for _, o := range n.accounts.orgs {
		if o.ID != id && strings.EqualFold(o.Name, name) {
			n.mu.Unlock()
			return Org{}, refused(409, CodeNameTaken, "The organization name %s is already taken.", name)
		}
	}
	n.accounts.orgs[id].Name = name
	n.touch()
	n.mu.Unlock()
	return n.Own(p), nil
}
