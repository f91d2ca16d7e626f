package backend

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// joinLimit bounds how long a caller waits for a renewal that another one began.
const joinLimit = 30 * time.Second

// ConsumerConfig says how a consumer authenticates: exactly one of APIKey, Endpoint, Func and Anonymous.
type ConsumerConfig struct {
	APIKey   string
	Endpoint *TokenEndpoint
	Func     func(ctx context.Context) (ConsumerToken, error)
	// Anonymous is the fingerprint of somebody without an account, who may read public tasks and nothing else.
	Anonymous string
	// OnError is called when the renewal of a token was given up after several attempts; the old token stays in use. May
	// be nil.
	OnError func(error)
	// Header is sent with every RPC call. Those of the protocol itself cannot be replaced.
	Header http.Header
}

func (cfg ConsumerConfig) source(c *Client) (source, error) {
	var found []source
	if cfg.APIKey != "" {
		found = append(found, keySource{c, cfg.APIKey})
	}
	if cfg.Endpoint != nil {
		if err := cfg.Endpoint.check(); err != nil {
			return nil, err
		}
		found = append(found, endpointSource{c, *cfg.Endpoint})
	}
	if cfg.Func != nil {
		found = append(found, funcSource(cfg.Func))
	}
	if cfg.Anonymous != "" {
		found = append(found, nil)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("a consumer needs exactly one way to authenticate, not %d", len(found))
	}
	return found[0], nil
}

// AuthRefreshFailedError says that the token could not be renewed. Until a renewal succeeds every call begins with
// another attempt.
type AuthRefreshFailedError struct {
	// Cause is why.
	Cause error
	// refused is the answer that called for a new token, nil where the renewal was ahead of time.
	refused error
}

func (e *AuthRefreshFailedError) Error() string {
	return "the token could not be renewed: " + e.Cause.Error()
}

func (e *AuthRefreshFailedError) Unwrap() []error {
	if e.refused == nil {
		return []error{e.Cause}
	}
	return []error{e.refused, e.Cause} // what was refused comes first: it is what the caller asked for
}

// Consumer holds the credentials of someone who submits tasks: a short-lived token, and what renews it. The methods may be
// called from any goroutine.
type Consumer struct {
	client *Client
	cfg    ConsumerConfig
	source source // nil for somebody anonymous
	renew  flight
	timed  bool // a goroutine renews ahead of time; else the next call does
	stop   chan struct{}
	ended  sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	token   credential
	plan    refreshPlan
	changed chan struct{} // closed and replaced with each new token
	failed  error         // why the last renewal failed, until one succeeds
	closed  bool
}

// NewConsumer makes a Consumer for an API key; the first call that needs a token gets it, and nothing runs while nobody
// calls.
func (c *Client) NewConsumer(apiKey string) *Consumer {
	return c.newConsumer(ConsumerConfig{APIKey: apiKey}, keySource{c, apiKey})
}

func (c *Client) newConsumer(cfg ConsumerConfig, s source) *Consumer {
	return &Consumer{client: c, cfg: cfg, source: s, stop: make(chan struct{}), changed: make(chan struct{})}
}

// StartConsumer makes a Consumer and gets its first token, so that a wrong credential fails here. From then on the token
// is renewed when four fifths of its life are over, until Close.
func (c *Client) StartConsumer(ctx context.Context, cfg ConsumerConfig) (*Consumer, error) {
	src, err := cfg.source(c)
	if err != nil {
		return nil, err
	}
	s := c.newConsumer(cfg, src)
	if src == nil {
		return s, nil
	}
	if _, err := s.ready(ctx); err != nil {
		return nil, err
	}
	s.timed = true
	s.ended.Go(s.renewAhead)
	return s, nil
}

// Close ends the renewal of the token. The last one stays in use, so that a task can still be canceled. It may be called
// more than once.
func (s *Consumer) Close() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
	s.mu.Unlock()
	s.ended.Wait()
}

// IsAnonymous reports whether there is no account.
func (s *Consumer) IsAnonymous() bool { return s.source == nil }

// UserID is who the credential belongs to; empty for somebody anonymous.
func (s *Consumer) UserID(ctx context.Context) (string, error) {
	g, err := s.ready(ctx)
	return g.UserID, err
}

