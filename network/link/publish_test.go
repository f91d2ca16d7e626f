package link_test

import (
	"context"
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

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/sandbox/access"
)

func isPublish(r *http.Request) bool { return strings.HasPrefix(pathOf(r), "/publish/") }

func TestPublish(t *testing.T) {
	n := newNetwork(t)
	type seen struct {
		length            int64
		encoding          []string
		contentType, body string
		uri               string
	}
	var got seen
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		if isPublish(r) && r.GetBody != nil {
			b, _ := r.GetBody()
			text, _ := io.ReadAll(b)
			got = seen{r.ContentLength, r.TransferEncoding, r.Header.Get("Content-Type"), string(text), pathOf(r) + "?" + r.URL.RawQuery}
		}
		return nil, nil, false
	})
	l := n.link()
	l.SetToken("link's")
	body := `{"type":"progress","message":"a < b & \"ü\" 😀","n":90071992547409931}`
	tt, err := l.Publish(within(t), link.Message{Channel: "u.org 1.task/2", Token: "task's=", Meta: []byte(`{"taskId":"x y"}`), Body: []byte(body), Store: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(tt) != 17 {
		t.Errorf("timetoken %s", tt)
	}
	if got.body != body || got.length != int64(len(body)) || got.encoding != nil || got.contentType != "application/json" {
		t.Errorf("sent %+v", got)
	}
	if !strings.HasPrefix(got.uri, "/publish/pub-c-test/sub-c-test/0/u.org%201.task%2F2/0?") || !strings.Contains(got.uri, "auth=task%27s%3D") || !strings.Contains(got.uri, "store=1") || strings.Contains(got.uri, "link") {
		t.Errorf("sent to %s", got.uri)
	}
	stored, err := l.History(within(t), "u.org 1.task/2", "", "")
	if err != nil {
		t.Fatal(err)
	}
	want := []link.Stored{{Body: []byte(body), Meta: []byte(`{"taskId":"x y"}`), Timetoken: tt, Publisher: "tester"}}
	if d := cmp.Diff(want, stored); d != "" {
		t.Error(d)
	}
	if _, err := l.Publish(within(t), link.Message{Channel: "c", Body: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.uri, "auth=link%27s") || !strings.Contains(got.uri, "store=0") {
		t.Errorf("without a token of its own sent to %s", got.uri)
	}
}

func TestPublishFinalAnswers(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.withAccess = true })
	l := n.link()
	for name, m := range map[string]link.Message{
		"403": {Channel: "c", Token: "wrong", Body: []byte(`1`)},
		"413": {Channel: "mine", Token: n.grant(map[string]access.Right{"mine": access.Write}, ""), Body: []byte(`"` + strings.Repeat("x", 33<<10) + `"`)},
		"400": {Channel: "mine", Token: n.grant(map[string]access.Right{"mine": access.Write}, ""), Body: []byte(`{`)},
	} {
		_, err := l.Publish(within(t), m)
		var status *link.StatusError
		if !errors.As(err, &status) || fmt.Sprint(status.Status) != name || len(status.Body) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := len(n.faults.requests("/publish/")); got != 3 {
		t.Errorf("%d requests for 3 final answers", got)
	}
	if _, err := l.Publish(within(t), link.Message{Channel: "c", Body: []byte("1"), Meta: []byte("{")}); err == nil {
		t.Error("metadata that is not JSON was sent")
	}
}

// A stored message whose answer is lost is looked up, not sent again; one that never arrived is sent again.
func TestPublishAfterLostAnswers(t *testing.T) {
	lost := map[string]fault{
		"answer lost":      func(*http.Request) (*http.Response, error, bool) { return nil, errReset, true },
		"answer cut":       func(*http.Request) (*http.Response, error, bool) { return cutAnswer(`[1,"Se`), nil, true },
		"bad gateway":      func(*http.Request) (*http.Response, error, bool) { return answer(502, `400 403`), nil, true },
		"no answer at all": func(*http.Request) (*http.Response, error, bool) { return nil, errReset, false },
		"unavailable":      func(*http.Request) (*http.Response, error, bool) { return answer(503, ``), nil, false },
		"short array":      func(*http.Request) (*http.Response, error, bool) { return answer(200, `[1,"Sent"]`), nil, false },
		"too many":         func(*http.Request) (*http.Response, error, bool) { return answer(429, ``), nil, false },
	}
	for name, f := range lost {
		t.Run(name, func(t *testing.T) {
			n := newNetwork(t)
			l := n.link()
			m := link.Message{Channel: "c", Body: []byte(`{"a": 1}`), Store: true}
			first, err := l.Publish(within(t), m) // an equal message from before must not be taken for the lost one
			if err != nil {
				t.Fatal(err)
			}
			var left atomic.Int32
			left.Store(2)
			n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
				if !isPublish(r) || left.Add(-1) < 0 {
					return nil, nil, false
				}
				trace(r)
				return f(r)
			})
			second, err := l.Publish(within(t), m)
			if err != nil {
				t.Fatal(err)
			}
			if got := n.stored("c"); len(got) != 2 {
				t.Errorf("stored %d times: %v", len(got), got)
			}
			all, err := l.History(within(t), "c", "", first)
			if err != nil || len(all) != 1 || all[0].Timetoken != second {
				t.Errorf("timetokens %s and %s, history %v, %v", first, second, all, err)
			}
		})
	}
}

