package backend

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Account is who an API key belongs to.
type Account struct {
	OrgID, OrgName string
	AgentCount     int
	// KeyID and KeyExpires are those of the key; zero where the network does not say, or the key never ends.
	KeyID      string
	KeyExpires time.Time
}

// Account asks whose an API key is, so that a key that is not valid is refused here.
func (c *Client) Account(ctx context.Context, apiKey string) (Account, error) {
	a := apiCall{op: "check the API key", method: http.MethodGet, path: "/api/v1/registry/publish-context", bearer: apiKey}
	body, err := c.do(ctx, a)
	if err != nil {
		return Account{}, err
	}
	return decodeAccount(a, body)
}

func decodeAccount(a apiCall, body []byte) (Account, error) {
	var o struct {
		OrgID, OrgName string
		AgentCount     float64
		KeyID          string
		KeyExpiresAt   json.RawMessage
	}
	if err := decode(a, body, &o); err != nil {
		return Account{}, err
	}
	account := Account{OrgID: o.OrgID, OrgName: o.OrgName, AgentCount: count(o.AgentCount), KeyID: o.KeyID}
	_ = json.Unmarshal(o.KeyExpiresAt, &account.KeyExpires) // what is no time says nothing
	return account, nil
}

// Kind is what kind of deployment it is.
type Kind struct {
	// Enterprise has no marketplace: every agent is free.
	Enterprise  bool
	ProductName string
}

// Kind asks what kind of deployment it is. One that does not say is an ordinary one.
func (c *Client) Kind(ctx context.Context) (Kind, error) {
	a := apiCall{op: "ask for the kind of deployment", method: http.MethodGet, path: "/api/v1/cli-config", plain: true}
	body, err := c.do(ctx, a)
	if e, ok := errors.AsType[*Error](err); ok && e.Status != 0 { // a 404 is how an ordinary deployment says it
		return Kind{}, nil
	}
	if err != nil {
		return Kind{}, err
	}
	var k Kind
	if json.Unmarshal(body, &k) != nil {
		return Kind{}, nil
	}
	return k, nil
}
