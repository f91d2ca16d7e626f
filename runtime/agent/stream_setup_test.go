package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// TestStreamSetup: the set-up request is exactly what the network expects, the answer comes with status 403, and each way
// in which it can go wrong is an error of its own that leaves nothing behind.
func TestStreamSetup(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	var answer atomic.Pointer[string]
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		seen.watch(w, r)
		if a := answer.Load(); a != nil && strings.Contains(r.URL.Path, "/setup.") {
			status, body, _ := strings.Cut(*a, " ")
			code := 0
			_, _ = fmt.Sscan(status, &code)
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
			return true
		}
		return false
	})
	limit := 61
	c := streamCard(t, "worker")
	c.MaxRunningTimeSec = &limit
	a := n.serve(c, st, func(cfg *Config) { n.through(f)(cfg); cfg.Timeouts.StreamSetup = patience })
	a.await(StateOnline)

	task := n.streamTask(st, "worker", wire.Request, 0)
	if _, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default", Metadata: json.RawMessage(`{"any":{"thing":[1]}}`)}); err != nil {
		t.Fatal(err)
	}
	if got := task.announced(); string(got.Metadata) != `{"any":{"thing":[1]}}` {
		t.Errorf("the consumer learns %s", got.Metadata)
	}
	org := "?"
	if all := seen.setups(); len(all) != 1 {
		t.Fatalf("%d set-up requests", len(all))
	} else {
		var m struct{ OrgID string }
		_ = json.Unmarshal([]byte(all[0].body), &m)
		org = m.OrgID
		want := fmt.Sprintf(`{"type":"stream_setup","protocolVersion":"2026-05-01","taskId":%[1]q,"orgId":%[2]q,"agentName":"worker","streamId":"%[1]s-1","channel":"stream.worker.%[1]s-1",`+
			`"direction":"outbound","format":"bytes","affinity":"dedicated","taskKind":"request","durationMinutes":2,"declaredStream":"_default","phase":"embedded","metadata":{"any":{"thing":[1]}}}`, task.id, org)
		if diff := cmp.Diff(want, all[0].body); diff != "" {
			t.Errorf("set-up request (-want +got):\n%s", diff)
		}
		if !strings.HasSuffix(all[0].path, "/0/setup."+org+"."+task.id+"/0") || !strings.Contains(all[0].query, "store=0") || strings.Contains(all[0].query, "meta=") ||
			!strings.Contains(all[0].query, "auth=") {
			t.Errorf("published as %s?%s", all[0].path, all[0].query)
		}
	}

	pipe := n.streamTask(st, "worker", wire.Pipe, 15)
	if _, _, err := pipe.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "chat"}); err != nil {
		t.Fatal(err)
	}
	if all := seen.setups(); !strings.Contains(all[1].body, `"durationMinutes":15,`) || !strings.Contains(all[1].body, `"taskKind":"pipe"`) || strings.Contains(all[1].body, "metadata") {
		t.Errorf("set-up request of a pipe task: %s", all[1].body)
	}

	grant := func(wrap string, token string) string {
		id := ""
		id = fmt.Sprint(task.id, "-%d")
		return fmt.Sprintf(wrap, fmt.Sprintf(`{"taskId":%q,"streamId":"%s","channel":"stream.worker.%s","direction":"outbound","phase":"embedded"%s,"tokenTtlMinutes":62.5}`, task.id, id, id, token))
	}
	for i, tc := range []struct{ answer, says string }{
		{`403 {"status":403,"message":{"ok":false,"error":{"code":"TokenGrantFailed","message":"No token for you."}}}`, "refused the stream with TokenGrantFailed: No token for you"},
		{`403 {"status":403,"message":"Forbidden"}`, "denied access"},
		{`403 `, "denied access"},
		{`200 [1,"Sent","17000000000000000"]`, "published the setup request instead of answering it"},
		{`503 {}`, "gave up after"},
		{"403 " + grant(`{"status":403,"message":{"ok":true,"streamSetupResponse":%s}}`, ""), "has no token"},
		{`403 {"status":403,"message":{"ok":true,"streamSetupResponse":{"taskId":"x"}}}`, "cannot be used"},
		{"403 " + grant(`{"status":403,"message":{"ok":true,"streamSetupResponse":%s}}`, `,"token":"t"`), ""},
		{"403 " + grant(`{"streamSetupResponse":%s}`, `,"token":"t"`), ""},
	} {
		text := strings.ReplaceAll(tc.answer, "%d", fmt.Sprint(i+2))
		answer.Store(&text)
		if a.cfg.Timeouts.StreamSetup = patience; strings.HasPrefix(text, "503") { // which is asked again and again
			a.cfg.Timeouts.StreamSetup = time.Second
		}
		_, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default"})
		switch {
		case tc.says == "" && err != nil:
			t.Errorf("%s: %v", text, err)
		case tc.says != "" && (faultOf(err) != dispatch.StreamUnavailable || !strings.Contains(err.Error(), tc.says)):
			t.Errorf("%s: %v", text, err)
		}
	}
	answer.Store(nil)
	a.cfg.Timeouts.StreamSetup = patience
	s, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default"})
	if err != nil {
		t.Errorf("after the refusals: %v", err)
	} else if s.Info().ID != task.id+"-11" {
		t.Errorf("stream %s", s.Info().ID)
	}
	// The streams with a made-up token cannot be ended on the network, which must not hold the task up.
	task.result <- nil
	pipe.result <- errors.New("done")
	if last := task.ending(); last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
}

