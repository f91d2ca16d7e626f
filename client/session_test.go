package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// collect reads a session to its end.
func collect(t *testing.T, s *client.Session) (types []string, last client.Event) {
	t.Helper()
	seen := map[string]bool{}
	for e, err := range s.Events(within(t)) {
		if err != nil {
			t.Fatalf("after %v: %v", types, err)
		}
		if seen[e.Timetoken] {
			t.Errorf("event %s came twice", e.Timetoken)
		}
		seen[e.Timetoken] = true
		types = append(types, string(e.Type))
		last = e
	}
	return types, last
}

func isSubscribe(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v2/subscribe/") }

func TestSubmitAndFollow(t *testing.T) {
	for _, mode := range []wire.BillingMode{wire.Free, wire.Paid} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorld(t)
			w.provide("echo", mode, func(j *job) {
				j.publish(wire.StatusEvent(j.start.Task.ID, "half way"))
				j.artifact("reply.txt", "Echo: "+*j.start.Task.Parts[0].Text)
				j.end(wire.Completed)
			})
			c := w.client()
			s, err := c.Send(within(t), client.Message{Agent: "echo", Parts: text("hello")})
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"request", "progress", "progress", "artifact", "terminal"}
			types, last := collect(t, s)
			if d := cmp.Diff(want, types); d != "" || last.State != wire.Completed {
				t.Error(d, last.State)
			}
			if types, _ := collect(t, s); len(types) != len(want) {
				t.Errorf("the second time %v", types)
			}
			if e, err := s.Wait(within(t)); err != nil || e.State != wire.Completed {
				t.Errorf("%v, %v", e, err)
			}
			other, err := c.Connect(within(t), s.TaskID())
			if err != nil {
				t.Fatal(err)
			}
			if types, _ := collect(t, other); len(types) != len(want) {
				t.Errorf("attached: %v", types)
			}
		})
	}
}

func TestLiveEventsOverABadConnection(t *testing.T) {
	w := newWorld(t)
	step := make(chan struct{})
	w.provide("echo", wire.Free, func(j *job) {
		for range 20 {
			select {
			case <-step:
			case <-j.canceled:
				return
			}
			j.publish(wire.StatusEvent(j.start.Task.ID, "x"))
		}
		j.end(wire.Completed)
	})
	chance := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	w.front(func(rw http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		dice := chance.IntN(6)
		mu.Unlock()
		switch {
		case dice == 0:
			rw.WriteHeader(http.StatusServiceUnavailable)
			return true
		case dice == 1 && isSubscribe(r):
			panic(http.ErrAbortHandler) // cut off
		}
		return false
	})
	s, err := w.client().Send(within(t), client.Message{Agent: "echo", Parts: text("hello")})
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for e, err := range s.Events(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		count++
		if e.Type == wire.EventProgress && count < 22 {
			select {
			case step <- struct{}{}:
			case <-within(t).Done():
				t.Fatal("the provider does not continue")
			}
		}
	}
	if count != 23 {
		t.Errorf("%d events", count)
	}
}

func TestCancel(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", wire.Free, func(j *job) {
		<-j.canceled
		j.end(wire.Canceled)
	})
	s, err := w.client().Send(within(t), client.Message{Agent: "echo", Parts: text("hello")})
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	var types []string
	for e, err := range s.Events(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, string(e.Type))
		if e.Type == wire.EventProgress {
			once.Do(func() {
				if err := s.Cancel(within(t)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	if d := cmp.Diff([]string{"request", "progress", "cancel_requested", "terminal"}, types); d != "" {
		t.Error(d)
	}
}

func TestFirstTerminalIsTheLastEvent(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", wire.Free, func(j *job) {
		j.end(wire.Completed)
		j.end(wire.Failed)
		j.publish(wire.StatusEvent(j.start.Task.ID, "late"))
	})
	s, err := w.client().Send(within(t), client.Message{Agent: "echo", Parts: text("hello")})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // live, then from history
		types, last := collect(t, s)
		if d := cmp.Diff([]string{"request", "progress", "terminal"}, types); d != "" || last.State != wire.Completed {
			t.Error(d, last.State)
		}
	}
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t)
	var runs atomic.Int32
	w.provide("echo", wire.Free, func(j *job) {
		runs.Add(1)
		j.end(wire.Completed)
	})
	c := w.client()
	r := client.Message{Agent: "echo", Parts: text("hello"), IdempotencyKey: "key"}
	first, err := c.Send(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	collect(t, first)
	second, err := c.Send(within(t), r)
	if err != nil || second.TaskID() != first.TaskID() || !second.Idempotent() || first.Idempotent() {
		t.Fatalf("%v, %v", second, err)
	}
	if types, _ := collect(t, second); len(types) != 3 || runs.Load() != 1 {
		t.Errorf("%v, ran %d times", types, runs.Load())
	}
}

