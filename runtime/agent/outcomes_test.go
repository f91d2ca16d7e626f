package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

func TestMemory(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	m := newRecentOutcomes(time.Hour)
	m.store("a", wire.Terminal{State: wire.Failed, Error: "first"}, now)
	m.store("a", wire.Terminal{State: wire.Completed}, now)
	if got, ok := m.recall("a", now.Add(59*time.Minute)); !ok || got.Error != "first" {
		t.Errorf("recalled %+v, %v; the first outcome must stand", got, ok)
	}
	if _, ok := m.recall("b", now); ok {
		t.Error("recalled a task that never was")
	}
	if got, ok := m.recall("a", now.Add(time.Hour)); ok {
		t.Errorf("recalled %+v after its time", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	m := newRecentOutcomes(time.Hour)
	for i := range 2 * maxRemembered {
		m.store(fmt.Sprint("t", i), wire.Terminal{State: wire.Completed}, now)
	}
	if n := len(m.outcomes); n > maxRemembered {
		t.Errorf("%d outcomes are kept, more than %d", n, maxRemembered)
	}
	if len(m.order) > 3*maxRemembered {
		t.Errorf("the order has %d entries", len(m.order))
	}
	for i := range 2000 {
		m.store(fmt.Sprint("long", i), wire.Terminal{State: wire.Failed, Error: strings.Repeat("x", wire.MaxTextBytes)}, now)
	}
	if m.bytes > maxRememberedBytes {
		t.Errorf("%d bytes are kept, more than %d", m.bytes, maxRememberedBytes)
	}
	if _, ok := m.recall("long1999", now); !ok {
		t.Error("the newest outcome is forgotten")
	}
	m.forget(now.Add(2 * time.Hour))
	if len(m.outcomes) != 0 || m.bytes != 0 {
		t.Errorf("%d outcomes and %d bytes are left after their time", len(m.outcomes), m.bytes)
	}
}

func TestThrottle(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	var q throttle
	for i, want := range []struct {
		after time.Duration
		kind  string
		held  int
		ok    bool
	}{
		{0, "a", 0, true}, {time.Second, "a", 0, false}, {time.Second, "b", 0, true}, {2 * time.Second, "a", 0, false},
		{time.Minute, "a", 2, true}, {2 * time.Minute, "a", 0, true},
	} {
		if held, ok := q.allow(want.kind, now.Add(want.after)); held != want.held || ok != want.ok {
			t.Errorf("call %d: %d, %v; want %d, %v", i, held, ok, want.held, want.ok)
		}
	}
}
