package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// names is what monitoring of others relies on: type, name and labels. Fixed: more may join, none may change.
const names = `counter blocksd_events_missed_total
counter blocksd_handler_cpu_seconds_total handler
counter blocksd_handler_restarts_total handler,reason
counter blocksd_stream_bytes_total agent,direction
counter blocksd_tasks_total agent,outcome
gauge blocksd_agent_state agent,state
gauge blocksd_api_key_end_timestamp_seconds agent
gauge blocksd_build_info goversion,version
gauge blocksd_handler_memory_bytes handler
gauge blocksd_handler_processes handler,state
gauge blocksd_outbox_oldest_seconds
gauge blocksd_outbox_terminals
gauge blocksd_ready
gauge blocksd_tasks_running agent
histogram blocksd_journal_commit_seconds
histogram blocksd_publish_seconds
histogram blocksd_task_duration_seconds agent,phase`

// watched is metrics whose events are counted, and their daemon.
type watched struct {
	*Metrics
	bus *event.Bus
	now Snapshot
}

func watch(t *testing.T) *watched {
	t.Helper()
	w := &watched{bus: event.NewBus(event.Config{}), now: Snapshot{
		Ready: true, Agents: []Agent{{Name: "a", State: "online", Running: 2, Completed: 5, Failed: 1, KeyEnds: time.Unix(2_000_000_000, 0)}},
		Handlers: []Handler{{Name: "h\xff", Processes: []Process{{PID: os.Getpid(), State: "ready", RSSBytes: 100}, {PID: 0, State: "draining", RSSBytes: 11}}}},
		Outbox:   3, OldestOutcome: time.Now().Add(-time.Hour), EventsMissed: 9,
	}}
	var err error
	w.Metrics, err = New(Config{Version: "v1", Events: w.bus, Snapshot: func() Snapshot {
		s := w.now // its lists are changed
		s.Agents, s.Handlers = slices.Clone(s.Agents), slices.Clone(s.Handlers)
		return s
	}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// emit puts events on the bus and counts them.
func (w *watched) emit(events ...event.Event) {
	open := map[string]openTask{}
	for _, e := range events {
		w.bus.Emit(e)
		for item, ok := w.reader.TryNext(); ok; item, ok = w.reader.TryNext() {
			w.count(item.Event, open)
		}
	}
}

func (w *watched) scrape(t *testing.T) string {
	t.Helper()
	return get(t, w.Handler(), "/metrics", "127.0.0.1", http.StatusOK)
}

func get(t *testing.T, h http.Handler, path, host string, status int) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Host = host
	out := httptest.NewRecorder()
	h.ServeHTTP(out, r)
	if out.Code != status {
		t.Errorf("%s answers %d: %s", path, out.Code, out.Body)
	}
	return out.Body.String()
}

func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(text, "\n"+l+"\n") {
			t.Errorf("%s is missing in\n%s", l, text)
		}
	}
}

func TestNames(t *testing.T) {
	w := watch(t)
	defer w.Close()
	w.Committed(time.Millisecond)
	w.Published(time.Millisecond)
	w.emit(event.Event{Type: event.TaskAccepted, Agent: "a", TaskID: "t"}, event.Event{Type: event.ProcessExited, Handler: "h", Level: slog.LevelError})
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "blocksd_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		got = append(got, strings.TrimSpace(strings.ToLower(f.GetType().String())+" "+f.GetName()+" "+strings.Join(labels, ",")))
	}
	slices.Sort(got)
	if d := cmp.Diff(strings.Split(names, "\n"), got); d != "" {
		t.Error(d)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "blocksd_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestState(t *testing.T) {
	w := watch(t)
	defer w.Close()
	text := w.scrape(t)
	has(t, text,
		`blocksd_build_info{goversion="`+runtime.Version()+`",version="v1"} 1`, `blocksd_ready 1`,
		`blocksd_agent_state{agent="a",state="online"} 1`, `blocksd_agent_state{agent="a",state="failed"} 0`,
		`blocksd_tasks_total{agent="a",outcome="completed"} 5`, `blocksd_tasks_total{agent="a",outcome="refused"} 0`,
		`blocksd_tasks_running{agent="a"} 2`, `blocksd_outbox_terminals 3`, `blocksd_events_missed_total 9`,
		"blocksd_handler_processes{handler=\"h\uFFFD\",state=\"draining\"} 1", "blocksd_handler_memory_bytes{handler=\"h\uFFFD\"} 111",
		`blocksd_stream_bytes_total{agent="a",direction="inbound"} 0`,
	)
	if age := regexp.MustCompile(`blocksd_outbox_oldest_seconds 36\d\d`); !age.MatchString(text) {
		t.Errorf("the age of the oldest outcome is missing in %s", text)
	}
	w.Streamed("a", true, 5)
	w.Streamed("a", false, 7)
	w.now.Ready, w.now.OldestOutcome = false, time.Time{}
	has(t, w.scrape(t), `blocksd_ready 0`, `blocksd_outbox_oldest_seconds 0`,
		`blocksd_stream_bytes_total{agent="a",direction="inbound"} 5`, `blocksd_stream_bytes_total{agent="a",direction="outbound"} 7`)
}