func TestRefusedTokensAreRenewedOrReported(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", wire.Free, func(j *job) {
		<-j.canceled
		j.end(wire.Canceled)
	})
	forbid := func(rw http.ResponseWriter) bool {
		rw.WriteHeader(http.StatusForbidden)
		_, _ = rw.Write([]byte(`{"message":"Forbidden","status":403}`))
		return true
	}
	var left atomic.Int32
	left.Store(2)
	w.front(func(rw http.ResponseWriter, r *http.Request) bool {
		return isSubscribe(r) && left.Add(-1) >= 0 && forbid(rw)
	})
	s, err := w.client().Send(within(t), client.Message{Agent: "echo", Parts: text("hello")})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range s.Events(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Type == wire.EventProgress {
			break
		}
	}
	w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: http.StatusForbidden, Held: true})
	_, err = s.Wait(within(t))
	if err == nil || !strings.Contains(err.Error(), "refuses") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a task that may not be seen: %v", err)
	}
	if err := s.Cancel(within(t)); err != nil {
		t.Error(err)
	}
}

func TestCloseEndsWaiting(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", wire.Free, func(j *job) {
		<-j.canceled
		j.end(wire.Canceled)
	})
	c := w.client()
	s, err := c.Send(within(t), client.Message{Agent: "echo", Parts: text("hello")})
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	for e, err := range s.Events(within(t)) {
		if err != nil {
			if !errors.Is(err, client.ErrClosed) {
				t.Errorf("%v", err)
			}
			ended = true
		}
		if e.Type == wire.EventProgress {
			s.Close()
		}
	}
	if !ended {
		t.Error("the events ended without an error")
	}
	if _, err := s.Wait(within(t)); !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := s.Cancel(within(t)); err != nil {
		t.Errorf("a closed session cannot cancel: %v", err)
	}
	other, err := c.Connect(within(t), s.TaskID())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	if _, err := other.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestSubmitChecksBeforeItSends(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	for name, r := range map[string]client.Message{
		"no agent":         {Parts: text("x")},
		"bad agent":        {Agent: "a b"},
		"unknown agent":    {Agent: "nobody", Parts: text("x")},
		"no part id":       {Agent: "echo", Parts: []client.Part{client.Text("", "x")}},
		"no content":       {Agent: "echo", Parts: []client.Part{{ID: "a"}}},
		"bad JSON":         {Agent: "echo", Parts: []client.Part{client.JSON("a", json.RawMessage("{"))}},
		"half a minute":    {Agent: "echo", Duration: 30 * time.Second},
		"long duration":    {Agent: "echo", Duration: 43201 * time.Minute},
		"no file":          {Agent: "echo", Parts: []client.Part{client.File("a", "/nowhere")}},
		"no whole minutes": {Agent: "echo", Duration: 90 * time.Second},
	} {
		if _, err := c.Send(within(t), r); err == nil {
			t.Errorf("%s: submitted", name)
		}
	}
	if _, err := c.Connect(within(t), "unknown"); err == nil {
		t.Error("attached to an unknown task")
	}
	if _, err := client.New(within(t), client.Options{CDMURL: w.sb.CDMURL(), APIKey: "bk_wrong", Getenv: noEnvironment}); err == nil || strings.Contains(err.Error(), "bk_wrong") {
		t.Errorf("wrong key: %v", err)
	}
	if _, err := client.New(within(t), client.Options{Getenv: noEnvironment}); err == nil {
		t.Error("no key: connected")
	}
}

// An event that is published between the read of history and the first poll must not be lost.
func TestNothingIsLostBetweenHistoryAndLive(t *testing.T) {
	w := newWorld(t)
	gap, published := make(chan struct{}), make(chan struct{})
	w.provide("echo", wire.Free, func(j *job) {
		select {
		case <-gap:
		case <-j.canceled:
			return
		}
		j.artifact("a", "1")
		j.end(wire.Completed)
		close(published)
	})
	var once sync.Once
	w.front(func(_ http.ResponseWriter, r *http.Request) bool {
		if isSubscribe(r) {
			once.Do(func() {
				close(gap)
				<-published
			})
		}
		return false
	})
	s, err := w.client().Send(within(t), client.Message{Agent: "echo", Parts: text("hello")})
	if err != nil {
		t.Fatal(err)
	}
	types, _ := collect(t, s)
	if got := types[len(types)-2:]; got[0] != "artifact" || got[1] != "terminal" {
		t.Errorf("%v", types)
	}
}
