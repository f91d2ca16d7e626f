package blocks

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
	"time"
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
	for _, a := range n.agents {
		if a.spec.OrgID == o.ID {
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
	for _, o := range n.orgs {
		if o.ID != id && strings.EqualFold(o.Name, name) {
			n.mu.Unlock()
			return Org{}, refused(409, CodeNameTaken, "The organization name %s is already taken.", name)
		}
	}
	n.orgs[id].Name = name
	n.touch()
	n.mu.Unlock()
	return n.Own(p), nil
}

// authCode is one browser login between its page and its token.
type authCode struct {
	org                           *Organization
	clientID, redirect, challenge string
	expires                       time.Time
}

// Browser logins.
const (
	codeLife = 5 * time.Minute
	maxCodes = 1000
)

// Authorize starts a browser login for an organization's user, whom there is no need to ask here: the machine is the
// user's own. challenge is that of PKCE with S256.
func (n *Network) Authorize(orgID, clientID, redirect, challenge string) (code string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	org := n.orgs[orgID]
	if org == nil {
		return "", refused(404, CodeNoOrg, "There is no organization %s.", orgID)
	}
	now := n.cfg.Now()
	for c, a := range n.codes {
		if !now.Before(a.expires) || len(n.codes) >= maxCodes {
			delete(n.codes, c)
		}
	}
	code = "oc_" + rand.Text()
	n.codes[code] = authCode{org, clientID, redirect, challenge, now.Add(codeLife)}
	return code, nil
}

// Redeem exchanges the code of a browser login for the token of a session. A code is good for one attempt.
func (n *Network) Redeem(code, clientID, redirect, verifier string) (Credentials, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.codes[code]
	delete(n.codes, code)
	sum := sha256.Sum256([]byte(verifier))
	proof := base64.RawURLEncoding.EncodeToString(sum[:])
	if !ok || !n.cfg.Now().Before(a.expires) || a.clientID != clientID || a.redirect != redirect || subtle.ConstantTimeCompare([]byte(proof), []byte(a.challenge)) != 1 {
		return Credentials{}, refused(400, "invalid_grant", "The code is invalid, used or expired, or belongs to another login.")
	}
	c, err := n.accessToken(a.org, "", "")
	if err != nil {
		return Credentials{}, err
	}
	c.RefreshToken = "ort_" + rand.Text() // sessions are short; nothing takes it
	return c, nil
}
