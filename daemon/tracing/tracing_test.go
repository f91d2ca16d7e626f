package tracing

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/testutil"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait.
const patience = 3 * time.Minute

// story is what happens to a task, second by second.
func story(id string) []event.Event {
	at := time.Unix(1_000_000, 0)
	trace := &event.Trace{ID: [16]byte{1}, Task: [8]byte{2}, Handler: [8]byte{3}, Parent: [8]byte{4}}
	return []event.Event{
		{Type: event.TaskAccepted, TaskID: id, Agent: "a", Duration: time.Second, Time: at.Add(time.Second), Trace: trace},
		{Type: event.TaskStarted, TaskID: id, Agent: "a", Handler: "h\xff", PID: 7, Time: at.Add(2 * time.Second)},
		{Type: event.TaskEnded, TaskID: id, Agent: "a", Handler: "h\xff", State: "failed", Reason: "no luck", Time: at.Add(3 * time.Second)},
	}
}

// lines shows spans in a form to compare.
func lines(spans []*tracepb.Span) (out []string) {
	for _, s := range spans {
		line := fmt.Sprintf("%s %ds+%ds parent %x %s", s.Name, s.StartTimeUnixNano/1e9-1_000_000, (s.EndTimeUnixNano-s.StartTimeUnixNano)/1e9, s.ParentSpanId, s.Status.GetMessage())
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

func TestSpans(t *testing.T) {
	s := newSpans()
	var got []*tracepb.Span
	for _, e := range story("t") {
		got = append(got, s.happened(e)...)
		got = append(got, s.happened(e)...) // what is said twice is no second span, but for an acceptance
	}
	got = append(got, s.delivered("t", time.Unix(1_000_004, 0))...)
	want := []string{
		"admit 0s+1s parent 0200000000000000", "admit 0s+1s parent 0200000000000000", "queue 1s+1s parent 0200000000000000",
		"handler h\uFFFD 2s+1s parent 0200000000000000 no luck", "publish 3s+1s parent 0200000000000000", "task a 0s+4s parent 0400000000000000 no luck",
	}
	if diff := cmp.Diff(want, lines(got)); diff != "" {
		t.Error(diff)
	}
	ids := map[string]bool{}
	for _, span := range got[1:] {
		ids[string(span.SpanId)] = true
	}
	if len(ids) != 5 || len(s.open) != 0 {
		t.Errorf("%d ids, %d open", len(ids), len(s.open))
	}
	if _, err := proto.Marshal(got[3]); err != nil {
		t.Error(err)
	}

	// One that no process ever had, whose outcome never arrives.
	events := story("u")
	s.happened(events[0])
	got = append(s.happened(events[2]), s.expire(events[2].Time.Add(forget))...)
	got = append(got, s.expire(events[2].Time.Add(forget+1))...)
	if diff := cmp.Diff([]string{"queue 1s+2s parent 0200000000000000", "task a 0s+3s parent 0400000000000000 no luck"}, lines(got)); diff != "" {
		t.Error(diff)
	}

	// What is not traced, or began before, has no spans.
	for _, e := range append(story("v")[1:], event.Event{Type: event.TaskAccepted, TaskID: "w"}) {
		if got := s.happened(e); got != nil {
			t.Errorf("%v", got)
		}
	}
	if got := s.delivered("v", time.Now()); got != nil {
		t.Errorf("%v", got)
	}
	for i := range 3 * maxOpen {
		s.happened(story(fmt.Sprint(i))[0])
	}
	if len(s.open) > maxOpen || s.lost == 0 {
		t.Errorf("%d open, %d lost", len(s.open), s.lost)
	}
}

// receiver is a collector that answers as it is told to.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	status int
	names  []string
	asked  int
	header http.Header
	path   string
}

func collect(t *testing.T) *receiver {
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		m := &collectorpb.ExportTraceServiceRequest{}
		if err == nil {
			err = proto.Unmarshal(body, m)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			t.Errorf("received %q: %v", body, err)
		}
		r.asked++
		r.header, r.path = req.Header, req.URL.Path
		if r.status == http.StatusOK {
			for _, rs := range m.ResourceSpans {
				for _, ss := range rs.ScopeSpans {
					for _, s := range ss.Spans {
						r.names = append(r.names, s.Name)
					}
				}
			}
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) got() (names []string, asked int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names, r.asked
}

// traced is a tracer that runs, with its bus.
type traced struct {
	*Tracer
	bus  *event.Bus
	log  *testutil.Buffer
	stop func()
}

func run(t *testing.T, endpoint string) *traced {
	t.Helper()
	return runFor(t, endpoint, patience)
}

// runFor lets the last requests take some time. A single one may take an hour.
func runFor(t *testing.T, endpoint string, last time.Duration) *traced {
	t.Helper()
	tr := &traced{bus: event.NewBus(event.Config{}), log: &testutil.Buffer{}}
	headers, err := Headers("Api-Key=a%20b, x-more=1")
	if err != nil {
		t.Fatal(err)
	}
	tr.Tracer, err = New(Config{
		Endpoint: endpoint, Headers: headers, Service: "blocksd", Version: "v1", Events: tr.bus, Log: slog.New(slog.NewTextHandler(tr.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	tr.sender.timeout, tr.last = time.Hour, last
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tr.Run(ctx)
	}()
	tr.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(tr.stop)
	return tr
}

// task lets a task happen.
func (tr *traced) task(id string) {
	for _, e := range story(id) {
		tr.bus.Emit(e)
	}
	tr.Delivered(id)
}

// TestSends: what has happened up to the end is sent, to the path of the protocol and with the headers.
func TestSends(t *testing.T) {
	r := collect(t)
	tr := run(t, r.URL)
	tr.task("t")
	tr.stop()
	names, _ := r.got()
	if diff := cmp.Diff([]string{"admit", "queue", "handler h\uFFFD", "publish", "task a"}, names); diff != "" {
		t.Error(diff)
	}
	if r.path != "/v1/traces" || r.header.Get("Api-Key") != "a b" || r.header.Get("X-More") != "1" {
		t.Errorf("%s %v", r.path, r.header)
	}
}

// TestCollectorComesBack: spans wait for a collector that is busy, and it is said once.
func TestCollectorComesBack(t *testing.T) {
	r := collect(t)
	r.answer(http.StatusServiceUnavailable)
	tr := run(t, r.URL+"/v1/traces")
	tr.task("t")
	testutil.Eventually(t, patience, "it was asked twice", func() bool { _, asked := r.got(); return asked > 1 })
	r.answer(http.StatusOK)
	testutil.Eventually(t, patience, "the spans arrive", func() bool { names, _ := r.got(); return len(names) == 5 })
	tr.stop()
	if log := tr.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "traces are sent again") || r.path != "/v1/traces" {
		t.Errorf("%s: %s", r.path, log)
	}
}

// TestCollectorRefuses: what a collector will never take does not come again.
func TestCollectorRefuses(t *testing.T) {
	r := collect(t)
	r.answer(http.StatusBadRequest)
	tr := run(t, r.URL)
	tr.task("t")
	testutil.Eventually(t, patience, "it was asked", func() bool { _, asked := r.got(); return asked == 1 })
	r.answer(http.StatusOK)
	tr.task("u")
	tr.stop()
	if names, asked := r.got(); len(names) != 5 || asked != 2 {
		t.Errorf("%q, asked %d times", names, asked)
	}
}

// TestCollectorRedirects: spans and the secrets of the headers go to nobody but the collector that was named.
func TestCollectorRedirects(t *testing.T) {
	other := collect(t)
	r := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(r.Close)
	tr := run(t, r.URL)
	tr.task("t")
	tr.stop()
	if _, asked := other.got(); asked != 0 {
		t.Errorf("the other one was asked %d times, with the header %q", asked, other.header.Get("Api-Key"))
	}
	if said := tr.log.String(); !strings.Contains(said, "307") {
		t.Errorf("the log says %q", said)
	}
}

// TestCollectorHangs: one that takes connections and says nothing costs spans only, and the end of the daemon a moment.
func TestCollectorHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tr := runFor(t, "http://"+l.Addr().String(), 100*time.Millisecond)
	testutil.Eventually(t, patience, "the queue is full", func() bool {
		for i := range 100 {
			tr.task(fmt.Sprint(i))
		}
		tr.queue.mu.Lock()
		defer tr.queue.mu.Unlock()
		return len(tr.queue.spans) == maxWaiting && tr.queue.dropped > 0
	})
	ended := make(chan struct{})
	go func() { defer close(ended); tr.stop() }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the tracer does not end")
	}
}

// TestGathers: tasks one after the other share a request, and an idle daemon sends none.
func TestGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &Tracer{queue: newQueue(), log: slog.New(slog.DiscardHandler)}
		var sizes []int
		tr.sender = &sender{address: "http://collector/", headers: http.Header{}, timeout: requestTimeout, client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			sizes = append(sizes, len(body))
			return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
		})}}
		made := make(chan struct{})
		go tr.send(t.Context(), made)
		time.Sleep(time.Hour + gather/20) // not at the moment of a request
		for range 9 {
			tr.queue.add([]*tracepb.Span{{Name: "x"}})
			time.Sleep(gather / 10)
		}
		time.Sleep(2 * gather)
		close(made)
		synctest.Wait()
		if len(sizes) != 1 {
			t.Errorf("%d requests", len(sizes))
		}
	})
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestSecrets: what is wrong is said without passwords.
func TestSecrets(t *testing.T) {
	for _, wrong := range []string{"secret", "a=%zz secret", "=secret"} {
		if _, err := Headers(wrong); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := Address("http://user:secret@[::1"); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	s := &sender{address: "http://user:secret@127.0.0.1:1/v1/traces", headers: http.Header{}, client: http.DefaultClient, timeout: patience}
	if err := s.send(t.Context(), nil); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
