package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// TestReadInTheBackground: a goroutine gives each item to a function, and is over with the stream.
func TestReadInTheBackground(t *testing.T) {
	w := newWorld(t)
	goOn := make(chan struct{})
	w.provideCard(streamCard, "echo", client.Free, func(j *job) {
		o := j.stream("_default", 1)
		j.check(o.Write(j.ctx, stream.Text("one")))
		j.await(goOn)
		j.check(o.Write(j.ctx, stream.Text("two"), stream.Text("three")))
		j.check(o.End(j.ctx))
		j.end(wire.Completed)
	})
	s := w.send(w.client(), streaming("echo"))
	r := w.stream(s, "")
	var got []string
	item := func(b []byte) {
		if got = append(got, string(b)); len(got) == 1 {
			close(goOn)
		}
	}
	var background sync.WaitGroup
	background.Go(func() {
		for b, err := range r.Bytes(within(t)) {
			if err != nil {
				t.Error(err)
				return
			}
			item(b)
		}
	})
	if end, err := s.Wait(within(t)); err != nil || end.State != client.Completed { // meanwhile
		t.Errorf("%+v, %v", end, err)
	}
	background.Wait()
	if !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("got %q", got)
	}
}

// periodically writes 0, 1, 2 and so on until ctx ends or the stream takes no more, and returns how many it took and why.
func periodically(ctx context.Context, r *client.Stream, every time.Duration) (n int, err error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ; ; n++ {
		if err := r.WriteText(ctx, fmt.Sprint(n)); err != nil {
			return n, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return n + 1, ctx.Err()
		}
	}
}

// TestWritePeriodically: a goroutine that writes a stream is over when it is stopped, when the stream is ended, and when the
// network or the end of the task takes the stream away. What was written before an end arrives, in order.
func TestWritePeriodically(t *testing.T) {
	gone := func(err error) bool { // the network may refuse it first
		return errors.Is(err, client.ErrStreamEnded) || errors.Is(err, client.ErrClosed) || isA[*client.StreamError](err)
	}
	type run struct {
		w    *world
		s    *client.Session
		r    *client.Stream
		stop context.CancelFunc
	}
	for _, tc := range []struct {
		name string
		over func(run) error
		is   func(error) bool
		all  bool // the agent reads all that was written
	}{
		{"stopped", func(r run) error { r.stop(); return nil }, func(err error) bool { return errors.Is(err, context.Canceled) }, false},
		{"ended", func(r run) error { return r.r.End(within(t)) }, func(err error) bool { return errors.Is(err, client.ErrStreamEnded) }, true},
		{"refused", func(r run) error {
			r.w.fault(fault.Rule{Endpoint: "publish", Channel: "stream.*", Status: http.StatusForbidden})
			return nil
		}, isA[*client.StreamError], false},
		{"task canceled", func(r run) error { return r.s.Cancel(within(t)) }, gone, false},
		{"session closed", func(r run) error { r.s.Close(); return nil }, gone, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			several, read := make(chan struct{}), make(chan []string, 1)
			w.provideCard(streamCard, "echo", client.Free, func(j *job) {
				o := j.stream("upload", 1)
				j.running.Go(func() {
					var all []string
					for {
						d, err := o.reader.Next(j.ctx)
						if err != nil {
							read <- all
							return
						}
						for _, i := range d.Items {
							if all = append(all, string(i.Data)); len(all) == 3 {
								close(several)
							}
						}
					}
				})
				<-j.canceled
				j.end(wire.Canceled)
			})
			s := w.send(w.client(), piping("echo"))
			var following sync.WaitGroup
			following.Go(func() { _, _ = s.Wait(within(t)) }) // so that the session hears of the end of its task
			r := w.stream(s, "upload")
			ctx, stop := context.WithCancel(within(t))
			type end struct {
				written int
				why     error
			}
			over := make(chan end, 1)
			go func() {
				n, err := periodically(ctx, r, time.Millisecond)
				over <- end{n, err}
			}()
			<-several
			if err := tc.over(run{w, s, r, stop}); err != nil {
				t.Error(err)
			}
			e := <-over // within the context of the writer
			if !tc.is(e.why) {
				t.Errorf("it ended with %v", e.why)
			}
			if tc.all {
				all := <-read
				for n, got := range all {
					if got != fmt.Sprint(n) {
						t.Fatalf("item %d is %q", n, got)
					}
				}
				if len(all) != e.written {
					t.Errorf("%d items were written, %d read", e.written, len(all))
				}
			}
			s.Close()
			following.Wait()
			stop()
		})
	}
}
