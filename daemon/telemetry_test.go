package daemon

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/wire"
)

// TestMetrics: a task is counted in all of its phases, by the daemon as it runs.
func TestMetrics(t *testing.T) {
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "echo"))
	c.Settings.Telemetry.Listen = "127.0.0.1:0"
	d := start(t, c)
	address := "http://" + d.telemetry.listener.Addr().String()
	get := func(path string) (int, string) {
		r, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(body)
	}
	defer http.DefaultClient.CloseIdleConnections()
	d.ready(t)
	if code, body := get("/readyz"); code != http.StatusOK {
		t.Errorf("a daemon that is ready answers %d: %s", code, body)
	}
	if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("the task ended as %s", e.Raw)
	}
	wanted := []string{
		`blocksd_ready 1`, `blocksd_agent_state{agent="echo",state="online"} 1`, `blocksd_tasks_total{agent="echo",outcome="completed"} 1`,
		`blocksd_outbox_terminals 0`, `blocksd_handler_processes{handler="echo",state="ready"} 1`,
	}
	for _, phase := range []string{"admit", "queue", "handler", "publish", "total"} {
		wanted = append(wanted, `blocksd_task_duration_seconds_count{agent="echo",phase="`+phase+`"} 1`)
	}
	var body string
	testutil.Eventually(t, waitLimit, "everything is counted", func() bool {
		_, body = get("/metrics")
		for _, line := range wanted {
			if !strings.Contains(body, "\n"+line+"\n") {
				return false
			}
		}
		return !strings.Contains(body, "blocksd_journal_commit_seconds_count 0\n") && !strings.Contains(body, "blocksd_publish_seconds_count 0\n")
	})
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "undrain") {
		t.Errorf("a drained daemon answers %d: %s", code, body)
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("a drained daemon is not healthy: %d", code)
	}
}

// collector is a receiver of OpenTelemetry: it has the spans by their ids.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans map[string]*tracepb.Span
}

