package backend_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// patience bounds hangs: a machine may stand still for a while.
const patience = 3 * time.Minute

const cardText = `{"identity":{"agentName":"%s","displayName":"Test","description":"for tests","version":"1.0.0","provider":{"organization":"T"}},
"capabilities":{"taskKinds":["request","pipe"]},"tags":[{"id":"t","name":"T"}],
"io":{"inputs":[{"id":"request","contentType":"text/plain","required":false,"description":"text"},{"id":"other","contentType":"text/plain","required":false,"description":"text"}],"outputs":[]},
"runtime":{"handler":"h","concurrency":4},"extensions":{"blocks":{"listing":"%s","billingMode":"%s"}}}`

func testCard(t testing.TB, name, listing, mode string) card.Card {
	t.Helper()
	text := strings.Replace(strings.Replace(strings.Replace(cardText, "%s", name, 1), "%s", listing, 1), "%s", mode, 1)
	c, err := card.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// clock can be moved on.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

type world struct {
	t      testing.TB
	sb     *sandbox.Sandbox
	cdm    backend.CDM
	api    *backend.Client
	faults *faults
	clock  *clock // of the sandbox
}

func newWorld(t testing.TB, change ...func(*sandbox.Config)) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{}}
	cfg := sandbox.Config{Now: w.clock.now}
	for _, c := range change {
		c(&cfg)
	}
	sb := sandboxtest.Start(t, cfg, testCard(t, "echo", "public", "free"), testCard(t, "secret", "private", "paid"))
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	w.sb, w.faults = sb.Sandbox, &faults{next: tr}
	w.cdm, w.api = sb.Backend(&http.Client{Transport: w.faults})
	return w
}

func (w *world) session() *backend.AgentSession {
	return w.api.NewAgentSession(w.sb.APIKey(), backend.ConnectRequest{
		AgentName: "echo", InstanceID: "AG-echo-1", BillingMode: wire.Free, Listing: "public", ExpectedInstances: 1, Concurrency: 4, SDKVersion: "test",
	})
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// faults counts requests and changes answers. A hook that returns nil lets a request pass; lose lets it pass but hides
// the answer.
type faults struct {
	next http.RoundTripper
	mu   sync.Mutex
	hook func(r *http.Request, body []byte) (resp *http.Response, err error, lose bool)
	seen []seen
}

type seen struct {
	path   string
	header http.Header
	body   []byte
}

func (f *faults) set(hook func(r *http.Request, body []byte) (*http.Response, error, bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

func (f *faults) requests(path string) (out []seen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seen {
		if strings.Contains(s.path, path) {
			out = append(out, s)
		}
	}
	return out
}

func (f *faults) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = nil
}

func (f *faults) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	f.mu.Lock()
	hook := f.hook
	f.seen = append(f.seen, seen{r.URL.Path, r.Header.Clone(), body})
	f.mu.Unlock()
	if hook != nil {
		resp, err, lose := hook(r, body)
		if lose {
			if got, e := f.next.RoundTrip(r); e == nil {
				_, _ = io.Copy(io.Discard, got.Body)
				got.Body.Close()
			}
		}
		if resp != nil || err != nil {
			return resp, err
		}
	}
	return f.next.RoundTrip(r)
}

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

var errReset = errors.New("connection reset by peer")

// times lets a fault happen only for the first n requests to a path.
func times(n int, path string, resp func() *http.Response, err error, lose bool) func(*http.Request, []byte) (*http.Response, error, bool) {
	var mu sync.Mutex
	return func(r *http.Request, _ []byte) (*http.Response, error, bool) {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(r.URL.Path, path) || n == 0 {
			return nil, nil, false
		}
		n--
		if resp != nil {
			return resp(), nil, lose
		}
		return nil, err, lose
	}
}
