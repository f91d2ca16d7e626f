package stream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// delay adds a time to each publish.
func delay(d time.Duration) hook {
	return func(r *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
		select {
		case <-time.After(d):
			return pass()
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

// mangle changes the messages of the answers to polls.
func mangle(change func([]json.RawMessage) []json.RawMessage) hook {
	return func(_ *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
		resp, err := pass()
		if err != nil || resp.StatusCode != http.StatusOK {
			return resp, err
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		var answer struct {
			T json.RawMessage   `json:"t"`
			M []json.RawMessage `json:"m"`
		}
		if err := json.Unmarshal(b, &answer); err != nil {
			return nil, err
		}
		answer.M = change(answer.M)
		if b, err = json.Marshal(answer); err != nil {
			return nil, err
		}
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
		return resp, nil
	}
}

// later is a copy of an entry with another time of the network, as of a message that was published twice.
func later(entry json.RawMessage, n int) json.RawMessage {
	var m map[string]json.RawMessage
	_ = json.Unmarshal(entry, &m)
	m["p"] = json.RawMessage(fmt.Sprintf(`{"t":"9%016d","r":1}`, n))
	b, _ := json.Marshal(m)
	return b
}

// TestIntact: everything arrives as it was written though 1 % of the messages come twice and 2 % in another order.
func TestIntact(t *testing.T) {
	for _, d := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, true)
			dice, random := rand.New(rand.NewPCG(1, 2)), rand.NewChaCha8([32]byte{1})
			var mu sync.Mutex
			twice, swapped := 0, 0
			w.wire.set(delay(d), mangle(func(m []json.RawMessage) (out []json.RawMessage) {
				mu.Lock()
				defer mu.Unlock()
				dice := rand.New(rand.NewPCG(uint64(twice), uint64(len(m))))
				for i := 0; i < len(m); i++ {
					switch {
					case dice.IntN(100) < 1 || twice == 0:
						twice++
						out = append(out, m[i], later(m[i], twice))
					case (dice.IntN(100) < 2 || swapped == 0) && i+1 < len(m):
						swapped++
						out = append(out, m[i+1], m[i])
						i++
					default:
						out = append(out, m[i])
					}
				}
				return out
			}))
			r, sw := w.reader(), w.writer()
			var want, got []byte
			var reading sync.WaitGroup
			reading.Go(func() { got = all(t, r).bytes() })
			for len(want) < 2<<20 {
				data := make([]byte, dice.IntN(40_000))
				_, _ = random.Read(data)
				want = append(want, data...)
				must(t, sw.Write(context.Background(), stream.Bytes(data)))
			}
			must(t, sw.End(context.Background()))
			reading.Wait()
			if !bytes.Equal(want, got) || r.Stats().Gaps != 0 || r.Ended().Reason != stream.Ended {
				t.Errorf("%d of %d bytes arrived, %d gaps, ended as %v", len(got), len(want), r.Stats().Gaps, r.Ended())
			}
			mu.Lock()
			defer mu.Unlock()
			if twice == 0 || swapped == 0 {
				t.Errorf("%d messages came twice and %d in another order", twice, swapped)
			}
		})
	}
}

// TestLoss: a reader reports what is missing, yields the rest and ends.
func TestLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		w.wire.set(nil, mangle(func(m []json.RawMessage) []json.RawMessage {
			return slices.DeleteFunc(m, func(e json.RawMessage) bool { return bytes.Contains(e, []byte("lost")) })
		}))
		r, sw := w.reader(), w.writer()
		for _, s := range []string{"a", "lost", "lost", "b", "lost"} {
			must(t, sw.Write(within(t), stream.Text(s)))
			must(t, sw.Flush(within(t)))
		}
		must(t, sw.End(within(t)))
		g := all(t, r)
		if c := g.chunks(); !slices.Equal(c, []string{"a", "b"}) || g.end.Reason != stream.Ended {
			t.Errorf("read %q, ended as %v", c, g.end)
		}
		if len(g.gaps) != 2 || g.gaps[0].From != 1 || g.gaps[0].To != 2 || g.gaps[1].From != 4 || g.gaps[1].Messages() != 1 || g.gaps[0].Reason != stream.GapLost {
			t.Errorf("gaps %+v", g.gaps)
		}
		if s := r.Stats(); s.Gaps != 2 || s.Lost != 3 || s.Items != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestOutage: the network is away for 25 s in mid-stream. Everything arrives.
