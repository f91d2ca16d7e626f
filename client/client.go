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
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// ErrClosed is the error of what a closed Client or Session cannot do any more.
var ErrClosed = errors.New("the session is closed")

// errClientClosed is ErrClosed of a Client.
var errClientClosed error = clientClosed{}

type clientClosed struct{}

func (clientClosed) Error() string        { return "the client is closed: make another one" }
func (clientClosed) Is(target error) bool { return target == ErrClosed }

// Client sends tasks and connects to them. Make one and share it: its sessions share their connections.
type Client struct {
	settings
	log      *slog.Logger
	network  deployment.Deployment
	api      *backend.Client
	consumer *backend.Consumer
	userID   string
	// transport is what all links share; shared is the same where it is ours to free.
	transport http.RoundTripper
	shared    *link.SharedTransport
	// streamUsers names this side of each stream.
	streamUsers stream.UserIDs
	spare       *stream.Spare // for what has come on streams and was not read

	mu       sync.Mutex // guards the fields below
	closed   bool
	links    map[wire.Keyset]*link.Link // one per keyset; sessions share it
	sessions map[*Session]struct{}
	modes    map[string]BillingMode // of the agents that were looked up
}

// New reads the deployment document and gets the first token, so that a wrong address or credential fails here.
func New(ctx context.Context, o Options) (*Client, error) {
	fail := func(err error) (*Client, error) {
		if _, missing := errors.AsType[*NotFoundError](translate(err)); !missing { // no agent or task is missing yet
			err = translate(err)
		}
		return nil, fmt.Errorf("connect to the Blocks Network: %w", err)
	}
	s, err := o.complete()
	if err != nil {
		return fail(err)
	}
	network := deployment.Deployment{}
	if s.Deployment != nil {
		network = *s.Deployment
	} else if network, err = s.deployment.Fetch(ctx, s.HTTP); err != nil {
		return fail(err)
	}
	c := &Client{
		settings: s, log: s.Log, network: network, spare: stream.NewSpare(spareBytes),
		links: make(map[wire.Keyset]*link.Link), sessions: make(map[*Session]struct{}), modes: make(map[string]BillingMode),
	}
	if err := c.open(ctx); err != nil {
		c.Close()
		return fail(err)
	}
	return c, nil
}

// open makes the connections and gets the first token. After an error Close frees what there is.
func (c *Client) open(ctx context.Context) (err error) {
	origin := "http://" + c.network.Origin
	if c.network.Secure {
		origin = "https://" + c.network.Origin
	}
	hc := c.HTTP
	switch {
	case hc != nil && hc.Transport != nil:
		c.transport = hc.Transport
	case hc != nil:
		c.transport = http.DefaultTransport
	default:
		c.shared = link.NewSharedTransport(ctx, origin, c.network.BackendURL)
		c.transport, hc = c.shared, &http.Client{Transport: c.shared}
	}
	if c.api, err = c.network.NewBackend(hc, c.log); err != nil {
		return err
	}
	if c.consumer, err = c.api.StartConsumer(ctx, c.settings.consumer()); err != nil {
		return err
	}
	c.userID, err = c.consumer.UserID(ctx)
	return err
}

// Close ends every session and the renewal of the token. It does not cancel tasks; Cancel of a session works even then,
// as long as the last token is valid. It may be called more than once.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	links, sessions := c.links, c.sessions
	c.links, c.sessions = nil, nil
	c.mu.Unlock()
	for s := range sessions {
		s.Close()
	}
	for _, l := range links {
		l.Close()
	}
	if c.consumer != nil {
		c.consumer.Close()
	}
	c.freeConnections()
}

func (c *Client) freeConnections() {
	if c.shared != nil {
		c.shared.CloseIdleConnections()
	}
}

// UserID is whom the credential belongs to, empty for an anonymous visitor.
func (c *Client) UserID() string { return c.userID }

// keyset returns the keys for a billing mode.
func (c *Client) keyset(mode BillingMode) wire.Keyset {
	k := c.network.CDM.Keyset(mode)
	if c.keys.SubscribeKey != "" {
		k.SubscribeKey = c.keys.SubscribeKey
	}
	if c.keys.PublishKey != "" {
		k.PublishKey = c.keys.PublishKey
	}
	return k
}

// link returns the connection for a keyset.
func (c *Client) link(keys wire.Keyset) (*link.Link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClientClosed
	}
	if l := c.links[keys]; l != nil {
		return l, nil
	}
	l, err := link.New(link.Config{
		Origin: c.network.Origin, Secure: c.network.Secure, Keys: keys, UserID: newUserID(), Log: c.log, Transport: c.transport,
	})
	if err != nil {
		return nil, err
	}
	c.links[keys] = l
	return l, nil
}

// add registers a session, which Close ends.
func (c *Client) add(s *Session) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClientClosed
	}
	c.sessions[s] = struct{}{}
	return nil
}

func (c *Client) remove(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
}

// mode returns the billing mode of an agent, which decides the keyset: the one that the options name, else what the
// registry says. It is looked up once.
func (c *Client) mode(ctx context.Context, agent string) (BillingMode, error) {
	if c.BillingMode != "" {
		return c.BillingMode, nil
	}
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
		return "", fmt.Errorf("look up agent %s: the registry does not name its billing mode: set Options.BillingMode", agent)
	}
	return a.BillingMode, nil
}

// lookUp reads an agent's registry entry and remembers its billing mode.
func (c *Client) lookUp(ctx context.Context, agent string) (backend.Agent, error) {
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

func (c *Client) forgetMode(agent string) {
	c.mu.Lock()
	delete(c.modes, agent)
	c.mu.Unlock()
}

// newUserID makes up who somebody is on PubNub.
func newUserID() string {
	b := make([]byte, 6)
	rand.Read(b) // never fails
	return "blocks-task-" + hex.EncodeToString(b)
}
