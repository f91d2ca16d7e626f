package stream_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/sandbox/access"
)

// TestTokenEnds: when the token's life is over, the writer gets another one, or fails and says so.
func TestTokenEnds(t *testing.T) {
	for _, renews := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, true)
			token := w.token(access.Write, time.Minute)
			var mu sync.Mutex
			var fatal *stream.Error
			r := w.reader()
			sw := w.writer(func(c *stream.WriterConfig) {
				c.Endpoint.Token = func() string {
					mu.Lock()
					defer mu.Unlock()
					return token
				}
				c.OnError = func(e *stream.Error) { fatal = e }
				if renews {
					c.OnDenied = func(context.Context) error {
						fresh := w.token(access.Write, time.Hour)
						mu.Lock()
						defer mu.Unlock()
						token = fresh
						return nil
					}
				}
			})
			must(t, sw.Write(within(t), stream.Text("a")))
			must(t, sw.Flush(within(t)))
			time.Sleep(2 * time.Minute)
			must(t, sw.Write(context.Background(), stream.Text("b")))
			err := sw.Flush(context.Background())
			if !renews {
				if err == nil || fatal == nil || !fatal.Fatal || fatal.Category != stream.AccessDenied || sw.Err() != error(fatal) {
					t.Errorf("flush: %v, reported %+v", err, fatal)
				}
				<-sw.Done()
				for name, err := range map[string]error{"write": sw.Write(context.Background(), stream.Text("c")), "flush": sw.Flush(context.Background()), "end": sw.End(context.Background())} {
					if err != error(fatal) {
						t.Errorf("%s after that: %v", name, err)
					}
				}
				return
			}
			must(t, err)
			must(t, sw.End(context.Background()))
			if g := all(t, r); !slices.Equal(g.chunks(), []string{"a", "b"}) || fatal != nil {
				t.Errorf("read %q, reported %v", g.chunks(), fatal)
			}
		})
	}
}

// TestReaderIsRefused: a refusal ends the reader, a request that makes no sense too; trouble does not.
func TestReaderIsRefused(t *testing.T) {
	for status, want := range map[int]struct {
		reason   stream.EndReason
		category stream.Category
	}{
		http.StatusForbidden:          {stream.Revoked, stream.AccessDenied},
		http.StatusBadRequest:         {stream.Failed, stream.BadRequest},
		http.StatusServiceUnavailable: {stream.Ended, stream.NetworkIssues},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, true)
			sw := w.writer()
			must(t, sw.Write(within(t), stream.Text("a")))
			var errs []*stream.Error
			var mu sync.Mutex
			r := w.reader(func(c *stream.ReaderConfig) {
				c.OnError = func(e *stream.Error) {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, e)
				}
			})
			next(t, r, 1)
			synctest.Wait() // for the next poll
			begin := time.Now()
			w.wire.set(nil, func(_ *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
				if time.Since(begin) > 5*time.Second {
					return pass()
				}
				return answer(status, `{"message":"no"}`), nil
			})
			must(t, sw.Write(within(t), stream.Text("b"))) // ends the poll under way
			synctest.Wait()
			must(t, sw.End(within(t)))
			g := all(t, r)
			if g.end.Reason != want.reason || len(errs) != 1 || errs[0].Category != want.category || errs[0].Fatal == (want.reason == stream.Ended) {
				t.Errorf("status %d: ended as %v, reported %v", status, g.end, errs)
			}
			if len(g.items) != 1 {
				t.Errorf("status %d: %d items of what had arrived", status, len(g.items))
			}
		})
	}
}

// TestNewTokenOfReader: a reader that can get another token goes on, as long as the network takes one.
func TestNewTokenOfReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		token := w.token(access.Read, time.Minute)
		renewals := 0
		r := w.reader(func(c *stream.ReaderConfig) {
			c.Endpoint.Token = func() string { return token }
			c.OnDenied = func(context.Context) error {
				if renews := renewals; renews == 1 {
					return fmt.Errorf("the task is over")
				}
				renewals++
				token = w.token(access.Read, time.Minute)
				return nil
			}
		})
		sw := w.writer()
		must(t, sw.Write(within(t), stream.Text("a")))
		next(t, r, 1)
		time.Sleep(90 * time.Second)
		must(t, sw.Write(context.Background(), stream.Text("b")))
		if d, err := r.Next(context.Background()); err != nil || string(d.Items[0].Data) != "b" {
			t.Errorf("%v, %v", d, err)
		}
		time.Sleep(5 * time.Minute)
		must(t, sw.Write(context.Background(), stream.Text("c")))
		_, err := r.Next(context.Background())
		if end, ok := err.(*stream.End); !ok || end.Reason != stream.Revoked {
			t.Errorf("without another token: %v", err)
		}
	})
}
