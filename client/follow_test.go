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
	"github.com/blocksd/blocksd/sandbox"
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

// The network may be gone for a while, in the middle of a task: nothing is lost and nothing comes twice, however long it
// was and whatever happened meanwhile.
func TestOutages(t *testing.T) {
	for _, outage := range []time.Duration{25 * time.Second, 10 * time.Minute, 2 * time.Hour} {
		for _, meanwhile := range []int{0, 5, 150} { // more than the network keeps for subscribers
			if outage > time.Hour && meanwhile != 5 {
				continue // all that time has to be played
			}
			t.Run(fmt.Sprintf("%v, %d events", outage, meanwhile), func(t *testing.T) {
				virtually(t, func(t *testing.T, w *world) {
					before, during := make(chan struct{}), make(chan struct{})
					w.provide("echo", client.Free, func(j *job) {
						j.statuses(0, 3)
						j.await(before)
						j.statuses(3, meanwhile)
						j.await(during)
						j.statuses(3+meanwhile, 2)
						j.end(client.Completed)
					})
					s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
					told := make(chan []string)
					go func() {
						var out []string
						for e, err := range s.Events(t.Context()) {
							if err != nil {
								t.Error(err)
							}
							out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s%s", e.Type, e.Message, e.State)))
						}
						told <- out
					}()
					time.Sleep(time.Second)
					down := true
					var mu sync.Mutex
					w.front(func(_ http.ResponseWriter, r *http.Request) bool {
						mu.Lock()
						defer mu.Unlock()
						if down && !strings.HasPrefix(r.URL.Path, "/api/") {
							panic(http.ErrAbortHandler)
						}
						return false
					})
					held := w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Action: fault.Drop, Held: true, Times: 1})
					time.Sleep(time.Second)
					w.sb.Faults().Remove(held)
					close(before)
					time.Sleep(outage)
					mu.Lock()
					down = false
					mu.Unlock()
					time.Sleep(time.Minute)
					close(during)
					if d := cmp.Diff(whole(numbers(0, 5+meanwhile)...), <-told); d != "" {
						t.Error(d)
					}
				})
			})
		}
	}
}

// The end of a task comes while the network is gone, and no longer than the connection needs to come back after it.
func TestEndDuringAnOutage(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		end := make(chan struct{})
		w.provide("echo", client.Free, func(j *job) { j.await(end); done(j) })
		s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		ended := make(chan error)
		go func() {
			_, err := s.Wait(t.Context())
			ended <- err
		}()
		time.Sleep(time.Second)
		var down atomic.Bool
		down.Store(true)
		w.front(func(http.ResponseWriter, *http.Request) bool {
			if down.Load() {
				panic(http.ErrAbortHandler)
			}
			return false
		})
		w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Action: fault.Drop, Held: true, Times: 1})
		time.Sleep(time.Second)
		close(end)
		time.Sleep(30 * time.Minute) // longer than the network keeps a message for subscribers
		down.Store(false)
		start := time.Now()
		if err := <-ended; err != nil || time.Since(start) > 20*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// A read token expires, or is revoked: the session gets another one and goes on.
func TestTokenOfASessionEnds(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		goOn := make(chan struct{})
		w.provide("echo", client.Free, func(j *job) {
			for i := range 4 {
				j.statuses(i, 1)
				j.await(goOn)
			}
			done(j)
		})
		s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		step := 0
		var got []string
		for e, err := range s.Events(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s%s", e.Type, e.Message, e.State)))
			if e.Message == "" {
				continue
			}
			switch step++; step {
			case 1, 2: // revoked in the middle of a poll
				time.Sleep(time.Second)
				polls := w.spy.find("/v2/subscribe", "")
				if err := w.sb.RevokeToken(polls[len(polls)-1].URL.Query().Get("auth")); err != nil {
					t.Fatal(err)
				}
			case 3: // a life later
				time.Sleep(3 * time.Hour)
			}
			select {
			case goOn <- struct{}{}:
			case <-within(t).Done():
				t.Fatal("the provider does not go on")
			}
		}
		if d := cmp.Diff(whole(numbers(0, 4)...), got); d != "" {
			t.Error(d)
		}
		if n := len(w.spy.find("/api/v1/auth/task-read-token", "")); n < 2 {
			t.Errorf("%d new tokens", n)
		}
	})
}

// The API is gone while the read token is refused: the session waits and goes on. A final refusal ends it with the reason.
func TestTokenCannotBeRenewed(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		end := make(chan struct{})
		w.provide("echo", client.Free, func(j *job) { j.await(end); done(j) })
		c := w.client()
		s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
		ended := make(chan error)
		wait := func(s *client.Session) {
			_, err := s.Wait(t.Context())
			ended <- err
		}
		go wait(s)
		time.Sleep(time.Second)
		api, err := w.sb.Faults().Outage(fault.SideBlocks)
		if err != nil {
			t.Fatal(err)
		}
		refused := w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 403, Held: true})
		time.Sleep(5 * time.Minute)
		select {
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		default:
		}
		w.sb.Faults().Remove(api)
		w.sb.Faults().Remove(refused)
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}

		w.provide("slow", client.Free, untilCanceled)
		s = w.send(c, client.Message{Agent: "slow", Parts: text("x")})
		go wait(s)
		time.Sleep(time.Second)
		w.fault(fault.Rule{Path: "/api/v1/auth/task-read-token", Status: 403, Body: `{"code":"PermissionDenied","error":"not yours any more"}`})
		w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 403, Held: true})
		err = <-ended
		if !isA[*client.PermissionDeniedError](err) || !strings.Contains(err.Error(), "not yours any more") || !strings.Contains(err.Error(), s.TaskID()) {
			t.Errorf("%v", err)
		}
		w.sb.Faults().Clear()
		if err := s.Cancel(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := s.Wait(t.Context()); err != nil { // a new call tries again
			t.Error(err)
		}
	})
}

// The token of a session is refused when the client's own has expired and cannot be renewed for the moment.
func TestBothTokensEnd(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		end := make(chan struct{})
		w.provide("echo", client.Free, func(j *job) { j.await(end); done(j) })
		s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		ended := make(chan error)
		go func() {
			_, err := s.Wait(t.Context())
			ended <- err
		}()
		time.Sleep(time.Second)
		w.sb.ExpireTokens(false)
		w.fault(fault.Rule{Endpoint: "refresh", Action: fault.Drop})
		w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 403, Held: true, Times: 2})
		time.Sleep(5 * time.Minute)
		w.sb.Faults().Clear()
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What answers is not PubNub, or does not know the channel: the session ends and says so, and does not try for ever.
func TestAnswersThatMakeNoSense(t *testing.T) {
	virtually(t, func(t *testing.T, w *world) {
		w.provide("echo", client.Free, untilCanceled)
		s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
		w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 404, Held: true})
		if _, err := s.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "status 404") {
			t.Errorf("%v", err)
		}
	})
}

// C33: the network refuses for good.
func TestFinalRefusals(t *testing.T) {
	w := newWorld(t, func(*sandbox.Config) {})
	w.provide("echo", client.Free, untilCanceled)
	c := w.client()
	s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
	w.fault(fault.Rule{Endpoint: "subscribe", Channel: "u.*", Status: 403, Held: true})
	_, err := s.Wait(within(t))
	if err == nil || !strings.Contains(err.Error(), "refuses to show the task") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
