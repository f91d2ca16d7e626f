package backend

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFlightIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight
		runs := 0
		fail := errors.New("no")
		var waiting sync.WaitGroup
		for range 10 {
			waiting.Go(func() {
				if err := f.do(t.Context(), func(context.Context) error {
					runs++
					time.Sleep(time.Second)
					return fail
				}); err != fail {
					t.Errorf("got %v", err)
				}
			})
		}
		waiting.Wait()
		if runs != 1 {
			t.Errorf("ran %d times", runs)
		}
		if err := f.do(t.Context(), func(context.Context) error { runs++; return nil }); err != nil || runs != 2 {
			t.Errorf("after it: %v, %d runs", err, runs)
		}
	})
}

// The caller that began may leave; the run goes on for those who wait, and ends with the last of them.
func TestFlightOutlivesItsFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight
		first, leave := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			err := f.do(first, func(ctx context.Context) error {
				select {
				case <-time.After(time.Second):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the caller that left got %v", err)
			}
		})
		synctest.Wait()
		waiting.Go(func() {
			if err := f.do(t.Context(), nil); err != nil {
				t.Errorf("the caller that stayed got %v", err)
			}
		})
		synctest.Wait()
		leave()
		waiting.Wait()

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		ended := false
		err := f.do(short, func(ctx context.Context) error {
			<-ctx.Done()
			ended = true
			return ctx.Err()
		})
		if !errors.Is(err, context.DeadlineExceeded) || !ended {
			t.Errorf("%v, ended %v", err, ended)
		}
	})
}
