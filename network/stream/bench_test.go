package stream_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/stream"
)

// delayed answers publishes later.
func delayed(d time.Duration) hook {
	return func(r *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
		time.Sleep(d)
		return pass()
	}
}

// BenchmarkStream: one writer, one reader, both in this process with the network between them.
func BenchmarkStream(b *testing.B) {
	for _, delay := range []time.Duration{0, 20 * time.Millisecond} {
		for _, size := range []int{1 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%v/%d", delay, size), func(b *testing.B) {
				w := newWorld(b, false)
				if delay > 0 {
					w.wire.set(delayed(delay), nil)
				}
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(rand.Uint32())
					if size == 1<<10 { // text
						data[i] = 'a' + data[i]%26
					}
				}
				r := w.reader()
				sw := w.writer()
				var total int64
				var gaps int
				var reading sync.WaitGroup
				reading.Go(func() {
					for {
						d, err := r.Next(context.Background())
						if err != nil {
							return
						}
						if d.Gap != nil {
							gaps += int(d.Gap.Messages())
						}
						for _, i := range d.Items {
							total += int64(len(i.Data))
						}
					}
				})
				b.SetBytes(int64(size))
				b.ResetTimer()
				for range b.N {
					if err := sw.Write(context.Background(), stream.Bytes(data)); err != nil {
						b.Fatal(err)
					}
				}
				if err := sw.End(context.Background()); err != nil {
					b.Fatal(err)
				}
				reading.Wait()
				b.StopTimer()
				s := sw.Stats()
				b.ReportMetric(float64(s.Messages)/b.Elapsed().Seconds(), "msg/s")
				b.ReportMetric(float64(gaps), "lost")
				if total != int64(size)*int64(b.N) && gaps == 0 {
					b.Errorf("%d bytes of %d arrived", total, size*b.N)
				}
			})
		}
	}
}

// BenchmarkLoneWrite: from the write to the reader, with nothing else under way.
func BenchmarkLoneWrite(b *testing.B) {
	w := newWorld(b, false)
	r, sw := w.reader(), w.writer()
	var took []time.Duration
	for range b.N {
		begin := time.Now()
		must(b, sw.Write(context.Background(), stream.Text("token")))
		next(b, r, 1)
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
