// Package client is the consumer's side of the Blocks Network: it submits tasks to agents, follows their events and
// downloads their artifacts.
package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// ErrClosed is the error of calls on a closed TaskClient or Session.
var ErrClosed = errors.New("the session is closed")

// Config of a TaskClient. Only APIKey is required.
type Config struct {
	// Deployment locates the network; the zero value is the public network.
	Deployment deployment.Config
	APIKey     string
	// Log may be nil.
	Log *slog.Logger
	// HTTP is used for the API, not for PubNub; nil for a default client.
	HTTP *http.Client
}

// TaskClient submits tasks. Its methods may be called from any goroutine.
type TaskClient struct {
	cfg      Config
	log      *slog.Logger
	network  deployment.Deployment
	api      *backend.Client
	consumer *backend.Consumer

	mu     sync.Mutex
	closed bool
	links  map[wire.Keyset]*link.Link  // one per keyset; sessions share it
	modes  map[string]wire.BillingMode // of the agents that were looked up
}

// New fetches the deployment document and gets the first token, so that a wrong address or key fails here.
func New(ctx context.Context, cfg Config) (*TaskClient, error) {
	if cfg.APIKey == "" {
		return nil, errors.New("connect to the Blocks Network: no API key given: set BLOCKS_API_KEY")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	network, err := cfg.Deployment.Fetch(ctx, cfg.HTTP)
	if err != nil {
		return nil, err
	}
	api, err := network.NewBackend(cfg.HTTP, cfg.Log)
	if err != nil {
		return nil, err
	}
	c := &TaskClient{
		cfg: cfg, log: cfg.Log, network: network, api: api, consumer: api.NewConsumer(cfg.APIKey),
		links: make(map[wire.Keyset]*link.Link), modes: make(map[string]wire.BillingMode),
	}
	if _, err := c.consumer.UserID(ctx); err != nil {
		api.Close()
		return nil, err
	}
	return c, nil
}

// Close ends every session. It does not cancel tasks.
func (c *TaskClient) Close() {
	c.mu.Lock()
	c.closed = true
	links := c.links
	c.links = nil
	c.mu.Unlock()
	for _, l := range links {
		l.Close()
	}
	c.api.Close()
}

// link returns the connection for a keyset.
func (c *TaskClient) link(keys wire.Keyset) (*link.Link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if l := c.links[keys]; l != nil {
		return l, nil
	}
	l, err := link.New(link.Config{
		Origin: c.network.Origin, Secure: c.network.Secure, Keys: keys, UserID: "blocks-task-" + randomHex(6), Log: c.log,
	})
	if err != nil {
		return nil, err
	}
	c.links[keys] = l
	return l, nil
}

// mode returns the billing mode of an agent, which decides the keyset. It is looked up once.
func (c *TaskClient) mode(ctx context.Context, agent string) (wire.BillingMode, error) {
	c.mu.Lock()
	m, ok := c.modes[agent]
	c.mu.Unlock()
	if ok {
		return m, nil
	}
	a, err := c.lookUp(ctx, agent)
	if err != nil {
		return "", err
	}
	if !a.BillingMode.Valid() {
		return "", fmt.Errorf("look up agent %s: the registry does not name its billing mode", agent)
	}
	return a.BillingMode, nil
}

// lookUp reads an agent's registry entry and remembers its billing mode.
func (c *TaskClient) lookUp(ctx context.Context, agent string) (backend.Agent, error) {
	a, err := c.consumer.Agent(ctx, agent)
	if err != nil {
		return a, err
	}
	if a.BillingMode.Valid() {
		c.mu.Lock()
		c.modes[agent] = a.BillingMode
		c.mu.Unlock()
	}
	return a, nil
}

// AgentCard returns the card that an agent is registered with. If this version cannot read the card, the error is a
// card.Problems.
func (c *TaskClient) AgentCard(ctx context.Context, agent string) (card.Card, error) {
	a, err := c.lookUp(ctx, agent)
	if err != nil {
		return card.Card{}, err
	}
	parsed, err := card.Parse(a.Card)
	if err != nil {
		return card.Card{}, fmt.Errorf("read the card of agent %s: %w", agent, err)
	}
	return parsed, nil
}

func (c *TaskClient) forgetMode(agent string) {
	c.mu.Lock()
	delete(c.modes, agent)
	c.mu.Unlock()
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
