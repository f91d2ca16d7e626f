package backend

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRefreshPlan(t *testing.T) {
	start := time.Unix(1e9, 0)
	after := func(p refreshPlan) time.Duration { return p.due.Sub(start) }
	var p refreshPlan
	if p.overdue(start) {
		t.Error("due before there is a token")
	}
	for life, want := range map[time.Duration]time.Duration{
		time.Minute: 48 * time.Second, 0: 48 * time.Second, -1: 48 * time.Second, time.Second: time.Second, 100 * time.Second: 80 * time.Second,
		1e9 * time.Second: 8e8 * time.Second,
	} {
		if p.stored(start, life); after(p) != want {
			t.Errorf("a token of %v is renewed after %v, want %v", life, after(p), want)
		}
	}
	p.stored(start, time.Minute)
	if p.failed(start) || after(p) != 5*time.Second {
		t.Errorf("after the first failure in %v", after(p))
	}
	if p.failed(start) || after(p) != 10*time.Second {
		t.Errorf("after the second failure in %v", after(p))
	}
	if !p.failed(start) || !p.due.IsZero() || p.overdue(start.Add(time.Hour)) {
		t.Error("not given up after the third failure")
	}
	if p.stored(start, time.Minute); p.failed(start) {
		t.Error("given up at the first failure of a new token")
	}
}

// Whatever happens, the plan gives up exactly once between two tokens, and is never due in the past.
func TestRefreshPlanGivesUpOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1e9, 0)
		var p refreshPlan
		p.stored(now, time.Minute)
		gaveUp := 0
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "passes")))
			if rapid.IntRange(0, 3).Draw(t, "event") == 0 {
				p.stored(now, time.Duration(rapid.Int64().Draw(t, "life")))
				gaveUp = 0
			} else if p.overdue(now) {
				if p.failed(now) {
					gaveUp++
				}
			}
			if gaveUp > 1 || (gaveUp == 1) != p.due.IsZero() {
				t.Fatalf("gave up %d times, due %v", gaveUp, p.due)
			}
		}
	})
}
