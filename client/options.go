package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/network/wire"
)

// BillingMode decides which of the network's two environments a task runs in. It is the agent's.
type BillingMode = wire.BillingMode

// The billing modes. The empty one is looked up for each agent.
const (
	Free = wire.Free
	Paid = wire.Paid
)

// Options of a Client. One of APIKey, TokenEndpoint, TokenFunc and Anonymous is required. What is empty of the addresses
// and keys comes from the environment, else from the deployment document.
type Options struct {
	// BillingMode of the agents that are called, where it is known. An agent with another one answers with a
	// *BillingModeMismatchError. Empty, it is looked up for each agent, and both kinds can be called.
	BillingMode BillingMode

	// APIKey authenticates with a key of an account.
	APIKey string
	// TokenEndpoint authenticates with tokens from a server of the application.
	TokenEndpoint *TokenEndpoint
	// TokenFunc authenticates with tokens from a function. It is called for the first token and for each further one.
	TokenFunc func(ctx context.Context) (Token, error)
	// Anonymous is the fingerprint of a visitor without an account. It may connect to public tasks and read them.
	Anonymous string
	// OnAuthError is called once when a token could not be renewed ahead of its end in three attempts. The old token stays
	// in use until the network refuses it. It must not call Close. May be nil.
	OnAuthError func(error)

	// Deployment is the network, for programs that have resolved it already; nil has New resolve it from what follows.
	Deployment *deployment.Deployment
	// CDMURL is the address of the deployment document: BLOCKS_CDM_URL, else that of the public network.
	CDMURL string
	// BackendURL is the address of the Blocks API: BLOCKS_BACKEND_URL, else as the document says.
	BackendURL string
	// PubNubOrigin is host:port of a PubNub that speaks plain HTTP, as a sandbox does: BLOCKSD_PUBNUB_ORIGIN, else as the
	// document says, else the public one with TLS.
	PubNubOrigin string
	// SubscribeKey and PublishKey replace those of the document: BLOCKS_SUBSCRIBE_KEY, BLOCKS_PUBLISH_KEY.
	SubscribeKey, PublishKey string

	// OwnerID of the tasks that are sent; empty for the authenticated user.
	OwnerID string
	// InlineLimit is the largest file, in bytes, that travels inside a message: ARTIFACT_INLINE_LIMIT_BYTES, else 16,384.
	// A larger one is uploaded.
	InlineLimit int
	// Header is sent with every RPC call, such as cookies for a proxy. Authorization, Content-Type, Blocks-Protocol-Version
	// and X-Write-Affinity cannot be replaced.
	Header http.Header
	// Log gets warnings about trouble that is being dealt with; nil discards them.
	Log *slog.Logger
	// HTTP carries every request, those to PubNub too; nil for connections of our own, few for very many sessions. It
	// should have no Timeout. Where a request has a credential, its redirects are not followed.
	HTTP *http.Client
	// Getenv reads the environment, nil for os.Getenv.
	Getenv func(string) string
}

// TokenEndpoint is a server of the application that answers a POST with {"token","expiresIn","userId"}: the token, its life
// in seconds (default 60) and whom it belongs to.
type TokenEndpoint struct {
	URL string
	// Header is sent with every request, such as a cookie or a credential for the server.
	Header http.Header
	// Body is sent as JSON; nil is an empty object.
	Body any
}

// Token is what a TokenFunc returns.
type Token struct {
	// Value is the access token.
	Value string
	// ExpiresIn is its life, 0 for a minute.
	ExpiresIn time.Duration
	// UserID is whom it belongs to. A renewal may leave it out.
	UserID string
}

// settings are options that have been checked and completed from the environment.
type settings struct {
	Options
	deployment deployment.Config
	keys       wire.Keyset // replaces parts of those of the document
}

func (o Options) complete() (settings, error) {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := settings{Options: o}
	fill := func(v *string, given, name string) string {
		if given == "" {
			given = strings.TrimSpace(o.Getenv(name))
		}
		*v = given
		return given
	}
	fill(&s.deployment.CDMURL, o.CDMURL, "BLOCKS_CDM_URL")
	fill(&s.deployment.BackendURL, o.BackendURL, "BLOCKS_BACKEND_URL")
	fill(&s.deployment.PubNubOrigin, o.PubNubOrigin, "BLOCKSD_PUBNUB_ORIGIN")
	fill(&s.keys.SubscribeKey, o.SubscribeKey, "BLOCKS_SUBSCRIBE_KEY")
	fill(&s.keys.PublishKey, o.PublishKey, "BLOCKS_PUBLISH_KEY")
	if err := s.checkAuth(); err != nil {
		return s, err
	}
	return s, s.checkAddresses()
}

