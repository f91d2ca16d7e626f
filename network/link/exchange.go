package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
)

// maxAnswer bounds the answers of everything but polls and files. A page of history is the largest: 100 messages.
const maxAnswer = 16 << 20

// exchange is one request that goes through the SDK and its real answer. The SDK gets to see neither the token nor the
// answer: it would classify errors by their text, panic on short arrays and round numbers.
type exchange struct {
	token, user string
	transport   http.RoundTripper

	// The answer. status is 0 if none arrived in full; then err says why.
	status int
	header http.Header
	answer []byte
	err    error
	// wrote is true once a request may have reached the network.
	wrote atomic.Bool
}

type exchangeKey struct{}

// ok reports whether the answer is a 200.
func (e *exchange) ok() bool { return e.err == nil && e.status == http.StatusOK }

// failure describes why the exchange did not end with a 200.
func (e *exchange) failure(op, channel string) error {
	if e.err != nil {
		return e.err
	}
	return &StatusError{Op: op, Channel: channel, Status: e.status, Body: e.answer, RetryAfter: retry.After(e.header, maxRetryAfter)}
}

// do lets the SDK send one request, by calling send with a context that carries the exchange. The answer is in the
// exchange; what send returns does not matter.
func (l *Link) do(ctx context.Context, timeout time.Duration, token string, send func(ctx context.Context) error) *exchange {
	if token == "" {
		token = l.currentToken()
	}
	e := &exchange{token: token, user: l.cfg.UserID, transport: l.forRare()}
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ctx = e.traced(context.WithValue(ctx, exchangeKey{}, e))
	defer l.learn(parent, e)
	if err := send(ctx); e.status == 0 && e.err == nil { // the SDK refused before it sent anything
		if e.err = err; err == nil {
			e.err = errors.New("the request was not sent")
		}
	}
	return e
}

// traced makes the exchange notice when its request goes out.
func (e *exchange) traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { e.wrote.Store(true) }})
}

// record takes what a transport returned, and reads the answer to its end.
func (e *exchange) record(resp *http.Response, err error) {
	if err != nil {
		e.err = redact(err)
		return
	}
	defer resp.Body.Close()
	answer, err := readBounded(resp, maxAnswer)
	if err != nil {
		e.err = err
		return
	}
	e.status, e.header, e.answer = resp.StatusCode, resp.Header, answer
}

// sdkTransport sends what the SDK built, as the user and with the token of the exchange, and records the answer there.
type sdkTransport struct{}

// errRecorded is what the SDK gets instead of every answer. It takes it for a broken connection and returns at once:
// without parsing, and without noting the latency, of which it keeps a list that it scans for each request and empties
// in quadratic time under a lock that all requests need (20 ms each second at 10,000 publishes a second).
var errRecorded = errors.New("the answer is recorded in the exchange")

func (sdkTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	e, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.New("unexpected request of the PubNub SDK")
	}
	out := req.Clone(req.Context())
	// The SDK makes URLs of the form //host/path, which net/http sends in absolute form, as to a proxy.
	out.URL.Opaque = strings.TrimPrefix(out.URL.Opaque, "//"+out.URL.Host)
	out.URL.RawQuery = asUser(out.URL.RawQuery, e.user)
	if e.token != "" {
		out.URL.RawQuery += "&auth=" + url.QueryEscape(e.token)
	}
	e.record(e.transport.RoundTrip(out))
	if e.err != nil {
		return nil, e.err
	}
	return nil, errRecorded
}

// asUser replaces the user of a query.
func asUser(query, user string) string {
	members := strings.Split(query, "&")
	for i, m := range members {
		if strings.HasPrefix(m, "uuid=") {
			members[i] = "uuid=" + string(appendEscaped(nil, user))
		}
	}
	return strings.Join(members, "&")
}

// readBounded reads the body of an answer to its end; more than limit bytes are an error.
func readBounded(resp *http.Response, limit int64) ([]byte, error) {
	var b bytes.Buffer
	if n := resp.ContentLength; n > 0 && n <= maxTrusted {
		b.Grow(int(n) + bytes.MinRead) // so that it is read in one go
	}
	if _, err := b.ReadFrom(io.LimitReader(resp.Body, limit+1)); err != nil {
		return nil, fmt.Errorf("the answer was cut short: %w", err)
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("the answer is larger than %d bytes", limit)
	}
	return b.Bytes(), nil
}

// maxTrusted is the largest length for which room is made before there is anything.
const maxTrusted = 64 << 10

// redact takes the URL out of an error of net/http: its query holds the token.
func redact(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
