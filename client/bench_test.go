package client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// benchSessions is how many tasks one process follows at once.
const benchSessions = 1000

// BenchmarkSessions follows a thousand running tasks from one process, each by a session of its own. It prints what the
// process has grown by, per session and in all, over how many connections, and how long it takes from the arrival of a
// terminal event to the return of Wait. An event that is lost or comes twice fails it. The network and the provider are a
// process of their own.
func BenchmarkSessions(b *testing.B) {
	cdm, key, release := startBenchNetwork(b)
	for b.Loop() {
		benchSessionsOnce(b, cdm, key, release)
	}
}

func benchSessionsOnce(b *testing.B, cdm, key string, release func()) {
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	origin := strings.TrimSuffix(cdm, "/api/v1/cdm")
	shared := link.NewSharedTransport(ctx, origin)
	defer shared.CloseIdleConnections()
	watched := &arrivals{next: shared, at: map[string]time.Time{}}
	before := memory()
	c, err := client.New(ctx, client.Options{CDMURL: cdm, APIKey: key, HTTP: &http.Client{Transport: watched}, Getenv: noEnvironment})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	sessions := make([]*client.Session, benchSessions)
	var sending sync.WaitGroup
	for w := range 8 {
		sending.Go(func() {
			for i := w; i < benchSessions; i += 8 {
				s, err := c.Send(ctx, client.Message{Agent: benchAgent, Parts: text("x")})
				if err != nil {
					b.Error(err)
					return
				}
				sessions[i] = s
			}
		})
	}
	sending.Wait()
	if b.Failed() {
		return
	}
	var running, ended sync.WaitGroup
	running.Add(benchSessions)
	waits := make([]time.Duration, benchSessions)
	for i, s := range sessions {
		ended.Go(func() {
			seen := 0
			for e, err := range s.Events(ctx) {
				if err != nil {
					b.Error(err)
					return
				}
				if seen++; e.Type == client.EventProgress && e.Message == "ready" {
					running.Done()
				}
			}
			if seen != benchEvents {
				b.Errorf("task %s: %d events, not %d", s.TaskID(), seen, benchEvents)
			}
		})
		ended.Go(func() {
			_, err := s.Wait(ctx)
			now := time.Now()
			if err != nil {
				b.Error(err)
			}
			waits[i] = now.Sub(watched.of(s.TaskID()))
		})
	}
	running.Wait()
	grown, connections := memory()-before, openConnections()
	release()
	ended.Wait()
	slices.Sort(waits)
	b.ReportMetric(float64(grown)/benchSessions/1024, "KiB/session")
	b.ReportMetric(float64(memoryInUse())/1e6, "MB-in-all")
	b.ReportMetric(float64(connections), "connections")
	b.ReportMetric(ms(waits[len(waits)/2]), "wait-p50-ms")
	b.ReportMetric(ms(waits[len(waits)*99/100]), "wait-p99-ms")
	for _, s := range sessions {
		s.Close()
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// memory is what the process uses, after a collection.
func memory() uint64 {
	runtime.GC()
	return memoryInUse()
}

func memoryInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// openConnections counts the connected TCP sockets of this process.
func openConnections() (n int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// arrivals notes when the terminal event of each task has been read from the network.
type arrivals struct {
	next http.RoundTripper
	mu   sync.Mutex
	at   map[string]time.Time
}

func (a *arrivals) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := a.next.RoundTrip(r)
	if err == nil && strings.HasPrefix(r.URL.Path, "/v2/subscribe/") {
		resp.Body = &arriving{ReadCloser: resp.Body, all: a}
	}
	return resp, err
}

func (a *arrivals) of(task string) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at[task]
}

type arriving struct {
	io.ReadCloser
	all *arrivals
	got []byte
}

func (r *arriving) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.got = append(r.got, p[:n]...)
	if err == io.EOF {
		if _, after, ok := bytes.Cut(r.got, []byte(`"type":"terminal","taskId":"`)); ok {
			task, _, _ := bytes.Cut(after, []byte(`"`))
			r.all.mu.Lock()
			r.all.at[string(task)] = time.Now()
			r.all.mu.Unlock()
		}
	}
	return n, err
}

const (
	benchAgent = "bench"
	// endsWithin is how long after the gate has opened the last task ends.
	endsWithin = 4 * time.Second
	// benchEvents are request, running, ready, artifact and terminal.
	benchEvents = 5
)

// benchNetworkVariable makes this test program the network of the benchmark.
const benchNetworkVariable = "BLOCKSD_CLIENT_BENCH_NETWORK"

// startBenchNetwork runs a network and a provider in another process. release ends the tasks that run.
func startBenchNetwork(b *testing.B) (cdm, key string, release func()) {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchNetwork$", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), benchNetworkVariable+"="+listener.Addr().String())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	conn, err := listener.Accept()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		listener.Close()
		stdin.Close()
		_ = cmd.Wait()
	})
	if _, err := fmt.Fscanln(conn, &cdm, &key); err != nil {
		b.Fatal(err)
	}
	return cdm, key, func() { fmt.Fprintln(conn, "release") }
}

// TestBenchNetwork is that process; as a test it does nothing.
func TestBenchNetwork(t *testing.T) {
	address := os.Getenv(benchNetworkVariable)
	if address == "" {
		return
	}
	var gate atomic.Pointer[chan struct{}]
	closed := make(chan struct{})
	gate.Store(&closed)
	options, stop := networkWith(benchAgent, 2*benchSessions, benchWork(&gate))
	defer stop()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, options.CDMURL, options.APIKey)
	for word := ""; ; {
		if _, err := fmt.Fscanln(conn, &word); err != nil {
			return // the benchmark is over
		}
		next := make(chan struct{})
		close(*gate.Swap(&next))
	}
}

// benchWork is ready, and ends when the gate opens.
func benchWork(gate *atomic.Pointer[chan struct{}]) func(context.Context, *wire.Task, dispatch.TaskPort) error {
	return func(ctx context.Context, _ *wire.Task, port dispatch.TaskPort) error {
		open := *gate.Load()
		port.Status("ready")
		select {
		case <-open:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		time.Sleep(rand.N(endsWithin)) // tasks do not end at one moment
		return port.Artifact(ctx, wire.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte("done")})
	}
}
