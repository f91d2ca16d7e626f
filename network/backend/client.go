// Package backend is the client of the Blocks HTTP API: deployment document, registry, connect and refresh, JSON-RPC,
// tokens, files and write affinity. It holds credentials and keeps them out of every error text and log line.
//
// The clock is injected: the lives of tokens and of the write affinity go by Config.Now. Pauses and deadlines run by package
// time.
package backend

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/wire"
)

// Deadlines of one attempt.
const (
	documentTimeout = 10 * time.Second  // the deployment document
	requestTimeout  = 30 * time.Second  // everything but the following
	readTokenLimit  = 15 * time.Second  // a task read token
	transferStall   = 120 * time.Second // a file transfer that stands still
)

// Retries of transient faults.
const (
	maxAttempts   = 4
	maxRetryAfter = 10 * time.Second // a server that asks for more makes the request fail
)

var retryBackoff = retry.Backoff{First: 250 * time.Millisecond, Max: 4 * time.Second}

// maxAnswer bounds the body of an answer. Cards and task lists are the largest.
const maxAnswer = 16 << 20

const protocolHeader = "Blocks-Protocol-Version"

// Config of a Client. Only BaseURL is required.
type Config struct {
	// BaseURL is the root of the API; trailing slashes do not matter.
	BaseURL string
	// HTTP is nil for a client of our own. A given one should have no Timeout: deadlines are set per request.
	HTTP *http.Client
	// Now is nil for time.Now.
	Now func() time.Time
	// Log is nil to discard.
	Log *slog.Logger
}

// Client talks to one deployment. There is one per process, because it holds the write affinity: after a write, reads
// go to the primary database for a while. Its methods may be called from any goroutine.
type Client struct {
	base     string
	http     *http.Client
	own      bool // http is ours
	now      func() time.Time
	log      *slog.Logger
	affinity affinity
}

// New makes a Client. Nothing is sent.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.BaseURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("make Blocks API client: base URL %q is not an http or https URL: set BLOCKS_BACKEND_URL, or check the deployment document", cfg.BaseURL)
	}
	c := &Client{base: strings.TrimRight(cfg.BaseURL, "/"), http: cfg.HTTP, now: cfg.Now, log: cfg.Log}
	if c.http == nil {
		c.http, c.own = newHTTP(), true
	}
	c.http = withoutRedirects(c.http)
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Close frees idle connections of a client of our own.
func (c *Client) Close() {
	if c.own {
		c.http.CloseIdleConnections()
	}
}

func newHTTP() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() // proxy, TLS and dial limits of the standard library
	t.MaxIdleConnsPerHost = 4                            // without TLS; with it one connection of HTTP/2 does
	t.MaxResponseHeaderBytes = 64 << 10
	return &http.Client{Transport: t}
}

// apiCall is one request to the API.
type apiCall struct {
	op, object string // for errors: "connect", "agent echo"
	method     string
	path       string // with query
	bearer     string
	body       any // JSON, nil for none
	// header is what a caller adds. It never replaces what we set.
	header http.Header
	// plain leaves the protocol version out: the consumer's token calls go without it.
	plain bool
	// once forbids repeating the request: a failure may have had an effect, or does not matter.
	once    bool
	timeout time.Duration // 0: requestTimeout
}

// what is attempted, on what.
func (a apiCall) what() string { return strings.TrimSpace(a.op + " " + a.object) }

// protectedHeaders are set by the protocol alone.
var protectedHeaders = map[string]bool{"Authorization": true, "Content-Type": true, protocolHeader: true, affinityHeader: true}

// do sends a request, repeats it after transient faults where that is safe, and returns the body of a 2xx answer. Any
// other outcome is an *Error.
func (c *Client) do(ctx context.Context, a apiCall) ([]byte, error) {
	var payload []byte
	if a.body != nil {
		var err error
		if payload, err = json.Marshal(a.body); err != nil {
			return nil, fmt.Errorf("%s %s: encode request: %w", a.op, a.object, err)
		}
	}
	for n := 1; ; n++ {
		body, ask, err := c.send(ctx, a, payload)
		if err == nil {
			return body, nil
		}
		if n == maxAttempts || a.once || !err.Temporary() || ask > maxRetryAfter || ctx.Err() != nil {
			return nil, err
		}
		d := max(ask, retryBackoff.Delay(n))
		c.log.Debug("Blocks API request failed, trying again", "op", a.op, "attempt", n, "err", err)
		if retry.Pause(ctx, d) != nil {
			return nil, err
		}
	}
}

func (c *Client) send(ctx context.Context, a apiCall, payload []byte) (body []byte, ask time.Duration, _ *Error) {
	fail := func(err error) *Error { return &Error{Op: a.op, Object: a.object, err: hideURL(err)} }
	timeout := a.timeout
	if timeout == 0 {
		timeout = requestTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var r io.Reader
	if payload != nil {
		r = bytes.NewReader(payload)
	}
	req, err := http.NewRequestWithContext(ctx, a.method, c.base+a.path, r)
	if err != nil {
		return nil, 0, fail(err)
	}
	for name, values := range a.header {
		if name = http.CanonicalHeaderKey(name); !protectedHeaders[name] {
			req.Header[name] = values
		}
	}
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+a.bearer)
	}
	if !a.plain {
		req.Header.Set(protocolHeader, wire.ProtocolVersion)
	}
	c.affinity.apply(req.Header, c.now())
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, fail(err)
	}
	defer resp.Body.Close()
	body, err = readBounded(resp.Body, maxAnswer)
	if resp.StatusCode/100 != 2 {
		failed := answerError(a, resp.StatusCode, body)
		failed.Message = cmp.Or(redirectMessage(resp), failed.Message)
		return nil, retry.After(resp.Header, 2*maxRetryAfter), failed
	}
	if errors.Is(err, errTooLarge) {
		return nil, 0, &Error{Op: a.op, Object: a.object, Status: resp.StatusCode, Message: err.Error()}
	}
	if err != nil {
		return nil, 0, fail(err)
	}
	c.affinity.learn(resp.Header)
	return body, 0, nil
}

// decode reads a JSON object; an empty body counts as an empty object.
func decode(a apiCall, body []byte, v any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return &Error{Op: a.op, Object: a.object, Status: http.StatusOK, Message: "the answer is not the JSON object that was expected"}
	}
	return nil
}

var errTooLarge = errors.New("the answer is larger than any should be")

// readBounded reads r to its end, unless that is further away than limit.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return b, fmt.Errorf("the answer was cut short: %w", err)
	}
	if int64(len(b)) > limit {
		return nil, errTooLarge
	}
	return b, nil
}

// hideURL takes the URL out of an error of net/http: a pre-signed one is a secret.
func hideURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