// TestStreamRefusedBeforeTheNetwork: what the rules forbid costs no request.
func TestStreamRefusedBeforeTheNetwork(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	f.set(seen.watch)
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	_, events := n.submit(n.api.NewConsumer(n.sb.APIKey()), "worker", text("request", "no streams"))
	plain := st.next(t)
	if _, _, err := plain.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default"}); faultOf(err) != dispatch.StreamForbidden {
		t.Errorf("without negotiation: %v", err)
	}
	plain.result <- nil
	ending(t, events)
	task := n.streamTask(st, "worker", wire.Request, 0)
	for _, r := range []dispatch.StreamRequest{
		{}, {Declared: "nope"}, {Declared: "events", Format: wire.FormatBytes}, {Declared: "events", Direction: wire.Inbound},
		{Declared: "feed"}, {Declared: "chat"}, {Declared: "cast"}, {Declared: "events", External: true}, {Declared: "cast", External: true},
	} {
		if _, _, err := task.port.CreateStream(t.Context(), r); faultOf(err) != dispatch.StreamForbidden && faultOf(err) != dispatch.StreamUndeclared {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if all := seen.setups(); len(all) != 0 {
		t.Errorf("the network was asked: %+v", all)
	}
	task.result <- nil
}

// TestStreamGrace: a stream that is written can be held back until the consumer had time to open it.
func TestStreamGrace(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	const grace = 300 * time.Millisecond
	for _, declared := range []string{"_default", "chat", "cast"} {
		began := time.Now()
		if _, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: declared, Grace: grace}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < grace {
			t.Errorf("%s took %v", declared, took)
		}
	}
	limit, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, _, err := task.port.CreateStream(limit, dispatch.StreamRequest{Declared: "feed", Grace: time.Hour}); err != nil {
		t.Errorf("a stream that is read was waited for: %v", err)
	}
	if _, created, err := task.port.CreateStream(limit, dispatch.StreamRequest{Declared: "cast", Grace: time.Hour}); err != nil || created {
		t.Errorf("a stream that is there was waited for: %v", err)
	}
	task.result <- errors.New("over")
}

// TestStreamNobodyWaitsFor: a stream whose creation was given up is let go of.
func TestStreamNobodyWaitsFor(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	arrived, release := make(chan struct{}), make(chan struct{})
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/setup.") {
			close(arrived)
			<-release
		}
		return false
	})
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	if _, _, err := task.port.CreateStream(ctx, dispatch.StreamRequest{Declared: "_default"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(release)
	table := a.sessionOfTest().streams
	eventually(t, "nothing is left", func() bool {
		table.mu.Lock()
		defer table.mu.Unlock()
		return len(table.open) == 0 && len(table.handles) == 0
	})
	task.result <- errors.New("over")
}
