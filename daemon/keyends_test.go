package daemon

import (
	"slices"
	"testing"
	"time"
)

func TestKeyEnd(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct {
		name string
		left time.Duration // 0: never
		due  int
		want string
	}{
		{"never", 0, 0, ""},
		{"in 15 days", 15 * day, 0, ""},
		{"in 14 days", 14 * day, 1, "the API key of agents adder, echo ends in 14 days, at 2026-12-15T00:00:00Z: put another one in its place before, and the daemon takes it by itself"},
		{"in 4 days", 4 * day, 1, "the API key of agents adder, echo ends in 4 days, at 2026-12-05T00:00:00Z: put another one in its place before, and the daemon takes it by itself"},
		{"in 3 days", 3 * day, 2, "the API key of agents adder, echo ends in 3 days, at 2026-12-04T00:00:00Z: put another one in its place before, and the daemon takes it by itself"},
		{"in a day", day, 3, "the API key of agents adder, echo ends in 24 hours, at 2026-12-02T00:00:00Z: put another one in its place before, and the daemon takes it by itself"},
		{"since a second", -time.Second, 4, "the API key of agents adder, echo has ended at 2026-11-30T23:59:59Z: put another one in its place before, and the daemon takes it by itself"},
	} {
		k := keyEnd{agents: []string{"adder", "echo"}}
		if c.left != 0 {
			k.ends = now.Add(c.left)
		}
		text := ""
		if r := k.reason(now); r != nil {
			text = r.Text()
		}
		if k.due(now) != c.due || text != c.want {
			t.Errorf("%s: %d notices, %q", c.name, k.due(now), text)
		}
	}
}

func TestSuspects(t *testing.T) {
	ours := []string{"a", "b", "c"}
	if got := suspects(ours, map[string]int{"a": 1, "b": 0, "d": 1}); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("got %v", got)
	}
	if got := suspects(ours, nil); !slices.Equal(got, ours) || len(ours) != 3 {
		t.Errorf("got %v", got)
	}
}

// TestDoubt: an agent that the network takes, but does not show as online, is asked about less and less often.
func TestDoubt(t *testing.T) {
	now := time.Unix(0, 0)
	var d doubt
	if !d.isDue(now) {
		t.Error("the first question waits")
	}
	var pauses []time.Duration
	for range 9 {
		d = d.unconfirmed(now, time.Minute)
		pauses = append(pauses, d.notBefore.Sub(now))
		if d.isDue(d.notBefore.Add(-1)) || !d.isDue(d.notBefore) {
			t.Error("it is due at another moment")
		}
	}
	if pauses[0] != 2*time.Minute || pauses[1] != 4*time.Minute || pauses[8] != maxDoubtPause {
		t.Errorf("pauses %v", pauses)
	}
}
