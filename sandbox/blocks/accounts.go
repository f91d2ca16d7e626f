package blocks

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Organization with its one user and that user's first API key.
type Organization struct {
	ID, Name, UserID, APIKey string
	// Slug names it in invitations and Email its user; both are derived where they are empty.
	Slug, Email string
	// Broke says that it cannot pay for tasks.
	Broke bool
}

// Principal is who makes a request.
type Principal struct {
	UserID, OrgID string
	// Agent and Instance are set for the credentials of an agent instance.
	Agent, Instance string

	org *Organization
}

// OwnOrganization reports whether the principal belongs to an organization.
func (p *Principal) OwnOrganization(id string) bool { return p != nil && p.OrgID == id }

// IsAgent reports whether the credentials are those of an agent instance.
func (p *Principal) IsAgent() bool { return p.Agent != "" }

// accounts are the organizations with their API keys, and the browser logins in progress.
type accounts struct {
	orgs  map[string]*Organization // by id; the map is fixed, the names are not
	keys  map[string]*apiKey       // by the key itself
	codes map[string]authCode
}

func newAccounts(orgs []Organization, now time.Time) (accounts, error) {
	a := accounts{orgs: map[string]*Organization{}, keys: map[string]*apiKey{}, codes: map[string]authCode{}}
	for _, org := range orgs {
		if org.ID == "" || org.UserID == "" || org.APIKey == "" || a.keys[org.APIKey] != nil || a.orgs[org.ID] != nil {
			return accounts{}, fmt.Errorf("create network: organization %q lacks an id, a user or a key of its own", org.ID)
		}
		if org.Slug == "" {
			org.Slug = strings.ToLower(strings.ReplaceAll(cmp.Or(org.Name, org.ID), " ", "-"))
		}
		if org.Email == "" {
			org.Email = org.UserID + "@sandbox.invalid"
		}
		a.orgs[org.ID] = &org
		a.keys[org.APIKey] = &apiKey{APIKey: APIKey{ID: "key_" + org.ID, Name: "first", OrgID: org.ID, Created: now}, Value: org.APIKey}
	}
	return a, nil
}

// ownerLocked returns whose key it is.
func (a *accounts) ownerLocked(key string, now time.Time) (*Organization, error) {
	k := a.keys[key]
	if k == nil || k.Revoked || !k.Expires.IsZero() && !now.Before(k.Expires) {
		return nil, refused(401, CodeKeyInvalid, "The API key is invalid or was revoked.")
	}
	return a.orgs[k.OrgID], nil
}

// hasSlugLocked reports whether an organization goes by that name.
func (a *accounts) hasSlugLocked(slug string) bool {
	for _, o := range a.orgs {
		if o.Slug == slug {
			return true
		}
	}
	return false
}

// apiKey is one key of an organization, as it is kept.
type apiKey struct {
	APIKey
	Value string // the key itself
}

// APIKey is a key as its owner sees it.
type APIKey struct {
	ID, Name, OrgID string
	// Secret is the key itself, only set in the answer to its creation.
	Secret           string
	Created, Expires time.Time // a zero Expires means never
	Revoked          bool
}

// authCode is one browser login between its page and its token.
type authCode struct {
	org                           *Organization
	clientID, redirect, challenge string
	expires                       time.Time
}