// renewAhead renews the token in time, until Close.
func (s *Consumer) renewAhead() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.ended.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	for {
		s.mu.Lock()
		due, changed, old := s.plan.due, s.changed, s.token.Access
		s.mu.Unlock()
		var elapsed <-chan time.Time // never, where nothing is due
		if !due.IsZero() {
			elapsed = time.After(due.Sub(s.client.now()))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
			continue
		case <-elapsed:
		}
		err := s.replace(ctx, old, true)
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.mu.Lock()
		gaveUp := s.token.Access == old && s.plan.failed(s.client.now())
		if gaveUp {
			s.failed = &AuthRefreshFailedError{Cause: err}
		}
		s.mu.Unlock()
		s.client.log.Warn("could not renew the consumer's token ahead of time", "err", err, "gave_up", gaveUp)
		if gaveUp && s.cfg.OnError != nil {
			s.cfg.OnError(err)
		}
	}
}

func (s *Consumer) current() credential {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// ready returns the token that a call begins with. After a renewal has failed it tries once more, and without success
// nothing is sent.
func (s *Consumer) ready(ctx context.Context) (credential, error) {
	if s.source == nil {
		return credential{}, nil
	}
	s.mu.Lock()
	g, failed := s.token, s.failed
	overdue := !s.timed && !s.closed && s.plan.overdue(s.client.now())
	s.mu.Unlock()
	switch {
	case g.Access == "":
		err := s.replace(ctx, "", false)
		return s.current(), err
	case failed != nil:
		if err := s.react(ctx, g.Access, nil); err != nil {
			return credential{}, err
		}
	case overdue:
		err := s.replace(ctx, g.Access, true)
		if e, ok := errors.AsType[*Error](err); ok && e.Temporary() && ctx.Err() == nil {
			s.client.log.Warn("could not renew the consumer's token ahead of time", "err", err)
			s.mu.Lock()
			if s.token.Access == g.Access {
				s.plan.due = s.client.now().Add(renewPause)
			}
			s.mu.Unlock()
			return g, nil // it is still good
		}
		if err != nil {
			return credential{}, err
		}
	}
	return s.current(), nil
}

// react gets a new token after the one used was refused, or before a call where the last renewal has failed. The error
// is an *AuthRefreshFailedError, or that of ctx.
func (s *Consumer) react(ctx context.Context, used string, refused error) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return &AuthRefreshFailedError{Cause: errors.New("the client is closed"), refused: refused}
	}
	join, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	err := s.replace(join, used, false)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	failed := &AuthRefreshFailedError{Cause: err}
	s.mu.Lock()
	if s.token.Access == used {
		s.failed = failed
	}
	s.mu.Unlock()
	s.client.log.Warn("could not renew the consumer's token", "err", err)
	return &AuthRefreshFailedError{Cause: err, refused: refused}
}

// replace gets a token other than old, unless another caller already has. All who want one at the same time share the
// request.
func (s *Consumer) replace(ctx context.Context, old string, once bool) error {
	if s.current().Access != old {
		return nil
	}
	return s.renew.do(ctx, func(ctx context.Context) error {
		g := s.current()
		if g.Access != old {
			return nil
		}
		asked := s.client.now()
		n, err := s.source.next(ctx, g, once)
		if err != nil {
			return err
		}
		if n.UserID == "" {
			n.UserID = g.UserID
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.token, s.failed = n, nil
		s.plan.stored(asked, n.Life)
		close(s.changed)
		s.changed = make(chan struct{})
		return nil
	})
}

// call sends a request with the consumer's token; on 401 it gets a new one, once. retry, if not nil, says whether an
// answer that was a success for HTTP calls for a new token too, and as which error.
func (s *Consumer) call(ctx context.Context, a apiCall, retry func(body []byte) error) ([]byte, error) {
	g, err := s.ready(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.what(), err)
	}
	a.bearer = g.Access
	body, err := s.client.do(ctx, a)
	switch e, ok := errors.AsType[*Error](err); {
	case err == nil:
		if retry == nil {
			return body, nil
		}
		if err = retry(body); err == nil {
			return body, nil
		}
	case !ok || e.Status != http.StatusUnauthorized:
		return nil, err
	}
	if s.source == nil {
		return body, err
	}
	if err := s.react(ctx, g.Access, err); err != nil {
		return nil, fmt.Errorf("%s: %w", a.what(), err)
	}
	a.bearer = s.current().Access
	return s.client.do(ctx, a)
}
