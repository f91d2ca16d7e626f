package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// stretch is a bad stretch of road between an agent and the sandbox: it sees every request first and may answer it, hold
// it or drop it.
type stretch struct {
	mu   sync.Mutex
	bend func(w http.ResponseWriter, r *http.Request) (answered bool)
	addr string
}

// set changes what is done to requests; nil for nothing.
func (f *stretch) set(bend func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bend = bend
}

func (n *network) fault() *stretch {
	n.t.Helper()
	target, err := url.Parse("http://" + n.cdm.PubNubOrigin)
	if err != nil {
		n.t.Fatal(err)
	}
	f := &stretch{}
	transport := &http.Transport{}
	forward := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		// A client that gives up is nothing to report.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		bend := f.bend
		f.mu.Unlock()
		if bend == nil || !bend(w, r) {
			forward.ServeHTTP(w, r)
		}
	}))
	n.t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		transport.CloseIdleConnections()
	})
	f.addr = server.Listener.Addr().String()
	return f
}

// through makes an agent take the road f.
func (n *network) through(f *stretch) func(*Config) {
	return func(c *Config) {
		hc := &http.Client{Transport: &http.Transport{}}
		n.t.Cleanup(hc.CloseIdleConnections)
		api, err := backend.New(backend.Config{BaseURL: "http://" + f.addr, HTTP: hc})
		if err != nil {
			n.t.Fatal(err)
		}
		c.Backend, c.Origin = api, f.addr
		c.Timeouts.RetryStart, c.Timeouts.RetryCap = time.Millisecond, 10*time.Millisecond
	}
}