func TestEventsAreCounted(t *testing.T) {
	w := watch(t)
	defer w.Close()
	crash := event.Event{Type: event.ProcessExited, Handler: "h", Level: slog.LevelError, Details: []slog.Attr{slog.String("reason", "signal")}}
	w.emit(
		event.Event{Type: event.TaskAccepted, Agent: "a", TaskID: "1", Duration: 3 * time.Millisecond},
		event.Event{Type: event.TaskStarted, Agent: "a", TaskID: "1"},
		event.Event{Type: event.TaskEnded, Agent: "a", TaskID: "1"},
		event.Event{Type: event.TaskAccepted, Agent: "a", TaskID: "canceled in the queue"},
		event.Event{Type: event.TaskEnded, Agent: "a", TaskID: "canceled in the queue"},
		event.Event{Type: event.TaskEnded, Agent: "a", TaskID: "from before the restart"},
		crash, crash, event.Event{Type: event.ProcessExited, Handler: "h"},
	)
	w.Delivered("a", "1", time.Second, 2*time.Second)
	has(t, w.scrape(t),
		`blocksd_task_duration_seconds_count{agent="a",phase="admit"} 2`, `blocksd_task_duration_seconds_count{agent="a",phase="queue"} 2`,
		`blocksd_task_duration_seconds_count{agent="a",phase="handler"} 1`, `blocksd_task_duration_seconds_sum{agent="a",phase="publish"} 1`,
		`blocksd_task_duration_seconds_sum{agent="a",phase="total"} 2`, `blocksd_task_duration_seconds_sum{agent="a",phase="admit"} 0.003`,
		`blocksd_handler_restarts_total{handler="h",reason="signal"} 2`,
	)
}

// TestCPUTimes: the sum never shrinks, whatever happens to processes.
func TestCPUTimes(t *testing.T) {
	of := map[int]float64{}
	c := cpuTimes{read: func(pid int) (float64, bool) { s, ok := of[pid]; return s, ok }, last: map[int]float64{}, sums: map[string]float64{}}
	handler := func(pids ...int) []Handler {
		h := Handler{Name: "h"}
		for _, pid := range pids {
			h.Processes = append(h.Processes, Process{PID: pid})
		}
		return []Handler{h}
	}
	for _, step := range []struct {
		times map[int]float64
		pids  []int
		want  float64
	}{
		{map[int]float64{1: 2}, []int{1}, 2}, {map[int]float64{1: 3, 2: 1}, []int{1, 2}, 4}, {map[int]float64{2: 1.5}, []int{2}, 4.5},
		{nil, []int{2}, 4.5}, {map[int]float64{1: 1}, []int{1}, 5.5}, {map[int]float64{1: .5}, []int{1}, 6}, {nil, nil, 6},
	} {
		of = step.times
		if got := c.update(handler(step.pids...))["h"]; got != step.want {
			t.Errorf("%v: %v, want %v", step.times, got, step.want)
		}
	}
	if s, ok := processSeconds(os.Getpid()); !ok || s < 0 {
		t.Errorf("this process: %v, %v", s, ok)
	}
	if _, ok := processSeconds(0); ok {
		t.Error("there is no process 0")
	}
}

func TestHealth(t *testing.T) {
	w := watch(t)
	defer w.Close()
	h := w.Handler()
	if got := get(t, h, "/healthz", "localhost:9464", http.StatusOK); got != "ok\n" {
		t.Errorf("got %q", got)
	}
	if got := get(t, h, "/readyz", "[::1]:9464", http.StatusOK); got != "ready\n" {
		t.Errorf("got %q", got)
	}
	w.now.Ready, w.now.Reasons = false, []string{"agent a is connecting"}
	if got := get(t, h, "/readyz", "127.0.0.1", http.StatusServiceUnavailable); got != "not ready\nagent a is connecting\n" {
		t.Errorf("got %q", got)
	}
	get(t, h, "/healthz", "127.0.0.1", http.StatusOK)
	get(t, h, "/metrics", "rebound.example:9464", http.StatusForbidden)
	get(t, h, "/", "localhost", http.StatusNotFound)
}

// TestListeners: both kinds answer, and end with their context.
func TestListeners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for _, address := range []string{"127.0.0.1:0", "unix:" + path, "unix:" + path} {
		w := watch(t)
		l, err := Listen(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { errorIs(t, w.Run(ctx)) })
		running.Go(func() { errorIs(t, w.Serve(ctx, l)) })
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, l.Addr().Network(), l.Addr().String())
		}}
		host := "localhost"
		if l.Addr().Network() == "unix" {
			host = "blocksd" // who reaches a socket was let in by its mode
			if _, err := Listen(t.Context(), address); err == nil {
				t.Error("a second listener takes the socket away")
			}
		}
		r, err := (&http.Client{Transport: transport}).Get("http://" + host + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(body), "blocksd_ready 1") {
			t.Errorf("%s answers %s: %s, %v", address, r.Status, body, err)
		}
		transport.CloseIdleConnections()
		cancel()
		running.Wait()
		if u, ok := l.(*net.UnixListener); ok { // as after a crash
			stale, err := net.ListenUnix("unix", u.Addr().(*net.UnixAddr))
			if err != nil {
				t.Fatal(err)
			}
			stale.SetUnlinkOnClose(false)
			stale.Close()
		}
	}
	if _, err := Listen(t.Context(), "127.0.0.1:x"); err == nil || !strings.Contains(err.Error(), "choose another telemetry.listen") {
		t.Errorf("got %v", err)
	}
}

func errorIs(t *testing.T, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
