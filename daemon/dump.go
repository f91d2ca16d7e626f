package daemon

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/pprof"

	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// maxStacks bounds the stacks in a dump, in bytes.
const maxStacks = 16 << 20

// Dump implements control.Daemon.
func (d *Daemon) Dump() (*controlv1.DumpResponse, error) {
	runtime.GC() // what is in use counts, and not what is garbage
	var heap bytes.Buffer
	if err := pprof.Lookup("heap").WriteTo(&heap, 0); err != nil {
		return nil, fmt.Errorf("the heap profile cannot be written: %w", err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s := d.Status()
	processes := 0
	for _, h := range s.GetHandlers() {
		processes += len(h.GetProcesses())
	}
	r := &controlv1.DumpResponse{Goroutines: stacks(maxStacks), Heap: heap.Bytes()}
	for _, c := range []struct {
		name  string
		value int64
	}{
		{"goroutines", int64(runtime.NumGoroutine())}, {"heap_bytes", int64(m.HeapAlloc)}, {"heap_objects", int64(m.HeapObjects)},
		{"memory_bytes", int64(m.Sys)}, {"collections", int64(m.NumGC)}, {"events", int64(d.events.Seq())},
		{"agents", int64(len(s.GetAgents()))}, {"handlers", int64(len(s.GetHandlers()))}, {"handler_processes", int64(processes)},
		{"tasks_running", s.GetTasks().GetRunning()}, {"outcomes_not_delivered", s.GetTasks().GetOutbox()},
	} {
		r.Counts = append(r.Counts, &controlv1.DumpCount{Name: c.name, Value: c.value})
	}
	return r, nil
}

// stacks returns the stacks of all goroutines, cut at limit bytes.
func stacks(limit int) []byte {
	for size := 1 << 20; ; size *= 2 {
		size = min(size, limit)
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size == limit {
			return b[:n]
		}
	}
}