func TestPublishSendsAgainWhereHistoryMayNotBeRead(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.withAccess = true })
	l := n.link()
	var left atomic.Int32
	left.Store(1)
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		if isPublish(r) && left.Add(-1) >= 0 {
			trace(r)
			return nil, errReset, true
		}
		return nil, nil, false
	})
	token := n.grant(map[string]access.Right{"c": access.Write}, "tester")
	if _, err := l.Publish(within(t), link.Message{Channel: "c", Token: token, Body: []byte("1"), Store: true}); err != nil {
		t.Fatal(err)
	}
	if got := len(n.stored("c")); got != 2 {
		t.Errorf("stored %d times", got)
	}
	if got := len(n.faults.requests("/v3/history/")); got != 1 {
		t.Errorf("asked history %d times", got)
	}
}

// An unstored message is never looked up.
func TestPublishUnstoredIsSentAgain(t *testing.T) {
	n := newNetwork(t)
	l := n.link()
	var left atomic.Int32
	left.Store(1)
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		if isPublish(r) && left.Add(-1) >= 0 {
			trace(r)
			return nil, errReset, true
		}
		return nil, nil, false
	})
	if _, err := l.Publish(within(t), link.Message{Channel: "c", Body: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if got := len(n.faults.requests("/v3/history/")); got != 0 {
		t.Errorf("asked history %d times", got)
	}
}

func TestPublishGivesUpWithItsContext(t *testing.T) {
	n := newNetwork(t)
	l := n.link()
	ctx, cancel := context.WithCancelCause(context.Background())
	var asked atomic.Int32
	n.faults.set(func(*http.Request) (*http.Response, error, bool) {
		if asked.Add(1) == 2 { // it knows the answer to the first
			cancel(context.DeadlineExceeded)
		}
		return answer(503, `{"message":"down for repair"}`), nil, false
	})
	_, err := l.Publish(ctx, link.Message{Channel: "c", Token: "secret", Body: []byte("1")})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "down for repair") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	canceled, stop := context.WithCancel(context.Background())
	stop()
	if _, err := l.Publish(canceled, link.Message{Channel: "c", Body: []byte("1")}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// What kills or hangs the SDK must not be reachable: a second Destroy panics, a publish after it hangs.
func TestCloseEndsEverythingOnce(t *testing.T) {
	n := newNetwork(t)
	arrived := make(chan struct{}, 20)
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		arrived <- struct{}{}
		<-r.Context().Done()
		return nil, r.Context().Err(), false
	})
	l := n.link()
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			if _, err := l.Publish(context.Background(), link.Message{Channel: "c", Body: []byte("1"), Store: true}); !errors.Is(err, link.ErrClosed) {
				t.Errorf("publish ended with %v", err)
			}
		})
	}
	for range 20 {
		<-arrived
	}
	for range 3 {
		calls.Go(l.Close)
	}
	calls.Wait()
	if _, err := l.Publish(context.Background(), link.Message{Channel: "c", Body: []byte("1")}); !errors.Is(err, link.ErrClosed) {
		t.Errorf("publish after Close: %v", err)
	}
	if _, err := l.Time(context.Background()); !errors.Is(err, link.ErrClosed) {
		t.Errorf("time after Close: %v", err)
	}
	if _, err := l.History(context.Background(), "c", "", ""); !errors.Is(err, link.ErrClosed) {
		t.Errorf("history after Close: %v", err)
	}
}

func TestPublishConcurrently(t *testing.T) {
	n := newNetwork(t)
	l := n.link(func(c *link.Config) { c.Transport = nil })
	var calls sync.WaitGroup
	for i := range 16 {
		calls.Go(func() {
			for j := range 20 {
				if _, err := l.Publish(context.Background(), link.Message{Channel: "c", Body: fmt.Append(nil, i*100+j), Store: true}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	if got := len(n.stored("c")); got != 320 {
		t.Errorf("%d messages stored", got)
	}
}

// Concurrent requests reuse connections instead of opening one each.
func TestConnectionsAreKept(t *testing.T) {
	h, n := newHandler(t)
	var opened atomic.Int32
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	n.origin = strings.TrimPrefix(srv.URL, "http://")
	l := n.link()
	var calls sync.WaitGroup
	const publishers = 48
	for range publishers {
		calls.Go(func() {
			for range 20 {
				if _, err := l.Publish(context.Background(), link.Message{Channel: "c", Body: []byte("1")}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	if got := opened.Load(); got > 2*publishers { // the transport may dial beside a connection that becomes free
		t.Errorf("%d connections for %d publishers", got, publishers)
	}
}
