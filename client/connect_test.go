package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// C31: a task that has ended is read, and not subscribed to.
func TestConnectToFinishedTask(t *testing.T) {
	for _, mode := range []client.BillingMode{client.Free, client.Paid} {
		w := newWorld(t)
		w.provide("echo", mode, func(j *job) {
			j.artifact("a", "1")
			j.publish(wire.TerminalEvent(j.start.Task.ID, wire.Terminal{State: wire.Failed, Error: "no"}))
		})
		first := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		if end, err := first.Wait(within(t)); err != nil || end.State != client.Failed || end.Error != "no" {
			t.Fatalf("%+v, %v", end, err)
		}
		w.spy.forget()
		s := w.connect(w.client(), first.TaskID())
		if n := len(s.Artifacts()); n != 1 || s.Agent() != "echo" || s.TaskID() != first.TaskID() {
			t.Errorf("%d artifacts of %s", n, s.Agent())
		}
		if got := story(t, s); len(got) != 4 || got[3] != "terminal failed" {
			t.Errorf("%q", got)
		}
		if n := len(w.spy.find("/v2/subscribe", "")); n != 0 {
			t.Errorf("subscribed %d times", n)
		}
	}
}

// C32: the row of a task lags behind its events, and may outlive them.
func TestHistoryWinsOverTheRow(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	c := w.client()
	first := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
	if _, err := first.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	w.spy.forget()
	row := func(state string) string {
		return fmt.Sprintf(`{"result":{"task":{"taskId":%q,"agentName":"echo","owner":"user_1","state":%q}}}`, first.TaskID(), state)
	}
	for _, state := range []string{"running", "failed"} {
		id := w.fault(fault.Rule{Endpoint: "rpc", RPC: "GetTask", Status: 200, Body: row(state)})
		s := w.connect(c, first.TaskID())
		if end, err := s.Wait(within(t)); err != nil || end.State != client.Completed {
			t.Errorf("row %s: %+v, %v", state, end, err)
		}
		w.sb.Faults().Remove(id)
	}
	if n := len(w.spy.find("/v2/subscribe", "")); n != 0 {
		t.Errorf("subscribed %d times", n)
	}
	// The events are gone, and the row says how it ended.
	w.fault(fault.Rule{Endpoint: "rpc", RPC: "GetTask", Status: 200, Body: row("failed")})
	w.fault(fault.Rule{Endpoint: "history", Status: 200, Body: `{"status":200,"error":false,"error_message":"","channels":{}}`})
	s := w.connect(c, first.TaskID())
	if end, err := s.Wait(within(t)); err != nil || end.State != client.Failed {
		t.Errorf("%+v, %v", end, err)
	}
}

