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

// once does something to the first poll with a cursor.
func (p *proxy) once(do func(w http.ResponseWriter)) {
	done := false
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = func(w http.ResponseWriter, r *http.Request) bool {
		tt := r.URL.Query().Get("tt")
		if !strings.HasPrefix(r.URL.Path, "/v2/subscribe/") || tt == "" || tt == "0" {
			return false
		}
		p.mu.Lock()
		first := !done
		done = true
		p.mu.Unlock()
		if first {
			do(w)
		}
		return first
	}
}

func status(code int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", `text/javascript; charset="UTF-8"`)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// cut ends the connection, after half an answer or before any.
func cut(half bool) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			if half {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/javascript\r\nContent-Length: 100\r\n\r\n{\"t\":{\"t\":")
			}
			_ = c.Close()
		}
	}
}

// TestFaults: what each SDK makes of a failure of one poll: which status it tells, and whether it goes on. It is why the
// daemon has a loop of its own; the sandbox must provoke it as the network does.
func TestFaults(t *testing.T) {
	const (
		accessDenied, badRequest, unknown, unexpectedly = "9", "8", "1", "14" // statuses of the Go SDK
		javascriptStops                                 = "PNDisconnectedUnexpectedlyCategory"
	)
	forbidden := `{"message":"Forbidden","payload":{"channels":["c"]},"error":true,"service":"Access Manager","status":403}`
	faults := []struct {
		name string
		do   func(http.ResponseWriter)
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

// The Go SDK's defects in its subscribe loop, each of which is a reason for the loop in network/link.

// TestGoSDKReorders: one goroutine per message hands it to the listener, so that they overtake each other.
func TestGoSDKReorders(t *testing.T) {
	k := network(t)
	c := start(t, "go", k.open("reader"))
	c.subscribe(command{Channels: []string{"order"}})
	writer := k.open("writer")
	var connections sync.WaitGroup
	defer connections.Wait()
	for round := range 100 {
		// Several at once, so that they come in one answer.
		for range 8 {
			connections.Go(func() {
				for i := range 25 {
					res, err := http.Get(fmt.Sprintf("http://%s/publish/%s/%s/0/order/0/%d?uuid=w", k.origin, writer.PublishKey, writer.SubscribeKey, i))
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		}
		last := ""
		for range 200 {
			e := c.next("message")
			if e.Timetoken < last {
				t.Logf("round %d: message %s came after %s", round, e.Timetoken, last)
				connections.Wait()
				http.DefaultClient.CloseIdleConnections()
				return
			}
			last = e.Timetoken
		}
	}
	t.Error("20,000 messages came in order: the SDK no longer has this defect")
}

// TestGoSDKMultipliesLoops: subscribe calls that follow each other at once start a loop each, and each message is
// delivered by each.
func TestGoSDKMultipliesLoops(t *testing.T) {
	k := network(t)
	for round := range 20 {
		c := start(t, "go", k.open(fmt.Sprintf("many-%d", round)))
		for i := range 10 {
			c.send(command{Op: "subscribe", Channels: []string{fmt.Sprintf("loop.%d.%d", round, i)}})
		}
		for {
			publish(t, k, fmt.Sprintf("loop.%d.0", round), "once")
			select {
			case e := <-c.events:
				if e.Event != "message" {
					continue
				}
			case <-time.After(50 * time.Millisecond):
				continue
			}
			break
		}
		// All loops poll by now. What comes twice has the same timetoken.
		seen := map[string]int{}
		publish(t, k, fmt.Sprintf("loop.%d.0", round), "end")
		limit := time.After(quiet)
		for done := false; !done; {
			select {
			case e := <-c.events:
				if e.Event == "message" {
					if seen[e.Timetoken]++; seen[e.Timetoken] > 1 {
						t.Logf("round %d: message %s was delivered again", round, e.Timetoken)
						return
					}
				}
			case <-limit:
				done = true
			}
		}
	}
	t.Error("no message came twice: the SDK no longer has this defect")
}

// TestGoSDKReadsStatusFromText: an error that mentions 403 anywhere counts as one, also in the cursor of the request that
// a broken connection ended.
func TestGoSDKReadsStatusFromText(t *testing.T) {
	k := network(t)
	const accessDenied = 9
	for cursor, denied := range map[string]bool{"17000403000000001": true, "17000000000000001": false} {
		p := newProxy(t, k.origin)
		p.mu.Lock()
		p.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/v2/subscribe/") {
				return false
			}
			if r.URL.Query().Get("tt") == "" {
				status(200, `{"t":{"t":"`+cursor+`","r":1},"m":[]}`)(w)
			} else {
				cut(false)(w)
			}
			return true
		}
		p.mu.Unlock()
		cfg := k.open("reader")
		cfg.Origin = p.origin()
		c := start(t, "go", cfg)
		c.do(command{Op: "subscribe", Channels: []string{"c"}}, nil)
		e := c.until("status", func(e event) bool { return e.Category != "Connected" })
		if (e.Number == accessDenied) != denied {
			t.Errorf("a connection that broke at cursor %s: status %d %s, want access denied: %v", cursor, e.Number, e.Category, denied)
		}
	}
}

// TestGoSDKDiesOfFileEvent: a file event whose message is a text ends the whole process.
func TestGoSDKDiesOfFileEvent(t *testing.T) {
	k := network(t)
	c := start(t, "go", k.open("reader"))
	c.subscribe(command{Channels: []string{"files"}})
	file := url.PathEscape(`{"message":"plain","file":{"id":"1","name":"f.txt"}}`)
	if status, body := get(t, k.origin, fmt.Sprintf("/v1/files/publish-file/%s/%s/0/files/0/%s?uuid=w", k.openPublish, k.openSubscribe, file)); status != 200 {
		t.Fatal(body)
	}
	select {
	case <-c.gone:
	case <-time.After(patience):
		t.Error("the process lives: the SDK no longer has this defect")
	}
}