func (s *settings) checkAuth() error {
	if s.BillingMode != "" && !s.BillingMode.Valid() {
		return fmt.Errorf("the billing mode %q is unknown: use client.Free, client.Paid, or leave it empty to have it looked up", s.BillingMode)
	}
	var given []string
	for _, way := range []struct {
		name  string
		given bool
	}{
		{"APIKey", s.APIKey != ""}, {"TokenEndpoint", s.TokenEndpoint != nil}, {"TokenFunc", s.TokenFunc != nil}, {"Anonymous", s.Anonymous != ""},
	} {
		if way.given {
			given = append(given, way.name)
		}
	}
	switch {
	case len(given) == 0:
		return errors.New("there is no credential: set Options.APIKey (perhaps BLOCKS_API_KEY is empty), TokenEndpoint, TokenFunc or Anonymous")
	case len(given) > 1:
		return fmt.Errorf("%s are given: keep one of them", strings.Join(given, " and "))
	case s.Anonymous != "" && s.BillingMode == Paid:
		return errors.New("a visitor without an account has no paid tasks: set BillingMode to client.Free or leave it empty")
	case s.TokenEndpoint == nil:
		return nil
	}
	if why := wrongURL(s.TokenEndpoint.URL); why != "" {
		return fmt.Errorf("TokenEndpoint.URL %s", why)
	}
	if _, err := json.Marshal(s.TokenEndpoint.Body); err != nil {
		return fmt.Errorf("TokenEndpoint.Body cannot be sent as JSON: %w", err)
	}
	return nil
}

func (s *settings) checkAddresses() error {
	for _, address := range []struct{ name, value string }{
		{"CDMURL (BLOCKS_CDM_URL)", s.deployment.CDMURL}, {"BackendURL (BLOCKS_BACKEND_URL)", s.deployment.BackendURL},
	} {
		if address.value == "" {
			continue
		}
		if why := wrongURL(address.value); why != "" {
			return fmt.Errorf("%s %s", address.name, why)
		}
	}
	if o := s.deployment.PubNubOrigin; strings.ContainsAny(o, "/ ") {
		return fmt.Errorf("PubNubOrigin (BLOCKSD_PUBNUB_ORIGIN) must be host:port without a scheme, not %q", o)
	}
	const variable = "ARTIFACT_INLINE_LIMIT_BYTES"
	if text := s.Getenv(variable); s.InlineLimit == 0 && text != "" {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return fmt.Errorf("%s must be a number of bytes, not %q", variable, text)
		}
		s.InlineLimit = n
	}
	if s.InlineLimit == 0 {
		s.InlineLimit = wire.DefaultInlineLimit
	}
	if s.InlineLimit < 1 || s.InlineLimit > wire.MaxInlineLimit {
		return fmt.Errorf("InlineLimit (%s) must be from 1 to %d bytes, not %d", variable, wire.MaxInlineLimit, s.InlineLimit)
	}
	return nil
}

// wrongURL says what is wrong with an address, "" for nothing. It does not repeat one that may hold a credential.
func wrongURL(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Sprintf("must be an http or https address, not %q", u.Redacted())
	}
	return ""
}

// consumer says how package backend authenticates.
func (s *settings) consumer() backend.ConsumerConfig {
	cfg := backend.ConsumerConfig{APIKey: s.APIKey, Anonymous: s.Anonymous, OnError: s.OnAuthError, Header: s.Header}
	if e := s.TokenEndpoint; e != nil {
		cfg.Endpoint = &backend.TokenEndpoint{URL: e.URL, Header: e.Header, Body: e.Body}
	}
	if f := s.TokenFunc; f != nil {
		cfg.Func = func(ctx context.Context) (backend.ConsumerToken, error) {
			t, err := f(ctx)
			return backend.ConsumerToken{Access: t.Value, Life: t.ExpiresIn, UserID: t.UserID}, err
		}
	}
	return cfg
}
