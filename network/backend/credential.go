package backend

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// ConsumerToken is a consumer's access token, as whoever issues it hands it out.
type ConsumerToken struct {
	// Access is the bearer of the API.
	Access string
	// Life is how long it is valid, 0 for a minute.
	Life time.Duration
	// UserID is whom it belongs to; a renewal may leave it out.
	UserID string
}

// TokenEndpoint is a server of the application's own that hands out consumer tokens.
type TokenEndpoint struct {
	URL string
	// Header is sent with every request, and wins over our own content type. Cookies go here.
	Header http.Header
	// Body is sent as JSON; nil is the empty object.
	Body any
}

func (e TokenEndpoint) check() error {
	if u, err := url.Parse(e.URL); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("the token endpoint %q is not an http or https URL", e.URL)
	}
	if _, err := json.Marshal(e.Body); err != nil {
		return fmt.Errorf("the body for the token endpoint cannot be sent as JSON: %w", err)
	}
	return nil
}

// credential is a token with what renews it.
type credential struct {
	ConsumerToken
	refresh string // "" where the next token is had in the same way as the first
}

// source gets tokens. old is the credential before, zero for the first; once forbids repeating a request that fails.
type source interface {
	next(ctx context.Context, old credential, once bool) (credential, error)
}

// keySource gets tokens for an API key, and renews them with a refresh token that changes every time.
type keySource struct {
	client *Client
	apiKey string
}

func (s keySource) next(ctx context.Context, old credential, once bool) (credential, error) {
	if old.refresh != "" {
		g, err := s.exchange(ctx, apiCall{
			op: "refresh the consumer's token", method: http.MethodPost, path: "/api/v1/auth/agent/refresh", plain: true, once: once,
			bearer: s.apiKey, body: refreshBody{old.refresh},
		})
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != codeRefreshInvalid {
			return g, err
		}
	}
	return s.exchange(ctx, apiCall{
		op: "get a consumer's token", method: http.MethodPost, path: "/api/v1/auth/agent/consumer-token", plain: true, once: once,
		body: struct {
			APIKey string `json:"apiKey"`
		}{s.apiKey},
	})
}

func (s keySource) exchange(ctx context.Context, a apiCall) (credential, error) {
	body, err := s.client.do(ctx, a)
	if err != nil {
		return credential{}, err
	}
	return decodeConsumerToken(a, body)
}

func decodeConsumerToken(a apiCall, body []byte) (credential, error) {
	var o struct{ AccessToken, RefreshToken, UserID string }
	if err := decode(a, body, &o); err != nil {
		return credential{}, err
	}
	if o.AccessToken == "" {
		return credential{}, &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the answer has no accessToken"}
	}
	return credential{ConsumerToken{o.AccessToken, announcedLife(body), o.UserID}, o.RefreshToken}, nil
}

// announcedLife reads expiresIn, in seconds; 0 if there is none that makes sense.
func announcedLife(body []byte) time.Duration {
	if v := lifetime(body); v > 0 && v < 1e9 {
		return time.Duration(v * float64(time.Second))
	}
	return 0
}

// endpointSource gets tokens from a server of the application. Neither the protocol version nor the write affinity of the
// Blocks API is any business of that server.
type endpointSource struct {
	client   *Client
	endpoint TokenEndpoint
}

func (s endpointSource) next(ctx context.Context, _ credential, _ bool) (credential, error) {
	u, err := url.Parse(s.endpoint.URL)
	if err != nil { // check has seen that it is one
		return credential{}, err
	}
	a := apiCall{op: "get a token from", object: u.Scheme + "://" + u.Host + u.Path}
	fail := func(err error) (credential, error) {
		return credential{}, &Error{Op: a.op, Object: a.object, err: hideURL(err)}
	}
	payload := []byte("{}")
	if s.endpoint.Body != nil {
		if payload, err = json.Marshal(s.endpoint.Body); err != nil {
			return fail(err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.endpoint.URL, bytes.NewReader(payload))
	if err != nil {
		return fail(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for name, values := range s.endpoint.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	resp, err := s.client.http.Do(req)
	if err != nil {
		return fail(err)
	}
	defer resp.Body.Close()
	body, err := readBounded(resp.Body, maxTokenAnswer)
	if resp.StatusCode/100 != 2 {
		failed := answerError(a, resp.StatusCode, body)
		failed.Message = cmp.Or(redirectMessage(resp), failed.Message)
		failed.advice = "check the token endpoint and what it is sent"
		return credential{}, failed
	}
	if err != nil {
		return fail(err)
	}
	return decodeEndpointToken(a, body)
}

// maxTokenAnswer bounds what a token endpoint may answer.
const maxTokenAnswer = 1 << 20

func decodeEndpointToken(a apiCall, body []byte) (credential, error) {
	var o struct{ Token, UserID string }
	if err := decode(a, body, &o); err != nil {
		return credential{}, err
	}
	if o.Token == "" {
		return credential{}, &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: `the answer has no "token"`}
	}
	return credential{ConsumerToken: ConsumerToken{o.Token, announcedLife(body), o.UserID}}, nil
}

// funcSource asks a function of the application.
type funcSource func(ctx context.Context) (ConsumerToken, error)

func (f funcSource) next(ctx context.Context, _ credential, _ bool) (credential, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	t, err := f(ctx)
	if err != nil {
		return credential{}, fmt.Errorf("get a token from the application: %w", err)
	}
	if t.Access == "" {
		return credential{}, errors.New("get a token from the application: its function returned an empty one")
	}
	return credential{ConsumerToken: t}, nil
}
