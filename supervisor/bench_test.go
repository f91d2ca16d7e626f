package supervisor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/plug"
)

// discard is a port that keeps nothing.
type discard struct{ dispatch.NoStreams }

func (discard) Dispatched(int)                                {}
func (discard) Status(string)                                 {}
func (discard) Artifact(context.Context, wire.Artifact) error { return nil }
func (discard) Input(context.Context, int) (dispatch.Input, error) {
	return dispatch.Input{}, fmt.Errorf("no inputs here")
}

// BenchmarkDo compares a whole trivial task (pick a process, start, one artifact, result) with the least that the
// transport can do, a unary health check on a process of the same kind, in turn in one run: "ratio" is between the
// medians.
func BenchmarkDo(b *testing.B) {
	f := fleet(b, Config{}, "echo")
	become(b, f, "echo", dispatch.Available)
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
		if err := bare.Check(b.Context(), time.Second); err != nil {
			b.Fatal(err)
		}
		calls = append(calls, time.Since(at))
		task.ID = fmt.Sprint("t", i)
		at = time.Now()
		if err := give(b.Context(), f, "echo", task, discard{}); err != nil {
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
	become(b, f, "echo", dispatch.Available)
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
			if err := give(context.Background(), f, "echo", request(fmt.Sprint("t", <-ids), "x"), discard{}); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkSpawn is the time from the decision to start a handler until it is ready for tasks: as it is, through the launch
// shim that limits it, with its files guarded too, and over mTLS.
func BenchmarkSpawn(b *testing.B) {
	f := fleet(b, Config{}, "echo")
	become(b, f, "echo", dispatch.Available)
	shim := filepath.Join(plugins.Dir(b), "blocksd")
	if out, err := exec.Command("go", "build", "-o", shim, "..").CombinedOutput(); err != nil {
		b.Fatalf("build the shim: %v: %s", err, out)
	}
	machine := launch.Probe(shim, "off")
	for _, mode := range []struct {
		name    string
		machine *launch.Machine
		limits  launch.Limits
		mtls    bool
	}{
		{name: "plain"},
		{name: "shim", machine: machine},
		{name: "landlock", machine: machine, limits: launch.Limits{ReadPaths: []string{plugins.Dir(b)}}},
		{name: "mtls", machine: machine, mtls: true},
	} {
		b.Run(mode.name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				at := time.Now()
				c, err := plug.Start(b.Context(), plug.Config{
					Handler: "echo", Path: plugins.Path(b, "echo"), Spawner: f.spawner, Dirs: f.dirs, Log: fleetLog(),
					Environment: launch.Environment(os.Environ(), nil), Machine: mode.machine, Limits: mode.limits, MTLS: mode.mtls,
				})
				if err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(at))
				c.Kill()
				<-c.Done()
				c.Close()
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/ready-p50")
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "ms/ready-p95")
		})
	}
}
