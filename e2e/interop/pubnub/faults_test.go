package pubnub

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// quiet is how long a client that has stopped polling is watched. A client that would go on later than that is taken
// for dead, never the other way round.
const quiet = time.Second

// proxy stands between a client and the sandbox and can do to a request what the network does on a bad day.
type proxy struct {
	*httptest.Server
	mu    sync.Mutex // guards all below
	fault func(w http.ResponseWriter, r *http.Request) bool
	polls int // subscribe requests so far
}

func newProxy(t *testing.T, origin string) *proxy {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: origin}) },
		Transport:     transport,
		FlushInterval: -1,
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) {}, // the client is gone
	}
	p := &proxy{}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		fault := p.fault
		if strings.HasPrefix(r.URL.Path, "/v2/subscribe/") {
			p.polls++
		}
		p.mu.Unlock()
		if fault != nil && fault(w, r) {
			return
		}
		forward.ServeHTTP(w, r)
	})
	// The Go SDK takes these numbers in an address for the status of an answer.
	p.Server = httptest.NewServer(handler)
	for range 20 {
		port := p.origin()[strings.LastIndexByte(p.origin(), ':'):]
		if !strings.Contains(port, "403") && !strings.Contains(port, "400") && !strings.Contains(port, "530") {
			break
		}
		p.Close()
		p.Server = httptest.NewServer(handler)
	}
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
		transport.CloseIdleConnections()
	})
	return p
}

func (p *proxy) origin() string { return strings.TrimPrefix(p.URL, "http://") }

func (p *proxy) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.polls
}

// firstCursor is the cursor of the first handshake of once. Real ones are times, and the Go SDK takes one that happens to
// contain 400, 403 or 530 for the status of an answer.
const firstCursor = "17000000000000000"

// once answers the first handshake and does something to the first poll with a cursor.
func (p *proxy) once(do func(w http.ResponseWriter, r *http.Request)) {
	shaken, done := false, false
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v2/subscribe/") {
			return false
		}
		what := &done
		if tt := r.URL.Query().Get("tt"); tt == "" || tt == "0" {
			what = &shaken
		}
		p.mu.Lock()
		first := !*what
		*what = true
		p.mu.Unlock()
		switch {
		case first && what == &shaken:
			status(http.StatusOK, `{"t":{"t":"`+firstCursor+`","r":1},"m":[]}`)(w, r)
		case first:
			do(w, r)
		}
		return first
	}
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", `text/javascript; charset="UTF-8"`)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// cut ends the connection, after half an answer or before any.
func cut(half bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if half {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: 100\r\n\r\n{\"t\":{\"t\":")
			}
			_ = c.Close()
		}
	}
}

// hang answers nothing until the client gives up.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// clientTimeout is how many seconds an SDK waits for the answer of a poll where the fault is that none comes.
const clientTimeout = 3

// TestFaults: what each SDK makes of a failure of one poll: which status it tells, and whether it goes on. It is why the
// daemon has a loop of its own; the sandbox must provoke it as the network does.
func TestFaults(t *testing.T) {
	const (
		accessDenied, badRequest, unknown, unexpectedly = "9", "8", "1", "14" // statuses of the Go SDK
		javascriptStops                                 = "PNDisconnectedUnexpectedlyCategory"
		noAnswer                                        = "no answer"
	)
	forbidden := `{"message":"Forbidden","payload":{"channels":["c"]},"error":true,"service":"Access Manager","status":403}`
	faults := []struct {
		name string
		do   http.HandlerFunc
		// By SDK: the status that it tells ("" if none is looked for), and whether it goes on.
		// The Go SDK tells one of two of a cut body, depending on where it notices.
		status map[string]string
		alive  map[string]bool
	}{
		{"403", status(403, forbidden), map[string]string{"go": accessDenied, "javascript": javascriptStops, "python": "PNAccessDeniedCategory"}, nil},
		{"400", status(400, `{"message":"Bad","error":true,"service":"Access Manager","status":400}`), map[string]string{"go": badRequest, "javascript": javascriptStops}, map[string]bool{"python": true}},
		{"503", status(503, `{"status":503,"error":true,"message":"Unavailable"}`), map[string]string{"go": unexpectedly}, map[string]bool{"javascript": true, "python": true}},
		{"429", status(429, `{"status":429,"error":true,"message":"Too Many Requests"}`), map[string]string{"go": unknown}, map[string]bool{"javascript": true, "python": true}},
		{"cut body", cut(true), map[string]string{"go": unknown + " " + unexpectedly}, map[string]bool{"javascript": true, "python": true}},
		{"no JSON", status(200, `<html>`), map[string]string{"go": badRequest, "javascript": javascriptStops}, map[string]bool{"go": true, "python": true}},
		{"closed", cut(false), nil, map[string]bool{"go": true, "javascript": true, "python": true}},
		{noAnswer, hang, map[string]string{"go": unknown + " " + unexpectedly}, map[string]bool{"javascript": true, "python": true}},
	}
	k := network(t)
	for _, sdk := range sdks {
		for _, f := range faults {
			t.Run(sdk+" "+f.name, func(t *testing.T) {
				t.Parallel()
				p := newProxy(t, k.origin)
				p.once(f.do)
				cfg := k.open("reader")
				cfg.Origin = p.origin()
				if f.name == noAnswer {
					cfg.Timeout = clientTimeout
				}
				c := start(t, sdk, cfg)
				channel := strings.ReplaceAll("fault."+sdk+"."+f.name, " ", "")
				c.do(command{Op: "subscribe", Channels: []string{channel}}, nil)
				if want := f.status[sdk]; want != "" {
					c.until("status", func(e event) bool {
						return e.Category == want || slices.Contains(strings.Fields(want), fmt.Sprint(e.Number))
					})
				}
				if f.alive[sdk] {
					// Published until one comes: a fresh handshake loses what was sent before it.
					stop := time.After(patience)
					for i := 0; ; i++ {
						publish(t, k, channel, fmt.Sprint(i))
						select {
						case e := <-c.events:
							if e.Event == "message" {
								return
							}
						case <-time.After(100 * time.Millisecond):
						case <-stop:
							t.Fatalf("%s has stopped", sdk)
						}
					}
				}
				before := p.count()
				publish(t, k, channel, "unheard")
				time.Sleep(quiet) // for what must not come
				if n := p.count(); n != before {
					t.Errorf("%s goes on: %d polls more", sdk, n-before)
				}
			})
		}
	}
}

// publish sends a message without an SDK.
func publish(t *testing.T, k keys, channel, text string) {
	t.Helper()
	path := fmt.Sprintf("/publish/%s/%s/0/%s/0/%%22%s%%22?uuid=raw", k.openPublish, k.openSubscribe, channel, text)
	if status, body := get(t, k.origin, path); status != 200 {
		t.Fatalf("publish: %d %s", status, body)
	}
}