func TestOutage(t *testing.T) {
	for _, size := range []int{100, 100_000} { // whole messages, and messages in pieces
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, true)
			r := w.reader()
			var troubles []*stream.Error
			var mu sync.Mutex
			sw := w.writer(func(c *stream.WriterConfig) {
				c.OnError = func(e *stream.Error) {
					mu.Lock()
					defer mu.Unlock()
					troubles = append(troubles, e)
				}
			})
			var want []string
			write := func(n int) {
				for range n {
					s := strings.Repeat(string(rune('a'+len(want)%26)), size) + fmt.Sprint(len(want))
					want = append(want, s)
					must(t, sw.Write(context.Background(), stream.Text(s)))
				}
			}
			var got []string
			var reading sync.WaitGroup
			reading.Go(func() { got = all(t, r).chunks() })
			write(20)
			must(t, sw.Flush(context.Background()))
			begin := time.Now()
			gone := func(_ *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
				if time.Since(begin) < 25*time.Second {
					return nil, errReset
				}
				return pass()
			}
			w.wire.set(gone, gone)
			write(9) // fewer than the buffer holds
			must(t, sw.End(context.Background()))
			if took := time.Since(begin); took < 25*time.Second || took > 32*time.Second {
				t.Errorf("sent after %v", took)
			}
			reading.Wait()
			if !slices.Equal(got, want) {
				t.Errorf("%d of %d items arrived, %d gaps", len(got), len(want), r.Stats().Gaps)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(troubles) != 1 || troubles[0].Fatal {
				t.Errorf("reported %v", troubles)
			}
		})
	}
}

// TestUnreliableNetwork: one request in five fails, before or after it had its effect.
func TestUnreliableNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(3, 4))
		roll := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return dice.IntN(n)
		}
		bad := func(_ *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
			time.Sleep(time.Duration(roll(30)) * time.Millisecond)
			switch roll(15) {
			case 0:
				return answer(http.StatusServiceUnavailable, "busy"), nil
			case 1:
				_, _ = pass()
				return nil, errReset
			case 2:
				return answer(http.StatusOK, "<html>"), nil
			}
			return pass()
		}
		w.wire.set(bad, bad)
		r, sw := w.reader(), w.writer()
		var want []string
		var got got
		var reading sync.WaitGroup
		reading.Go(func() { got = all(t, r) })
		for n := range 300 {
			s := strings.Repeat(fmt.Sprint(n, " "), 1+roll(200))
			if n%100 == 50 {
				s = strings.Repeat("x", 60_000)
			}
			want = append(want, s)
			must(t, sw.Write(context.Background(), stream.Text(s)))
			time.Sleep(time.Duration(roll(40)) * time.Millisecond)
		}
		must(t, sw.End(context.Background()))
		reading.Wait()
		if !slices.Equal(got.chunks(), want) || len(got.gaps) != 0 {
			t.Errorf("%d of %d items arrived, gaps %v", len(got.items), len(want), got.gaps)
		}
		if sw.Stats().Retries < 10 {
			t.Errorf("%+v", sw.Stats())
		}
	})
}

// TestThrottled: a network that takes 15 messages a second gets about as many, and everything arrives.
func TestThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true, switches.PubNub{PublishRate: 15})
		w.wire.record()
		r, sw := w.reader(), w.writer()
		want := strings.Repeat("0123456789", 200_000)
		var got string
		var reading sync.WaitGroup
		reading.Go(func() { got = string(all(t, r).bytes()) })
		begin := time.Now()
		for n := 0; n < len(want); n += 1000 {
			must(t, sw.Write(context.Background(), stream.Text(want[n:n+1000])))
		}
		must(t, sw.End(context.Background()))
		took := time.Since(begin).Seconds()
		reading.Wait()
		if got != want || r.Stats().Gaps != 0 {
			t.Errorf("%d of %d bytes arrived, %d gaps", len(got), len(want), r.Stats().Gaps)
		}
		if rate := float64(len(w.published())) / took; rate < 8 || rate > 15.5 {
			t.Errorf("%.1f messages a second", rate)
		}
	})
}