func isPublish(r *http.Request) bool   { return strings.HasPrefix(r.URL.Path, "/publish/") }
func isSubscribe(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v2/subscribe/") }

// refuse answers with a status.
func refuse(w http.ResponseWriter, status int) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"status":%d,"message":"injected"}`, status)
	return true
}

// TestStartUpIsRetried: whatever the registry and connect answer at first.
func TestStartUpIsRetried(t *testing.T) {
	n := newNetwork(t, true)
	f := n.fault()
	var seen atomic.Int32
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		switch i := seen.Add(1); {
		case i <= 4:
			return refuse(w, http.StatusServiceUnavailable)
		case r.URL.Path == "/api/v1/auth/agent/connect" && i <= 10:
			return refuse(w, http.StatusTooManyRequests)
		}
		return false
	})
	a := n.serve(cardOf(t, "worker", 1, ""), NewFuncDispatcher(echo), n.through(f))
	a.await(StateOnline)
	if seen.Load() < 11 {
		t.Errorf("only %d requests were made", seen.Load())
	}
}

// TestTerminalSurvivesFailures: a terminal event whose publish fails is sent until it arrives, once.
func TestTerminalSurvivesFailures(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, n.through(f))
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	c := st.next(t)
	n.awaitRunning("t1")
	var failures atomic.Int32
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		return isPublish(r) && failures.Add(1) > 0 && refuse(w, http.StatusServiceUnavailable)
	})
	c.result <- nil
	eventually(t, "the outcome waits in the outbox", func() bool { return a.Status().Counts.Outbox == 1 && failures.Load() >= 2 })
	if a.Status().Running != 0 {
		t.Error("the slot waits for the terminal")
	}
	f.set(nil)
	n.terminal("t1")
	eventually(t, "the outbox is empty", func() bool { return a.Status().Counts.Outbox == 0 })
	n.same("t1", "running completed")
}

// TestSlotIsAnnouncedAfterTheTerminal: a network that frees a slot only with a presence state that follows the terminal
// must not be left waiting, although the agent announces the slot before the terminal too.
func TestSlotIsAnnouncedAfterTheTerminal(t *testing.T) {
	n := newNetworkWith(t, false, sandbox.Config{Blocks: switches.Blocks{SlotFallback: time.Hour}})
	f := n.fault()
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if isPublish(r) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if bytes.Contains(body, []byte(`"terminal"`)) {
				time.Sleep(20 * time.Millisecond) // the state takes the faster road
			}
		}
		return false
	})
	a := n.serve(cardOf(t, "worker", 1, ""), NewFuncDispatcher(echo), func(c *Config) {
		n.through(f)(c)
		c.Timeouts.Heartbeat = time.Hour // it would repair what is tested
	})
	a.await(StateOnline)
	c := n.api.NewConsumer(n.sb.APIKey())
	var all []<-chan wire.Event
	for range 5 {
		_, events := n.submit(c, "worker", text("request", "hi"))
		all = append(all, events)
	}
	for i, events := range all {
		if _, last := ending(t, events); last.State != wire.Completed {
			t.Errorf("task %d: %s %s", i, last.State, last.Error)
		}
	}
}

// awaitRunning waits until the running event of a task is stored.
func (n *network) awaitRunning(id string) {
	n.t.Helper()
	eventually(n.t, "the task is running", func() bool { return n.story(id) == "running" })
}

// TestTerminalRefused: a terminal that the network does not want is given up, and counted.
func TestTerminalRefused(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, n.through(f))
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	c := st.next(t)
	n.awaitRunning("t1")
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		return isPublish(r) && strings.Contains(r.URL.Path, "t1") && refuse(w, http.StatusForbidden)
	})
	c.result <- nil
	eventually(t, "the task is over", func() bool { return len(a.Tasks()) == 0 })
	want := Counts{Accepted: 1, Completed: 1, Undelivered: 1}
	if diff := cmp.Diff(want, a.Status().Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	a.control(startTask("t2", ""))
	st.next(t).result <- nil
	n.terminal("t2")
}

// TestSlowPublishDoesNotDelayControl: with no publish answered, tasks start and are asked to end at once.
func TestSlowPublishDoesNotDelayControl(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, n.through(f))
	a.await(StateOnline)
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	defer let()
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if isPublish(r) || strings.HasPrefix(r.URL.Path, "/v2/presence/") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	a.control(startTask("t1", ""))
	c := st.next(t)
	a.control(startTask("t2", ""))
	other := st.next(t)
	a.control(`{"type":"CancelTask","taskId":"t1"}`)
	c.asked(t)
	for i := range 10 {
		a.control(startTask(fmt.Sprint("x", i), `,"protocolVersion":"x"`))
	}
	a.control(`{"type":"CancelTask","taskId":"t2"}`)
	other.asked(t)
	c.result <- nil
	other.result <- nil
	let()
	n.terminal("t1")
	n.terminal("t2")
	n.same("t1", "running canceled")
}

// TestDeniedSubscription: after a 403 the agent connects again with the same instance id and misses nothing.
func TestDeniedSubscription(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, n.through(f))
	a.await(StateOnline)
	var denied, connects atomic.Int32
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/api/v1/auth/agent/connect" {
			connects.Add(1)
		}
		return isSubscribe(r) && connects.Load() == 0 && denied.Add(1) > 0 && refuse(w, http.StatusForbidden)
	})
	a.control(startTask("t1", "")) // ends the poll that is held
	st.next(t).result <- nil
	a.control(startTask("t2", "")) // while denied, or after
	st.next(t).result <- nil
	n.terminal("t2")
	a.await(StateOnline)
	if denied.Load() == 0 || connects.Load() != 1 {
		t.Errorf("%d polls were denied, %d connects", denied.Load(), connects.Load())
	}
}

// TestRefusalFallsBack: an answer that the task's own token may not publish goes out with the control channel's.
func TestRefusalFallsBack(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, n.through(f))
	a.await(StateOnline)
	var tokens []string
	var mu sync.Mutex
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if !isPublish(r) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		token := r.URL.Query().Get("auth")
		tokens = append(tokens, token)
		return token == "own" && refuse(w, http.StatusForbidden)
	})
	a.control(startTask("t1", `,"protocolVersion":"x","writeToken":"own","controlToken":"fresh"`))
	n.terminal("t1")
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"own", "fresh"}, tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
}

// TestOutage: the network is unreachable while a task runs and ends; nothing is lost and nothing is said twice.
func TestOutage(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, n.through(f))
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	c := st.next(t)
	n.awaitRunning("t1")
	f.set(func(w http.ResponseWriter, _ *http.Request) bool { panic(http.ErrAbortHandler) })
	a.control(startTask("t2", "")) // ends the poll that is held; its message is lost with the connection or not
	a.await(StateConnecting)
	brought := make(chan error, 1)
	go func() { brought <- c.port.Artifact(c.ctx, wire.Artifact{Data: []byte("a")}) }()
	f.set(nil)
	if err := <-brought; err != nil {
		t.Error(err)
	}
	c.result <- nil
	st.next(t).result <- nil
	n.terminal("t1")
	n.terminal("t2")
	a.await(StateOnline)
	n.same("t1", "running artifact:a completed")
	n.same("t2", "running completed")
}

// TestOnePoll: however many tasks have been done, one poll is open and nothing is left ticking.
func TestOnePoll(t *testing.T) {
	n := newNetwork(t, true)
	f := n.fault()
	var open, most, leaves atomic.Int32
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/leave") {
			leaves.Add(1)
		}
		if !isSubscribe(r) {
			return false
		}
		now := open.Add(1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		go func(done <-chan struct{}) {
			<-done
			open.Add(-1)
		}(r.Context().Done())
		return false
	})
	a := n.serve(cardOf(t, "worker", 128, ""), NewFuncDispatcher(echo), n.through(f)) // room for all that come at once
	a.await(StateOnline)
	for i := range 100 {
		a.control(startTask(fmt.Sprint("t", i), ""))
	}
	eventually(t, "all are done", func() bool { return a.Status().Counts.Completed == 100 && len(a.Tasks()) == 0 })
	if most.Load() > 2 { // one, and the one before whose end this side has not seen yet
		t.Errorf("%d polls were open at once", most.Load())
	}
	a.stop()
	if err := a.ended(); err != nil {
		t.Error(err)
	}
	if leaves.Load() != 1 {
		t.Errorf("%d leaves were sent", leaves.Load())
	}
}

// TestUploadAnswerLost: the network published the artifact, but its answer was lost; consumers see one artifact.
func TestUploadAnswerLost(t *testing.T) {
	n := newNetwork(t, false)
	f := n.fault()
	var lost atomic.Int32
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/api/v1/files/confirm-upload" || lost.Add(1) > 1 {
			return false
		}
		// Done, but the answer does not get through.
		req := r.Clone(r.Context())
		req.RequestURI, req.URL.Scheme, req.URL.Host = "", "http", n.cdm.PubNubOrigin
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("confirm: %v", err)
		} else {
			resp.Body.Close()
		}
		return refuse(w, http.StatusBadGateway)
	})
	a := n.serve(cardOf(t, "worker", 4, ""), NewFuncDispatcher(func(ctx context.Context, _ *wire.Task, port dispatch.TaskPort) error {
		for range 2 {
			if err := port.Artifact(ctx, wire.Artifact{OutputID: "reply", FileName: "same.bin", Data: make([]byte, 50_000)}); err != nil {
				return err
			}
		}
		return nil
	}), n.through(f))
	a.await(StateOnline)
	_, events := n.submit(n.api.NewConsumer(n.sb.APIKey()), "worker", text("request", "hi"))
	before, last := ending(t, events)
	if before != "running artifact:file artifact:file" || last.State != wire.Completed {
		t.Errorf("%s, then %s %s", before, last.State, last.Error)
	}
	if lost.Load() != 2 { // once for each artifact: what is published already is not confirmed again
		t.Errorf("confirm-upload was called %d times", lost.Load())
	}
}

// TestStopDuringOutage: the end is bounded although neither the outcome nor the leave gets through.
func TestStopDuringOutage(t *testing.T) {
	n, st := newNetwork(t, true), newStage()
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), st, func(c *Config) {
		n.through(f)(c)
		c.Drain = 0
		c.Timeouts.Leave, c.Timeouts.Terminals = 50*time.Millisecond, 50*time.Millisecond
	})
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	c := st.next(t)
	n.awaitRunning("t1")
	f.set(func(w http.ResponseWriter, _ *http.Request) bool { panic(http.ErrAbortHandler) })
	a.stop()
	if reason := c.asked(t); reason != dispatch.CancelDrain {
		t.Errorf("reason %v", reason)
	}
	c.result <- nil
	if err := a.ended(); err != nil {
		t.Error(err)
	}
	want := Counts{Accepted: 1, Canceled: 1, Undelivered: 1}
	if diff := cmp.Diff(want, a.Status().Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if len(a.Tasks()) != 0 {
		t.Errorf("tasks are left: %+v", a.Tasks())
	}
}

func TestClockOffset(t *testing.T) {
	before := time.Unix(1_760_000_000, 0)
	got, err := clockOffset("17600000050000000", before, before.Add(2*time.Second))
	if err != nil || got != 4*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "x"} {
		if got, err := clockOffset(bad, before, before); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
}
