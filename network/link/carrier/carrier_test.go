package carrier

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const soon = 3 * time.Minute

func newCarrier(t *testing.T, change func(*Config)) *Carrier {
	t.Helper()
	var d net.Dialer
	cfg := Config{Dial: d.DialContext, DialTimeout: soon, Idle: 8, IdleTimeout: time.Minute, MaxAnswer: 1 << 20}
	change(&cfg)
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// serve is a server that counts its connections.
func serve(t *testing.T, h http.HandlerFunc) (srv *httptest.Server, opened *atomic.Int32) {
	t.Helper()
	opened = new(atomic.Int32)
	srv = httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	return srv, opened
}

func origin(srv *httptest.Server) func(*Config) {
	return func(c *Config) { c.Origin = srv.Listener.Addr().String() }
}

func TestExchange(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("tls ", secure), func(t *testing.T) {
			srv, opened := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.URL.Path == "/no" {
					w.Header().Set("Retry-After", "7")
					w.WriteHeader(http.StatusTooManyRequests)
				}
				fmt.Fprintf(w, "%s %s %s %s %d", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"), body, r.ContentLength)
			})
			if srv.Start(); secure {
				srv.Close()
				srv, opened = serve(t, srv.Config.Handler.ServeHTTP)
				srv.StartTLS()
			}
			defer srv.Close()
			c := newCarrier(t, func(cfg *Config) {
				origin(srv)(cfg)
				if cfg.Secure = secure; secure {
					roots := x509.NewCertPool()
					roots.AddCert(srv.Certificate())
					cfg.TLS = &tls.Config{RootCAs: roots}
				}
			})
			for range 3 {
				a, wrote, err := c.Do(t.Context(), soon, Request{Method: "POST", Target: []byte("/a?b=%22"), Body: []byte(`{"x":1}`)})
				if err != nil || !wrote || a.Status != 200 || string(a.Body) != `POST /a?b=%22 application/json {"x":1} 7` {
					t.Fatalf("%+v %q, wrote %v: %v", a, a.Body, wrote, err)
				}
				a, _, err = c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/no")})
				if err != nil || a.Status != 429 || a.Header.Get("Retry-After") != "7" || string(a.Body) != "GET /no   0" {
					t.Fatalf("%+v %q: %v", a, a.Body, err)
				}
			}
			if n := opened.Load(); n != 1 {
				t.Errorf("%d connections for requests one after the other", n)
			}
		})
	}
}

// A certificate that is not trusted is refused before anything is sent.
func TestCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	defer srv.Close()
	c := newCarrier(t, func(cfg *Config) { origin(srv)(cfg); cfg.Secure = true })
	_, wrote, err := c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")})
	if unknown := (*tls.CertificateVerificationError)(nil); !errors.As(err, &unknown) || wrote {
		t.Errorf("wrote %v: %v", wrote, err)
	}
}

// script is a peer that gives each connection the next of the answers, and closes the connection after it if it ends so.
func script(t *testing.T, answers ...string) (change func(*Config), requests *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	requests = new(atomic.Int32)
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, nc)
			mu.Unlock()
			all.Go(func() {
				in := bufio.NewReader(nc)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					n := int(requests.Add(1)) - 1
					if n >= len(answers) {
						return
					}
					text, last := strings.CutSuffix(answers[n], "|")
					_, _ = io.WriteString(nc, text)
					if last {
						_ = nc.Close()
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, nc := range conns {
			_ = nc.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return func(c *Config) { c.Origin = l.Addr().String() }, requests
}

func TestUnusualAnswers(t *testing.T) {
	for _, s := range []struct{ name, answer, want string }{
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", "200 abc"},
		{"until the end", "HTTP/1.1 200 OK\r\n\r\nabc|", "200 abc"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc|", "200 abc"},
		{"close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc|", "200 abc"},
		{"interim", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "200 abc"},
		{"long head", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20_000) + "\r\nContent-Length: 3\r\n\r\nabc", "200 abc"},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", "204 "},
		{"redirect", "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "302 "},
		{"refused", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "403 no"},
	} {
		t.Run(s.name, func(t *testing.T) {
			peer, requests := script(t, s.answer, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
			c := newCarrier(t, peer)
			a, _, err := c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")})
			if got := fmt.Sprintf("%d %s", a.Status, a.Body); err != nil || got != s.want {
				t.Fatalf("%q: %v", got, err)
			}
			a, _, err = c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")})
			if err != nil || string(a.Body) != "next" || requests.Load() != 2 {
				t.Errorf("the request after it: %q, %v, %d requests", a.Body, err, requests.Load())
			}
		})
	}
}

func TestBadAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":          "|",
		"not HTTP":         "hello\r\n\r\n|",
		"cut short":        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab|",
		"cut in the head":  "HTTP/1.1 200 OK\r\nContent-Le|",
		"too large":        "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + strings.Repeat("x", 101),
		"too large, parts": "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 101) + "|",
		"endless head":     "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead+200),
		"endless interim":  strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20),
	} {
		t.Run(name, func(t *testing.T) {
			peer, _ := script(t, answer, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")
			c := newCarrier(t, func(cfg *Config) { peer(cfg); cfg.MaxAnswer = 100 })
			a, wrote, err := c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")})
			if err == nil || !wrote {
				t.Fatalf("%+v, wrote %v", a, wrote)
			}
			if a, _, err = c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")}); err != nil || string(a.Body) != "next" {
				t.Errorf("the request after it: %q, %v", a.Body, err)
			}
		})
	}
}

// A connection that the peer closed while it was idle is found before anything is sent.
func TestStaleConnection(t *testing.T) {
	const usual = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
	for name, first := range map[string]string{"closed": usual + "|", "spoken to": usual + "unasked"} {
		t.Run(name, func(t *testing.T) {
			peer, requests := script(t, first, usual)
			c := newCarrier(t, peer)
			if _, _, err := c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")}); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(soon); ; { // until what the peer did has arrived
				c.mu.Lock()
				arrived := len(c.idle) == 0 || time.Since(c.idle[0].used) > fresh && !c.idle[0].peek.silent(c.idle[0].peeking)
				c.mu.Unlock()
				if arrived {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("nothing arrived")
				}
			}
			if _, _, err := c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")}); err != nil || requests.Load() != 2 {
				t.Errorf("%v, %d requests", err, requests.Load())
			}
		})
	}
}

