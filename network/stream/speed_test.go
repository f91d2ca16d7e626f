package stream_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/stream"
)

// sdk is what Blocks' own Python SDK reaches with 20 ms added to each publish, in bytes a second.
var sdk = map[int]float64{1 << 10: 189e3, 64 << 10: 2.6e6}

// TestSpeed: with 20 ms added to each publish one stream carries ten times as much as the SDK's, whatever the machine does:
// the time is virtual, so only waiting counts. Everything arrives.
func TestSpeed(t *testing.T) {
	for size, total := range map[int]int{1 << 10: 2 << 20, 64 << 10: 16 << 20} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, true)
			w.wire.set(func(_ *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
				time.Sleep(20 * time.Millisecond)
				return pass()
			}, nil)
			r, sw := w.reader(), w.writer()
			random := rand.NewChaCha8([32]byte{1})
			sent, received := sha256.New(), sha256.New()
			var reading sync.WaitGroup
			reading.Go(func() {
				for {
					d, err := r.Next(context.Background())
					if err != nil {
						return
					}
					if d.Gap != nil {
						t.Errorf("%d messages lost", d.Gap.Messages())
					}
					for _, i := range d.Items {
						received.Write(i.Data)
					}
				}
			})
			begin := time.Now()
			data := make([]byte, size)
			for n := 0; n < total; n += size {
				random.Read(data)
				if size == 1<<10 { // text
					for i := range data {
						data[i] = 'a' + data[i]%26
					}
				}
				sent.Write(data)
				must(t, sw.Write(context.Background(), stream.Bytes(data)))
			}
			must(t, sw.End(context.Background()))
			speed := float64(total) / time.Since(begin).Seconds()
			t.Logf("%d bytes at a time: %.1f MB/s, %.0f times the SDK's", size, speed/1e6, speed/sdk[size])
			if speed < 10*sdk[size] {
				t.Errorf("%d bytes at a time: %.1f MB/s is less than ten times %.1f", size, speed/1e6, sdk[size]/1e6)
			}
			reading.Wait()
			if !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
				t.Error("something else arrived than was sent")
			}
		})
	}
}

// small returns a writer whose messages and backlog are small, and room for an item that needs pieces: where it
// is messages that count, bytes only cost time.
func (w *world) small() (*stream.Writer, []byte) {
	w.t.Helper()
	return w.writer(func(c *stream.WriterConfig) { c.Limits.MaxMessage, c.Limits.Buffer = 1024, 64<<10 }), make([]byte, 1<<10)
}

// TestReadersCanFollowWhenAllIsBusy: where answers are slow now and then, a reader may be busy for twice as long: no more goes
// out meanwhile than the network keeps.
func TestReadersCanFollowWhenAllIsBusy(t *testing.T) {
	const keeps, slow, busy = 100, 150 * time.Millisecond, 300 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		var mu sync.Mutex
		var sent []time.Time
		begin := time.Now()
		w.wire.set(func(_ *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
			mu.Lock()
			sent = append(sent, time.Now())
			took := 20 * time.Millisecond
			if len(sent)%100 == 99 {
				took = slow
			}
			mu.Unlock()
			time.Sleep(took)
			return pass()
		}, nil)
		sw, data := w.small()
		random := rand.NewChaCha8([32]byte{1})
		for time.Since(begin) < 10*time.Second {
			random.Read(data)
			must(t, sw.Write(context.Background(), stream.Bytes(data)))
		}
		must(t, sw.End(context.Background()))
		most := 0
		for i, from := range sent {
			n := 0
			for _, at := range sent[i:] {
				if at.Sub(from) >= busy {
					break
				}
				if from.Sub(begin) > time.Second { // until then it has not seen how slow it can be
					n++
				}
			}
			most = max(most, n)
		}
		t.Logf("%d messages, at most %d within %s", len(sent), most, busy)
		if most > keeps {
			t.Errorf("%d messages went out within %s: a reader that was busy meanwhile has lost some", most, busy)
		}
	})
}

// TestReadersCanFollow: the network keeps 100 messages of a channel, and says nothing of who has read them. After a stall,
// too, no more than that go out within the 40 ms that a reader may be busy.
func TestReadersCanFollow(t *testing.T) {
	const keeps, busy = 100, 40 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		var mu sync.Mutex
		var sent []time.Time
		stall := time.Now().Add(time.Second)
		w.wire.set(func(_ *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
			mu.Lock()
			sent = append(sent, time.Now())
			mu.Unlock()
			if d := time.Until(stall); d > 0 && d < 200*time.Millisecond {
				time.Sleep(d)
			}
			time.Sleep(2 * time.Millisecond)
			return pass()
		}, nil)
		sw, data := w.small()
		random := rand.NewChaCha8([32]byte{1})
		for time.Now().Before(stall.Add(time.Second)) {
			random.Read(data)
			must(t, sw.Write(context.Background(), stream.Bytes(data)))
		}
		must(t, sw.End(context.Background()))
		most := 0
		for i, from := range sent {
			n := 0
			for _, at := range sent[i:] {
				if at.Sub(from) < busy {
					n++
				}
			}
			most = max(most, n)
		}
		t.Logf("%d messages, at most %d within %s", len(sent), most, busy)
		if most > keeps {
			t.Errorf("%d messages went out within %s: a reader that was busy meanwhile has lost some", most, busy)
		}
	})
}
