package stream_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// TestSlowReader: a reader whose items nobody takes stops asking, keeps its memory, and reports what the network did not
// keep. Nobody else notices.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		slow := w.reader(func(c *stream.ReaderConfig) { c.Queue = 100_000 })
		quick := w.reader()
		sw := w.writer()
		item := strings.Repeat("x", 16_000)
		const items = 500
		var got got
		var reading sync.WaitGroup
		reading.Go(func() { got = all(t, quick) })
		for range items {
			must(t, sw.Write(context.Background(), stream.Text(item)))
			must(t, sw.Flush(context.Background()))
			time.Sleep(10 * time.Millisecond)
		}
		must(t, sw.End(context.Background()))
		reading.Wait()
		if len(got.items) != items || len(got.gaps) != 0 {
			t.Errorf("the quick reader got %d of %d items, gaps %v", len(got.items), items, got.gaps)
		}
		if s := slow.Stats(); s.Waiting > 100_000+20_000 {
			t.Errorf("%d bytes wait", s.Waiting)
		}
		late := all(t, slow)
		missing := int64(0)
		for _, g := range late.gaps {
			missing += g.Messages()
		}
		if missing == 0 || int64(len(late.items))+missing != items || late.end.Reason != stream.Ended {
			t.Errorf("%d items and %d missing of %d, ended as %v", len(late.items), missing, items, late.end)
		}
	})
}

// TestSpareIsShared: what readers hold beyond their own buffers is bounded for all of them together, and given back when it
// is read, or when they are closed.
func TestSpareIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		const own, spare, size = 10_000, 50_000, 1000
		shared := stream.NewSpare(spare)
		change := func(c *stream.ReaderConfig) { c.Queue, c.Spare = own, shared }
		one, two := w.reader(change), w.reader(change)
		sw := w.writer()
		for range 90 { // fewer than the network keeps
			must(t, sw.Write(context.Background(), stream.Text(strings.Repeat("x", size))))
			must(t, sw.Flush(context.Background()))
			time.Sleep(10 * time.Millisecond)
		}
		must(t, sw.End(context.Background()))
		waiting := func() int64 { return one.Stats().Waiting + two.Stats().Waiting }
		if got := waiting(); got < spare || got > 2*own+spare+2*2*size {
			t.Errorf("%d bytes wait, and %d may", got, 2*own+spare)
		}
		if got := all(t, one); len(got.items) != 90 || len(got.gaps) != 0 {
			t.Errorf("the first reader got %d items, gaps %v", len(got.items), got.gaps)
		}
		one.End(stream.Closed, "")
		synctest.Wait()
		third := w.reader(func(c *stream.ReaderConfig) { c.Queue, c.Spare = own, shared })
		time.Sleep(time.Second)
		if got := third.Stats().Waiting; got < own+size {
			t.Errorf("what was given back is not used: %d bytes wait", got)
		}
		two.End(stream.Closed, "")
		third.End(stream.Closed, "")
		if got := shared.Free(); got != spare {
			t.Errorf("%d of %d bytes were given back", got, spare)
		}
	})
}

// TestSlowReaderMissesNothingThatWaits: while the reader does not ask, what it lacks is not given up.
func TestSlowReaderMissesNothingThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		publish := func(seq int) {
			body := fmt.Sprintf(`{"type":"stream_data","seq":%d,"ts":%d,"chunks":["%d"]}`, seq, seq+1, seq)
			w.space.Publish(pubsub.Publication{Channel: channel, Publisher: "sdk", Body: []byte(body)})
		}
		publish(2)
		publish(0)
		r := w.reader(func(c *stream.ReaderConfig) { c.Queue, c.EndMarker = 1, false })
		synctest.Wait()
		publish(1)
		time.Sleep(5 * time.Second)
		if g := next(t, r, 3); !slices.Equal(g.chunks(), []string{"0", "1", "2"}) || len(g.gaps) != 0 {
			t.Errorf("read %q, gaps %v", g.chunks(), g.gaps)
		}
	})
}

// TestBackPressure: while the network hangs, writes wait for room and memory is bounded.
func TestBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, true)
		release := make(chan struct{})
		w.wire.set(func(r *http.Request, _ []byte, pass func() (*http.Response, error)) (*http.Response, error) {
			select {
			case <-release:
				return pass()
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}, nil)
		r := w.reader()
		sw := w.writer(func(c *stream.WriterConfig) { c.Limits.Buffer = 10_000 })
		item := stream.Text(strings.Repeat("x", 900))
		full := 0
		for sw.TryWrite(item) == nil {
			full++
		}
		if full < 10 || full > 13 { // one more is under way
			t.Errorf("%d items were taken", full)
		}
		if err := sw.TryWrite(item); err != stream.ErrFull {
			t.Errorf("a full buffer says %v", err)
		}
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := sw.Write(short, item); err != context.DeadlineExceeded {
			t.Errorf("a write that may not wait returns %v", err)
		}
		if err := sw.Flush(short); err != context.DeadlineExceeded {
			t.Errorf("a flush that may not wait returns %v", err)
		}
		var writing sync.WaitGroup
		for range 20 {
			writing.Go(func() {
				if err := sw.Write(context.Background(), item); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := sw.Stats().Items; got != int64(full) {
			t.Errorf("%d items were taken beyond the buffer", got-int64(full))
		}
		close(release)
		writing.Wait()
		must(t, sw.End(context.Background()))
		if g := all(t, r); len(g.items) != full+20 {
			t.Errorf("%d of %d items arrived", len(g.items), full+20)
		}
	})
}
