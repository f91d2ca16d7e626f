package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
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

// story of a session: its events, as texts.
func story(t *testing.T, s *client.Session) (out []string) {
	t.Helper()
	seen := map[string]bool{}
	for e, err := range s.Events(within(t)) {
		if err != nil {
			t.Fatalf("after %v: %v", out, err)
		}
		if seen[e.Timetoken] {
			t.Errorf("event %s came twice", e.Timetoken)
		}
		seen[e.Timetoken] = true
		text := string(e.Type)
		for _, s := range []string{e.Message, string(e.State), e.StreamEvent} {
			if s != "" {
				text += " " + s
			}
		}
		out = append(out, text)
	}
	return out
}

// statuses publishes n of them. Each must arrive in its place.
func (j *job) statuses(from, n int) {
	for i := from; i < from+n; i++ {
		j.publish(wire.StatusEvent(j.start.Task.ID, fmt.Sprint(i)))
	}
}

func numbers(from, n int) (out []string) {
	for i := from; i < from+n; i++ {
		out = append(out, fmt.Sprintf("progress %d", i))
	}
	return out
}

func whole(middle ...string) []string {
	return slices.Concat([]string{"request", "progress running"}, middle, []string{"terminal completed"})
}

// C27: the events of a task that ended before anybody followed it come from history alone.
func TestFastAgent(t *testing.T) {
	w := newWorld(t)
	ended := make(chan struct{})
	w.provide("echo", client.Free, func(j *job) {
		j.artifact("a", "1")
		j.end(client.Completed)
		close(ended)
	})
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	<-ended
	if d := cmp.Diff(whole("artifact"), story(t, s)); d != "" {
		t.Error(d)
	}
	if end, err := s.Wait(within(t)); err != nil || end.State != client.Completed || len(s.Artifacts()) != 1 {
		t.Errorf("%+v, %v, %d artifacts", end, err, len(s.Artifacts()))
	}
	if n := len(w.spy.find("/v2/subscribe", "")); n != 0 {
		t.Errorf("subscribed %d times", n)
	}
}

// C28: without history the session lives on what it hears, and says so in the log.
func TestHistoryIsRefused(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, func(j *job) {
		j.statuses(1, 3)
		<-j.canceled
		j.end(client.Canceled)
	})
	w.fault(fault.Rule{Endpoint: "history", Status: http.StatusForbidden})
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	var got []string
	for e, err := range s.Events(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Message)
		if e.Message == "3" {
			if err := s.Cancel(within(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if end, err := s.Wait(within(t)); err != nil || end.State != client.Canceled {
		t.Errorf("%+v, %v after %q", end, err, got)
	}
}

// C29, C30: each session reads its own channel with its own token, with the keys that the network names.
func TestTokensAndKeysOfSessions(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	w.provide("paid", client.Paid, done)
	o := w.options()
	o.SubscribeKey = "sub-c-wrong" // the answer names the right one
	c := w.clientOf(o)
	channels := map[string]string{}
	for _, agent := range []string{"echo", "echo", "paid"} {
		s := w.send(c, client.Message{Agent: agent, Parts: text("x")})
		if _, err := s.Wait(within(t)); err != nil {
			t.Fatal(err)
		}
		key := w.cdm.Playground.SubscribeKey
		if agent == "paid" {
			key = w.cdm.Network.SubscribeKey
		}
		reads := w.spy.find("/v3/history/sub-key/"+key+"/channel/", "")
		last := reads[len(reads)-1]
		if !strings.HasSuffix(last.path, "."+s.TaskID()) {
			t.Errorf("read %s for task %s", last.path, s.TaskID())
		}
		channels[last.URL.Query().Get("auth")] = last.path
	}
	if len(channels) != 3 {
		t.Errorf("%d tokens for 3 sessions", len(channels))
	}
}

// C37, C38: each of many readers, early, late and after the end, gets every event once, over one subscription.
func TestManyReaders(t *testing.T) {
	w := newWorld(t)
	goOn := make(chan struct{})
	w.provide("echo", client.Free, func(j *job) {
		j.statuses(0, 10)
		j.await(goOn)
		j.statuses(10, 10)
		j.end(client.Completed)
	})
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	want := whole(numbers(0, 20)...)
	var readers sync.WaitGroup
	var half atomic.Int32
	for range 10 {
		readers.Go(func() {
			var got []string
			for e, err := range s.Events(within(t)) {
				if err != nil {
					t.Error(err)
					return
				}
				got = append(got, e.Message)
				if e.Message == "9" && half.Add(1) == 10 {
					close(goOn)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d events", len(got))
			}
		})
		readers.Go(func() {
			if end, err := s.Wait(within(t)); err != nil || end.State != client.Completed {
				t.Errorf("%+v, %v", end, err)
			}
		})
	}
	readers.Wait()
	for range 2 {
		if d := cmp.Diff(want, story(t, s)); d != "" {
			t.Error(d)
		}
	}
	s.Close()
	if d := cmp.Diff(want, story(t, s)); d != "" { // what is known stays known
		t.Error(d)
	}
	if n := len(w.spy.find("/v3/history/", "")); n != 1 {
		t.Errorf("history was read %d times", n)
	}
}

// A reader that stops early does not disturb the others, and may begin again.
func TestReaderThatStops(t *testing.T) {
	w := newWorld(t)
	goOn := make(chan struct{})
	w.provide("echo", client.Free, func(j *job) {
		j.await(goOn)
		j.end(client.Completed)
	})
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	for range s.Events(within(t)) {
		break
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("had enough")
	cancel(why)
	if _, err := s.Wait(ctx); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	close(goOn)
	if d := cmp.Diff(whole(), story(t, s)); d != "" {
		t.Error(d)
	}
}

// C39, C40, C41: a second end, a second request to cancel and a message that is delivered twice say nothing new.
func TestRepetitions(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, func(j *job) {
		<-j.canceled
		j.statuses(0, 3)
		j.end(client.Canceled)
		j.end(client.Failed)
	})
	w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Action: fault.Duplicate})
	c := w.client()
	s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
	var asked sync.Once
	var got []string
	for e, err := range s.Events(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Type)+e.Message+string(e.State))
		if e.State == client.Running {
			asked.Do(func() {
				for range 2 {
					if err := s.Cancel(within(t)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	want := []string{"request", "progressrunning", "cancel_requested", "progress0", "progress1", "progress2", "terminalcanceled"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if end, err := w.connect(c, s.TaskID()).Wait(within(t)); err != nil || end.State != client.Canceled {
		t.Errorf("%+v, %v", end, err)
	}
}

// C43, C50: Wait ends with its context, and with the session.
func TestWait(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, untilCanceled)
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	waiting := make(chan error)
	go func() {
		_, err := s.Wait(within(t))
		waiting <- err
	}()
	s.Close()
	s.Close()
	if err := <-waiting; !errors.Is(err, client.ErrClosed) {
		t.Errorf("%v", err)
	}
	// C49: a closed session still controls its task.
	for name, call := range map[string]func(context.Context) error{"PauseTask": s.Pause, "ResumeTask": s.Resume, "RetryTask": s.Retry, "CancelTask": s.Cancel, "TerminateTask": s.Terminate} {
		if err := call(within(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		calls := w.spy.rpc(name)
		if len(calls) != 1 {
			t.Fatalf("%d calls of %s", len(calls), name)
		}
		if d := cmp.Diff(map[string]any{"taskId": s.TaskID()}, calls[0].params(t)); d != "" {
			t.Error(d)
		}
	}
}
