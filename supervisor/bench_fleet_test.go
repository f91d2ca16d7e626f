package supervisor

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	plugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/blocksd/blocksd/dispatch"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// BenchmarkHundredHandlers is the time from the start of a fleet of a hundred handlers until all are ready; the budget is 0.9 s.
func BenchmarkHundredHandlers(b *testing.B) {
	var c Config
	for i := range 100 {
		c.Handlers = append(c.Handlers, HandlerConfig{Name: fmt.Sprint("echo", i), Path: plugins.Path(b, "echo")})
	}
	c.Log = fleetLog()
	var took []time.Duration
	for b.Loop() {
		at := time.Now()
		f, err := New(c)
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- f.Run(ctx) }()
		for _, h := range c.Handlers {
			become(b, f, h.Name, dispatch.Available)
		}
		took = append(took, time.Since(at))
		cancel()
		<-ended
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), "s/100-ready")
	b.ReportMetric(took[len(took)/2].Seconds()/5, "of-budget")
}

// BenchmarkCrash is the time from SIGKILL of a process with 16 tasks until the last of them has its end; the budget is 100 ms
// to the publish, of which this is all but the publish itself.
func BenchmarkCrash(b *testing.B) {
	f := fleet(b, Config{Jitter: func() float64 { return 0 }, Handlers: []HandlerConfig{{
		Name: "sleeper", Path: plugins.Path(b, "sleeper"), Restart: unit.Policy{MaxRestarts: 1 << 30},
	}}})
	become(b, f, "sleeper", dispatch.Available)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		var tasks []*port
		var results []<-chan error
		for n := range 16 {
			p, result := begin(b, f, context.Background(), "sleeper", fmt.Sprint(i, "-", n), "10m")
			tasks, results = append(tasks, p), append(results, result)
		}
		at := time.Now()
		_ = unix.Kill(tasks[0].pid, syscall.SIGKILL)
		for _, r := range results {
			<-r
		}
		took = append(took, time.Since(at))
		become(b, f, "sleeper", dispatch.Available)
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/end-p50")
	b.ReportMetric(float64(p99.Microseconds())/1000, "ms/end-p99")
	b.ReportMetric(float64(p99)/float64(100*time.Millisecond), "of-budget")
}

// BenchmarkAgainstGoPlugin compares with a connection of go-plugin alone, with 16 callers each, in turns in one run: the rate
// of unary calls, whose ratio should be 0.85 at least, and that of whole tasks, for which the fleet does much that a bare call
// does not.
func BenchmarkAgainstGoPlugin(b *testing.B) {
	f := fleet(b, Config{}, "echo")
	become(b, f, "echo", dispatch.Available)
	bare := plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: handlerv1.ProtocolVersion, MagicCookieKey: handlerv1.CookieVariable, MagicCookieValue: handlerv1.CookieValue},
		Plugins:         plugin.PluginSet{"handler": barePlugin{}}, AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		Cmd: exec.Command(plugins.Path(b, "echo")), Stderr: io.Discard, SyncStdout: io.Discard, SyncStderr: io.Discard,
	})
	defer bare.Kill()
	protocol, err := bare.Client()
	if err != nil {
		b.Fatal(err)
	}
	raw, err := protocol.Dispense("handler")
	if err != nil {
		b.Fatal(err)
	}
	client := handlerv1.NewHandlerServiceClient(raw.(*grpc.ClientConn))
	var id atomic.Int64
	text := "x"
	direct := func() error {
		task := &handlerv1.Task{
			TaskId: fmt.Sprint("t", id.Add(1)), Kind: handlerv1.TaskKind_TASK_KIND_REQUEST,
			Parts: []*handlerv1.Part{{PartId: "request", Text: &text, RawJson: []byte(`{"partId":"request","text":"x"}`)}},
		}
		stream, err := client.StartTask(context.Background(), &handlerv1.StartTaskRequest{Task: task})
		for err == nil {
			_, err = stream.Recv()
		}
		if err == io.EOF {
			err = nil
		}
		return err
	}
	ours := func() error {
		task := request(fmt.Sprint("t", id.Add(1)), text)
		task.Parts[0].Raw = []byte(`{"partId":"request","text":"x"}`) // as tasks of the network have it
		if err := give(context.Background(), f, "echo", task, discard{}); err != nil {
			return err
		}
		return nil
	}
	probe := grpc_health_v1.NewHealthClient(raw.(*grpc.ClientConn))
	unary := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // as ours has one
		defer cancel()
		_, err := probe.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: plugin.GRPCServiceName})
		return err
	}
	var conn *plug.Conn
	for _, p := range f.get("echo").currentLocked().processes {
		conn = p.conn
	}
	check := func() error { return conn.Check(context.Background(), time.Second) }
	const round = 200 * time.Millisecond
	rate := func(call func() error) float64 {
		var n atomic.Int64
		var wg sync.WaitGroup
		at := time.Now()
		for range 16 {
			wg.Go(func() {
				for time.Since(at) < round {
					if err := call(); err != nil {
						b.Error(err)
						return
					}
					n.Add(1)
				}
			})
		}
		wg.Wait()
		return float64(n.Load()) / time.Since(at).Seconds()
	}
	var calls, tasks, callRatio, taskRatio []float64
	for b.Loop() {
		bareCalls, ourCalls, bareTasks, ourTasks := rate(unary), rate(check), rate(direct), rate(ours)
		calls, callRatio = append(calls, ourCalls), append(callRatio, ourCalls/bareCalls)
		tasks, taskRatio = append(tasks, ourTasks), append(taskRatio, ourTasks/bareTasks)
	}
	median := func(l []float64) float64 { slices.Sort(l); return l[len(l)/2] }
	b.ReportMetric(median(calls), "calls/s")
	b.ReportMetric(median(callRatio), "calls-ratio")
	b.ReportMetric(median(tasks), "tasks/s")
	b.ReportMetric(median(taskRatio), "tasks-ratio")
}

type barePlugin struct{ plugin.NetRPCUnsupportedPlugin }

func (barePlugin) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

func (barePlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
