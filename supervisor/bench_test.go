package supervisor

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/plug"
)

// discard is a port that keeps nothing.
type discard struct{}

func (discard) Dispatched(int)                                {}
func (discard) Status(string)                                 {}
func (discard) Artifact(context.Context, wire.Artifact) error { return nil }
func (discard) Input(context.Context, int) (wire.Input, error) {
	return wire.Input{}, fmt.Errorf("no inputs here")
}

// BenchmarkDo compares a whole trivial task (pick a process, start, one artifact, result) with the least that the
// transport can do, a unary health check on a process of the same kind, in turn in one run: "ratio" is between the
// medians.
func BenchmarkDo(b *testing.B) {
	f := fleet(b, Config{}, "echo")
	become(b, f, "echo", wire.Available)
	bare, err := plug.Start(b.Context(), plug.Config{
		Handler: "bare", Path: plugins.Path(b, "echo"), Spawner: f.spawner, Dirs: f.dirs, Log: fleetLog(),
		Environment: launch.Environment(nil, nil),
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { bare.Kill(); <-bare.Done(); bare.Close() }()
	task := request("", "x")
	var tasks, calls []time.Duration
	for i := 0; b.Loop(); i++ {
		at := time.Now()
		if err := bare.Check(b.Context()); err != nil {
			b.Fatal(err)
		}
		calls = append(calls, time.Since(at))
		task.ID = fmt.Sprint("t", i)
		at = time.Now()
		if err := f.Do(b.Context(), "echo", task, discard{}); err != nil {
			b.Fatal(err)
		}
		tasks = append(tasks, time.Since(at))
	}
	slices.Sort(tasks)
	slices.Sort(calls)
	b.ReportMetric(float64(tasks[len(tasks)/2].Nanoseconds()), "ns/task")
	b.ReportMetric(float64(calls[len(calls)/2].Nanoseconds()), "ns/call")
	b.ReportMetric(float64(tasks[len(tasks)/2])/float64(calls[len(calls)/2]), "ratio")
}

// BenchmarkDoParallel is the throughput of trivial tasks with 16 in flight per core.
func BenchmarkDoParallel(b *testing.B) {
	f := fleet(b, Config{}, "echo")
	become(b, f, "echo", wire.Available)
	b.SetParallelism(16)
	b.ReportAllocs()
	ids := make(chan int, 1024)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			select {
			case ids <- i:
			case <-stop:
				return
			}
		}
	}()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f.Do(context.Background(), "echo", request(fmt.Sprint("t", <-ids), "x"), discard{}); err != nil {
				b.Error(err)
			}
		}
	})
}
