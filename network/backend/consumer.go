package backend

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	// defaultTokenLife is that of a token whose life is not announced.
	defaultTokenLife = time.Minute
	// renewPause is how long a token that is still good is used before another try to renew it.
	renewPause = 3 * time.Second
)

// Consumer holds the credentials of someone who submits tasks: a short-lived token that the API gives for an API key. It
// is renewed when it is used and four fifths of its life are over, so that nothing runs while nobody calls. The methods
// may be called from any goroutine.
type Consumer struct {
	client *Client
	apiKey string
	renew  flight

	mu    sync.Mutex // guards token
	token consumerToken
}

type consumerToken struct {
	access, refresh, userID string
	renewAt                 time.Time
}

// NewConsumer makes a Consumer; the first call that needs a token gets it.
func (c *Client) NewConsumer(apiKey string) *Consumer { return &Consumer{client: c, apiKey: apiKey} }

func (s *Consumer) current() consumerToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// UserID is who the API key belongs to.
func (s *Consumer) UserID(ctx context.Context) (string, error) {
	t, err := s.fresh(ctx)
	return t.userID, err
}

// Agent reads a registry entry as this consumer sees it. The registry does not refuse an expired token but treats its
// bearer as anybody, so a private agent that is not found is looked up again with a new token.
func (s *Consumer) Agent(ctx context.Context, name string) (Agent, error) {
	t, err := s.fresh(ctx)
	if err != nil {
		return Agent{}, err
	}
	agent, err := s.client.Agent(ctx, t.access, name)
	e, refused := errors.AsType[*Error](err)
	if !errors.Is(err, ErrNotFound) && (!refused || e.Status != http.StatusUnauthorized) {
		return agent, err
	}
	if t, err = s.renewed(ctx, t.access, false); err != nil {
		return Agent{}, err
	}
	return s.client.Agent(ctx, t.access, name)
}

// fresh returns a token that has not reached its renewal time. Where a renewal ahead of time fails for a transient
// reason the old token, which is still good, is used.
func (s *Consumer) fresh(ctx context.Context) (consumerToken, error) {
	t := s.current()
	if t.access != "" && s.client.now().Before(t.renewAt) {
		return t, nil
	}
	ahead := t.access != ""
	n, err := s.renewed(ctx, t.access, ahead)
	if e, ok := errors.AsType[*Error](err); ok && e.Temporary() && ahead && ctx.Err() == nil {
		s.client.log.Warn("could not renew the consumer's token ahead of time", "err", err)
		s.mu.Lock()
		if s.token.access == t.access {
			s.token.renewAt = s.client.now().Add(renewPause)
		}
		s.mu.Unlock()
		return t, nil
	}
	return n, err
}

// renewed returns a token other than old, getting one unless another caller already has. once does not repeat a request
// that fails, because the old token will do.
func (s *Consumer) renewed(ctx context.Context, old string, once bool) (consumerToken, error) {
	if t := s.current(); t.access != old {
		return t, nil
	}
	err := s.renew.do(ctx, func(ctx context.Context) error {
		t := s.current()
		if t.access != old {
			return nil
		}
		return s.acquire(ctx, t, once)
	})
	return s.current(), err
}

// acquire refreshes t, or starts anew from the API key where there is nothing to refresh.
func (s *Consumer) acquire(ctx context.Context, t consumerToken, once bool) error {
	if t.refresh != "" {
		err := s.exchange(ctx, t, apiCall{
			op: "refresh the consumer's token", method: http.MethodPost, path: "/api/v1/auth/agent/refresh", plain: true, once: once,
			bearer: s.apiKey, body: refreshBody{t.refresh},
		})
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != codeRefreshInvalid {
			return err
		}
	}
	return s.exchange(ctx, t, apiCall{
		op: "get a consumer's token", method: http.MethodPost, path: "/api/v1/auth/agent/consumer-token", plain: true,
		body: struct {
			APIKey string `json:"apiKey"`
		}{s.apiKey},
	})
}

func (s *Consumer) exchange(ctx context.Context, old consumerToken, a apiCall) error {
	asked := s.client.now()
	body, err := s.client.do(ctx, a)
	if err != nil {
		return err
	}
	t, life, err := decodeConsumerToken(a, body)
	if err != nil {
		return err
	}
	if t.userID == "" {
		t.userID = old.userID
	}
	t.renewAt = asked.Add(max(life*4/5, time.Second))
	s.mu.Lock()
	s.token = t
	s.mu.Unlock()
	return nil
}

func decodeConsumerToken(a apiCall, body []byte) (consumerToken, time.Duration, error) {
	var o struct {
		AccessToken, RefreshToken, UserID string
		ExpiresIn                         *float64
	}
	if err := decode(a, body, &o); err != nil {
		return consumerToken{}, 0, err
	}
	if o.AccessToken == "" {
		return consumerToken{}, 0, &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the answer has no accessToken"}
	}
	life := defaultTokenLife
	if o.ExpiresIn != nil && *o.ExpiresIn >= 0 && *o.ExpiresIn < 1e9 {
		life = time.Duration(*o.ExpiresIn * float64(time.Second))
	}
	return consumerToken{access: o.AccessToken, refresh: o.RefreshToken, userID: o.UserID}, life, nil
}

// call sends a request with the consumer's token; on 401 it gets a new one, once. retry, if not nil, says whether an
// answer that was a success for HTTP calls for a new token too.
func (s *Consumer) call(ctx context.Context, a apiCall, retry func(body []byte) bool) ([]byte, error) {
	t, err := s.fresh(ctx)
	if err != nil {
		return nil, err
	}
	a.bearer = t.access
	body, err := s.client.do(ctx, a)
	switch e, ok := errors.AsType[*Error](err); {
	case err == nil && (retry == nil || !retry(body)):
		return body, nil
	case err != nil && (!ok || e.Status != http.StatusUnauthorized):
		return nil, err
	}
	if t, err = s.renewed(ctx, t.access, false); err != nil {
		return nil, err
	}
	a.bearer = t.access
	return s.client.do(ctx, a)
}