func collectTraces(t *testing.T) *collector {
	c := &collector{spans: map[string]*tracepb.Span{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		m := &collectorpb.ExportTraceServiceRequest{}
		if err == nil {
			err = proto.Unmarshal(body, m)
		}
		if err != nil {
			t.Errorf("received %q: %v", body, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range m.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, s := range scope.Spans {
					c.spans[hex.EncodeToString(s.SpanId)] = s
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// tree draws what is below a span, without the handler's names of tasks.
func (c *collector) tree(parent, trace, indent string) (drawing string) {
	names := map[string]string{}
	for id, s := range c.spans {
		if hex.EncodeToString(s.ParentSpanId) == parent && hex.EncodeToString(s.TraceId) == trace {
			names[s.Name+id] = id
		}
	}
	for _, key := range slices.Sorted(maps.Keys(names)) {
		s := c.spans[names[key]]
		drawing += indent + s.Name + "\n" + c.tree(names[key], trace, indent+"  ")
	}
	return drawing
}

// TestTraces: a consumer, the task that it sends, the handler, and the task that the handler sends in turn are one tree. Each
// handler is told its own place.
func TestTraces(t *testing.T) {
	received := collectTraces(t)
	network := startNetwork(t)
	c := settingsFor(t, network, handlers(t, "internal/scripted"))
	c.Settings.Telemetry.Traces = received.URL
	d := start(t, c)
	d.ready(t)
	consumer, err := client.New(t.Context(), client.Options{
		CDMURL: network.CDMURL(), PubNubOrigin: network.Addr(), APIKey: network.APIKey(), Getenv: func(string) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	script := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	inner := `[{"trace": "traceparent"}]`
	s, err := consumer.Send(t.Context(), client.Message{
		Agent: "scripted", Traceparent: "00-" + trace + "-" + span + "-01",
		Parts: []client.Part{client.Text("request", `[{"trace": "traceparent"}, {"call": {"agent": "scripted", "text": `+script(inner)+`}}]`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if e := awaitEvent(t, s, terminal); e.State != wire.Completed {
		t.Fatalf("the task ended as %s", e.Raw)
	}
	var told []string
	for _, a := range s.Artifacts() {
		body, err := s.Download(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, string(body.Data))
	}
	d.stop()
	if err := d.wait(t); err != nil {
		t.Fatal(err)
	}
	const want = `task scripted
  admit
  handler scripted
    task scripted
      admit
      handler scripted
      publish
      queue
  publish
  queue
`
	if got := received.tree(span, trace, ""); got != want || len(received.spans) != 10 {
		t.Errorf("%d spans, one tree of which is\n%s", len(received.spans), got)
	}
	if len(told) != 3 { // the own place, the types of the called task's events, and the place of the called handler
		t.Fatalf("the task answered %q", told)
	}
	for _, place := range []string{told[0], told[2]} {
		parsed, ok := wire.ParseTraceparent(place)
		if s := received.spans[hex.EncodeToString(parsed.Span[:])]; !ok || s.GetName() != "handler scripted" {
			t.Errorf("a handler was told %q, which is %v", place, s)
		}
	}
}

// TestTracesRatio: of tasks that begin a trace no more than the share is traced, a sender decides about its own, and the
// decision reaches the handler either way.
func TestTracesRatio(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, c := range []struct {
		name, caller string
		ratio        float64
		traced       bool
	}{
		{"none, of nobody", "", 0, false},
		{"all, of nobody", "", 1, true},
		{"none, and the sender traces", "00-" + trace + "-" + span + "-01", 0, true},
		{"all, and the sender does not trace", "00-" + trace + "-" + span + "-00", 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			received := collectTraces(t)
			network := startNetwork(t)
			settings := settingsFor(t, network, handlers(t, "internal/scripted"))
			settings.Settings.Telemetry.Traces, settings.Settings.Telemetry.TracesRatio = received.URL, c.ratio
			d := start(t, settings)
			d.ready(t)
			consumer, err := client.New(t.Context(), client.Options{
				CDMURL: network.CDMURL(), PubNubOrigin: network.Addr(), APIKey: network.APIKey(), Getenv: func(string) string { return "" },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer consumer.Close()
			s, err := consumer.Send(t.Context(), client.Message{
				Agent: "scripted", Traceparent: c.caller, Parts: []client.Part{client.Text("request", `[{"trace": "traceparent"}]`)},
			})
			if err != nil {
				t.Fatal(err)
			}
			if e := awaitEvent(t, s, terminal); e.State != wire.Completed {
				t.Fatalf("the task ended as %s", e.Raw)
			}
			told, err := s.Download(t.Context(), s.Artifacts()[0])
			if err != nil {
				t.Fatal(err)
			}
			d.stop()
			if err := d.wait(t); err != nil {
				t.Fatal(err)
			}
			place, ok := wire.ParseTraceparent(string(told.Data))
			if !ok || place.Unrecorded == c.traced {
				t.Errorf("the handler was told %q", told.Data)
			}
			if traced := len(received.spans) > 0; traced != c.traced {
				t.Errorf("there are %d spans", len(received.spans))
			}
		})
	}
}

// TestNotTraced: without a collector a handler gets the place of its caller, and nothing else happens.
func TestNotTraced(t *testing.T) {
	network := startNetwork(t)
	d := start(t, settingsFor(t, network, handlers(t, "internal/scripted")))
	d.ready(t)
	if d.telemetry.tracer != nil {
		t.Error("there is a tracer")
	}
	s := submit(t, network, "scripted", `[{"trace": "traceparent"}]`)
	if e := awaitEvent(t, s, terminal); e.State != wire.Completed {
		t.Fatalf("the task ended as %s", e.Raw)
	}
	if body, err := s.Download(t.Context(), s.Artifacts()[0]); err != nil || len(body.Data) != 0 {
		t.Errorf("the handler was told %q, %v", body.Data, err)
	}
}
