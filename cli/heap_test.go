package cli

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 200, 64 << 20: 200, 64<<20 + 1: 100, 1 << 40: 100} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d bytes live: %d %%, want %d", live, got, want)
		}
	}
	// The runtime knows the metric by this name.
	runtime.GC()
	live := []metrics.Sample{{Name: liveHeap}}
	metrics.Read(live)
	if live[0].Value.Kind() != metrics.KindUint64 || live[0].Value.Uint64() == 0 {
		t.Errorf("%s is %v", liveHeap, live[0].Value)
	}
}