func TestEnds(t *testing.T) {
	asked := make(chan struct{})
	release := make(chan struct{})
	srv, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			asked <- struct{}{}
			<-release
		case "/slow": // given up, perhaps before it is here
			<-release
		}
	})
	srv.Start()
	defer srv.Close()
	defer close(release)
	hang := Request{Method: "GET", Target: []byte("/hang")}

	c := newCarrier(t, origin(srv))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("no longer wanted")
	go func() { <-asked; cancel(why) }()
	if _, wrote, err := c.Do(ctx, soon, hang); !errors.Is(err, why) || !wrote {
		t.Errorf("canceled: wrote %v, %v", wrote, err)
	}
	if _, wrote, err := c.Do(ctx, soon, hang); !errors.Is(err, why) || wrote {
		t.Errorf("canceled before: wrote %v, %v", wrote, err)
	}
	if _, _, err := c.Do(t.Context(), 50*time.Millisecond, Request{Method: "GET", Target: []byte("/slow")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("too slow: %v", err)
	}
	if a, _, err := c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")}); err != nil || a.Status != 200 {
		t.Errorf("after them: %+v, %v", a, err)
	}
	go func() { <-asked; c.Close() }()
	if _, _, err := c.Do(t.Context(), soon, hang); err == nil {
		t.Error("a request outlived Close")
	}
	if _, wrote, err := c.Do(t.Context(), soon, hang); !errors.Is(err, ErrClosed) || wrote {
		t.Errorf("after Close: wrote %v, %v", wrote, err)
	}
}

// An answer that has begun must go on; before it begins only the timeout counts.
func TestStall(t *testing.T) {
	begun := make(chan struct{})
	srv, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/late":
			time.Sleep(200 * time.Millisecond)
			return
		case "/steady":
			for range 5 {
				_, _ = io.WriteString(w, strings.Repeat("x", 3000))
				w.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 3000))
		w.(http.Flusher).Flush()
		begun <- struct{}{}
		<-r.Context().Done()
	})
	srv.Start()
	defer srv.Close()
	c := newCarrier(t, origin(srv))
	ask := func(ctx context.Context, path string, stall time.Duration) (Answer, error) {
		a, _, err := c.Do(ctx, soon, Request{Method: "GET", Target: []byte(path), Stall: stall})
		return a, err
	}
	if _, err := ask(t.Context(), "/late", 100*time.Millisecond); err != nil {
		t.Errorf("late: %v", err)
	}
	if a, err := ask(t.Context(), "/steady", soon); err != nil || len(a.Body) != 15_000 {
		t.Errorf("steady: %d bytes, %v", len(a.Body), err)
	}
	go func() { <-begun }()
	if _, err := ask(t.Context(), "/", 100*time.Millisecond); !errors.Is(err, errStalled) {
		t.Errorf("stalled: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if _, err := ask(ctx, "/", soon); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	gone := make(chan struct{}, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			gone <- struct{}{}
		}
	}
	srv.Start()
	defer srv.Close()
	c := newCarrier(t, func(cfg *Config) { origin(srv)(cfg); cfg.IdleTimeout = 20 * time.Millisecond })
	if _, _, err := c.Do(t.Context(), soon, Request{Method: "GET", Target: []byte("/")}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
	case <-time.After(soon):
		t.Error("the connection is kept")
	}
}

// A burst takes no more connections than are made at once and needed, and everybody gets an answer.
func TestBurst(t *testing.T) {
	srv, opened := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	srv.Start()
	defer srv.Close()
	c := newCarrier(t, origin(srv))
	var all sync.WaitGroup
	const requests = 400
	for i := range requests {
		all.Go(func() {
			body := fmt.Append(nil, i)
			if a, _, err := c.Do(t.Context(), soon, Request{Method: "POST", Target: []byte("/"), Body: body}); err != nil || !bytes.Equal(a.Body, body) {
				t.Errorf("request %d: %q, %v", i, a.Body, err)
			}
		})
	}
	all.Wait()
	if n := opened.Load(); n > requests/2 {
		t.Errorf("%d connections for %d requests at once", n, requests)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.busy) != 0 || len(c.waiting) != 0 || len(c.idle) > 8 || len(c.dials) != 0 {
		t.Errorf("left: %d busy, %d waiting, %d idle, %d dials", len(c.busy), len(c.waiting), len(c.idle), len(c.dials))
	}
}

func TestOrigins(t *testing.T) {
	for origin, want := range map[string]string{
		"ps.pndsn.com": "ps.pndsn.com:443", "127.0.0.1:80": "127.0.0.1:80", "[::1]": "[::1]:443", "[::1]:8443": "[::1]:8443",
		"": "", "a b": "", "a/b": "", "a\r\nX: y": "", "u@a": "",
	} {
		c, err := New(Config{Origin: origin, Secure: true})
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken", origin)
			}
			continue
		}
		if err != nil || c.address != want {
			t.Errorf("%q: %v", origin, err)
		}
	}
}