// C33, C34: history, in pages, and then live events, none twice and none lost.
func TestConnectToRunningTask(t *testing.T) {
	w := newWorld(t)
	stored, goOn := make(chan struct{}), make(chan struct{})
	w.provide("echo", client.Free, func(j *job) {
		j.statuses(0, 103) // with request and running they are 105
		close(stored)
		j.await(goOn)
		j.statuses(103, 3)
		j.end(client.Completed)
	})
	c := w.client()
	first := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
	<-stored
	w.spy.forget()
	s := w.connect(c, first.TaskID())
	var once sync.Once
	count := 0
	for e, err := range s.Events(within(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if count++; e.Message == "102" {
			pages := w.spy.find("/v3/history/", "")
			if len(pages) != 2 || pages[0].URL.Query().Get("start") != "" || pages[1].URL.Query().Get("start") == "" {
				t.Errorf("%d pages of history", len(pages))
			}
			once.Do(func() { close(goOn) })
		}
	}
	if count != 109 {
		t.Errorf("%d events", count)
	}
	if d := cmp.Diff(whole(numbers(0, 106)...), story(t, s)); d != "" {
		t.Error(d)
	}
}

// C35: the role is passed on; a credential that may not read the task is refused.
func TestConnectAsSomebody(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	c := w.client()
	task := w.send(c, client.Message{Agent: "echo", Parts: text("x")}).TaskID()
	w.connect(c, task)
	s := w.connect(c, task, client.AsProvider())
	sent := w.spy.find("/api/v1/auth/task-read-token", "")
	if len(sent) != 2 || !strings.Contains(sent[0].body, `"role":"consumer"`) || !strings.Contains(sent[1].body, `"role":"provider"`) || sent[1].bearer() == "" {
		t.Errorf("%+v", sent)
	}
	if _, err := s.Wait(within(t)); err != nil {
		t.Error(err)
	}
	if _, err := c.Connect(within(t), "task_unknown"); !isA[*client.NotFoundError](err) {
		t.Errorf("%v", err)
	}
}

// Whoever has any credential may connect as the first thing that a client does, in either role, and may ask for the end of
// the task more than once.
func TestConnectFirst(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	task := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")}).TaskID()
	keyless := w.options()
	keyless.APIKey, keyless.TokenFunc = "", func(context.Context) (client.Token, error) { return client.Token{Value: w.token()}, nil }
	for name, o := range map[string]client.Options{"API key": w.options(), "function": keyless} {
		for _, options := range [][]client.Option{nil, {client.AsProvider()}} {
			s, err := w.clientOf(o).Connect(within(t), task, options...)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			first, err := s.Wait(within(t))
			second, again := s.Wait(within(t))
			if err != nil || again != nil || first.State != client.Completed || first != second {
				t.Errorf("%s: %+v, %v, then %+v, %v", name, first, err, second, again)
			}
		}
	}
}

// A wrong address is no missing agent or task.
func TestWrongAddress(t *testing.T) {
	o := newWorld(t).options()
	o.CDMURL += "/nowhere"
	c, err := client.New(within(t), o)
	if err == nil {
		c.Close()
	}
	if err == nil || isA[*client.NotFoundError](err) || !strings.Contains(err.Error(), "fetch the deployment document at "+o.CDMURL) {
		t.Errorf("%v", err)
	}
}

// C36: a visitor without an account reads what is public, and sends nothing.
func TestAnonymous(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	task := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")}).TaskID()
	w.spy.forget()
	o := w.options()
	o.APIKey, o.Anonymous = "", "fp-1"
	c := w.clientOf(o)
	if c.UserID() != "" {
		t.Errorf("user %q", c.UserID())
	}
	s := w.connect(c, task)
	if end, err := s.Wait(within(t)); err != nil || end.State != client.Completed {
		t.Errorf("%+v, %v", end, err)
	}
	got := w.spy.find("/api/v1/auth/", "")
	if len(got) != 1 || got[0].URL.Path != "/api/v1/auth/anon-task-read-token" || got[0].body != fmt.Sprintf(`{"taskId":%q,"fingerprint":"fp-1"}`, task) {
		t.Errorf("%+v", got)
	}
	for _, r := range w.spy.find("/api/", "") {
		if r.bearer() != "" {
			t.Errorf("%s was sent with %q", r.URL.Path, r.bearer())
		}
	}
	w.spy.forget()
	if _, err := c.Send(within(t), client.Message{Agent: "echo", Parts: text("x")}); err == nil || !strings.Contains(err.Error(), "APIKey") {
		t.Errorf("%v", err)
	}
	if n := len(w.spy.find("/", "")); n != 0 {
		t.Errorf("%d requests", n)
	}
	w.fault(fault.Rule{Path: "/api/v1/auth/anon-task-read-token", Status: http.StatusForbidden})
	_, err := c.Connect(within(t), task)
	if e, ok := errors.AsType[*client.AnonymousDeniedError](err); !ok || e.TaskID != task || !strings.Contains(err.Error(), "403") {
		t.Errorf("%v", err)
	}
}
