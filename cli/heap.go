package cli

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// smallHeap is up to where the collector runs half as often: each task allocates much while little is live, and a few
	// MiB more of garbage halve its work. Beyond it that would be hundreds of MiB.
	smallHeap                  = 64 << 20
	smallPercent, largePercent = 200, 100
	heapInterval               = 2 * time.Second
	liveHeap                   = "/gc/heap/live:bytes"
)

// garbagePercent is how much garbage there may be beside what is live, in percent.
func garbagePercent(live uint64) int {
	if live <= smallHeap {
		return smallPercent
	}
	return largePercent
}

// watchHeap keeps the memory of a daemon in bounds until ctx ends. It leaves an operator's GOGC alone.
func watchHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(heapInterval)
	defer tick.Stop()
	live := []metrics.Sample{{Name: liveHeap}}
	for set := smallPercent; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(live)
		if want := garbagePercent(live[0].Value.Uint64()); want != set {
			debug.SetGCPercent(want)
			set = want
		}
	}
}
