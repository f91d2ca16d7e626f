package blocks

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"time"
)

// Browser logins.
const (
	codeLife = 5 * time.Minute
	maxCodes = 1000
)

// Authorize starts a browser login for an organization's user, without asking the user: the machine is the
// user's own. challenge is that of PKCE with S256.
func (n *Network) Authorize(orgID, clientID, redirect, challenge string) (code string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	org := n.accounts.orgs[orgID]
	if org == nil {
		return "", refused(404, CodeNoOrg, "There is no organization %s.", orgID)
	}
	now := n.cfg.Now()
	for c, a := range n.accounts.codes {
		if !now.Before(a.expires) || len(n.accounts.codes) >= maxCodes {
			delete(n.accounts.codes, c)
		}
	}
	code = "oc_" + rand.Text()
	n.accounts.codes[code] = authCode{org, clientID, redirect, challenge, now.Add(codeLife)}
	return code, nil
}

// Redeem exchanges the code of a browser login for the token of a session. A code is good for one attempt.
func (n *Network) Redeem(code, clientID, redirect, verifier string) (Credentials, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.accounts.codes[code]
	delete(n.accounts.codes, code)
	sum := sha256.Sum256([]byte(verifier))
	proof := base64.RawURLEncoding.EncodeToString(sum[:])
	if !ok || !n.cfg.Now().Before(a.expires) || a.clientID != clientID || a.redirect != redirect || subtle.ConstantTimeCompare([]byte(proof), []byte(a.challenge)) != 1 {
		return Credentials{}, refused(400, "invalid_grant", "The code is invalid, used or expired, or belongs to another login.")
	}
	c, err := n.credentials(a.org, "", "")
	if err != nil {
		return Credentials{}, err
	}
	c.RefreshToken = "ort_" + rand.Text() // sessions are short; nothing takes it
	return c, nil
}
