package retry_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/internal/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDelay(t *testing.T) {
	b := retry.Backoff{First: 100 * time.Millisecond, Max: time.Second}
	for n, want := range map[int]time.Duration{0: 100, 1: 100, 2: 200, 3: 400, 4: 800, 5: 1000, 1000: 1000} {
		b.Jitter = func() float64 { return 1 }
		if got := b.Delay(n); got != want*time.Millisecond {
			t.Errorf("longest pause after failure %d is %v, want %v", n, got, want*time.Millisecond)
		}
		b.Jitter = func() float64 { return 0 }
		if got := b.Delay(n); got != want*time.Millisecond/2 {
			t.Errorf("shortest pause after failure %d is %v, want %v", n, got, want*time.Millisecond/2)
		}
	}
}

// TestDelayStaysInBounds: no number of failures overflows.
func TestDelayStaysInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := retry.Backoff{
			First: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "first")),
			Max:   time.Duration(rapid.Int64Range(1, int64(1000*time.Hour)).Draw(t, "max")),
		}
		n := rapid.Int().Draw(t, "n")
		if d := b.Delay(n); d < 0 || d > b.Max {
			t.Fatalf("pause of %v after failure %d", d, n)
		}
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if err := retry.Pause(t.Context(), time.Minute); err != nil || time.Since(begin) != time.Minute {
			t.Errorf("pause ended after %v with %v", time.Since(begin), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		if err := retry.Pause(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("pause that is cut off ended after %v with %v", time.Since(begin), err)
		}
		if err := retry.Pause(ctx, 0); err == nil {
			t.Error("a pause of zero does not see that the context has ended")
		}
	})
}

func TestAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "0": 0, "-1": 0, "soon": 0, "Wed, 21 Oct 2026 07:28:00 GMT": 0, "600": time.Minute, "9223372036854775807": time.Minute,
	} {
		if got := retry.After(http.Header{"Retry-After": {header}}, time.Minute); got != want {
			t.Errorf("Retry-After %q is %v, want %v", header, got, want)
		}
	}
}
