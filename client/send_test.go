package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// done ends a task at once.
func done(j *job) { j.end(client.Completed) }

// untilCanceled keeps a task running.
func untilCanceled(j *job) {
	<-j.canceled
	j.end(client.Canceled)
}

// C14, C15: errors of the network are typed.
func TestRPCErrors(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	refuse := func(body string) error {
		t.Helper()
		id := w.fault(fault.Rule{Endpoint: "rpc", Status: 200, Body: body})
		defer w.sb.Faults().Remove(id)
		_, _, err := c.Tasks(within(t), client.TaskFilter{})
		return err
	}
	rpc := func(err error) *client.RPCError {
		t.Helper()
		e, ok := errors.AsType[*client.RPCError](err)
		if !ok {
			t.Fatalf("no RPC error: %v", err)
		}
		return e
	}
	e := rpc(refuse(`{"error":{"code":-32600,"message":"outer"}}`))
	if e.Code != -32600 || e.Message != "outer" || e.Method != "ListTasks" || e.Data != nil {
		t.Errorf("%+v", e)
	}
	e = rpc(refuse(`{"error":{"code":-32000,"message":"outer","data":{"code":"Own","message":"inner","details":{"a":1},"more":2}}}`))
	if e.Code != -32000 || e.Message != "inner" || e.AppCode != "Own" || string(e.Details) != `{"a":1}` || !strings.Contains(string(e.Data), `"more":2`) {
		t.Errorf("%+v", e)
	}
	if e = rpc(refuse(`{"error":"just a text"}`)); e.Message != "just a text" {
		t.Errorf("%+v", e)
	}

	mismatch, ok := errors.AsType[*client.BillingModeMismatchError](refuse(`{"error":{"code":-32000,"message":"m","data":{"code":"BillingModeMismatch","details":{"expected":"paid","got":"free"}}}}`))
	if !ok || mismatch.Expected != client.Paid || mismatch.Got != client.Free || rpc(mismatch).Code != -32000 {
		t.Errorf("%+v", mismatch)
	}
	for _, malformed := range []string{`{"expected":"paid"}`, `{"expected":"paid","got":"x"}`, `"x"`, `null`} {
		err := refuse(`{"error":{"code":-32000,"message":"m","data":{"code":"BillingModeMismatch","details":` + malformed + `}}}`)
		if _, ok := errors.AsType[*client.BillingModeMismatchError](err); ok || rpc(err).AppCode != "BillingModeMismatch" {
			t.Errorf("%s: %v", malformed, err)
		}
	}
	balance, ok := errors.AsType[*client.InsufficientBalanceError](refuse(`{"error":{"code":-32000,"message":"m","data":{"code":"InsufficientBalance","details":{"required":"0.10","available":"0.00"}}}}`))
	if !ok || balance.Required != "0.10" || balance.Available != "0.00" {
		t.Errorf("%+v", balance)
	}
	if _, ok := errors.AsType[*client.PermissionDeniedError](refuse(`{"error":{"code":-32000,"message":"m","data":{"code":"PermissionDenied"}}}`)); !ok {
		t.Error("no permission error")
	}
	if err := c.Cancel(within(t), "unknown"); !isA[*client.NotFoundError](err) || !isA[*client.RPCError](err) {
		t.Errorf("%v", err)
	}
	w.fault(fault.Rule{Endpoint: "rpc", Status: 500})
	if _, _, err := c.Tasks(within(t), client.TaskFilter{}); rpc(err).Code != 500 {
		t.Errorf("%v", err)
	}
}

func isA[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

// C15: with a mode that is given, a mismatch is an error; one that was looked up is corrected once.
func TestBillingMode(t *testing.T) {
	w := newWorld(t)
	w.provide("paid", client.Paid, done)
	key, err := w.sb.CreateKey("org_2", "stranger", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o := w.options()
	o.APIKey, o.BillingMode = key.Secret, client.Free // the agent's own organization may use any mode
	_, err = w.clientOf(o).Send(within(t), client.Message{Agent: "paid", Parts: text("x")})
	if e, ok := errors.AsType[*client.BillingModeMismatchError](err); !ok || e.Expected != client.Paid || e.Got != client.Free {
		t.Errorf("%v", err)
	}
	if len(w.spy.rpc("SendMessage")) != 1 || len(w.spy.find("/api/v1/registry", "")) != 0 {
		t.Error("looked up, or sent again")
	}
	w.spy.forget()
	w.fault(fault.Rule{Endpoint: "registry", Times: 1, Status: 200, Body: `{"agent":{"agentName":"paid","billingMode":"free"}}`})
	o.BillingMode = ""
	s := w.send(w.clientOf(o), client.Message{Agent: "paid", Parts: text("x")})
	if _, err := s.Wait(within(t)); err != nil {
		t.Error(err)
	}
	if n := len(w.spy.rpc("SendMessage")); n != 2 {
		t.Errorf("sent %d times", n)
	}
}

// C18, C23, C24: what is sent, and nothing else.
func TestWhatIsSent(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	c := w.client()
	params := func(c *client.Client, m client.Message) map[string]any {
		t.Helper()
		w.spy.forget()
		w.send(c, m)
		p := w.spy.rpc("SendMessage")[0].params(t)
		if key, _ := p["idempotencyKey"].(string); m.IdempotencyKey == "" {
			if len(key) < 20 {
				t.Errorf("the key that was made up is %q", key)
			}
			delete(p, "idempotencyKey")
		}
		return p
	}
	base := func(more map[string]any) map[string]any {
		p := map[string]any{
			"agentName": "echo", "billingMode": "free", "ownerId": "user_1",
			"requestParts": []any{map[string]any{"partId": "request", "text": "hello"}},
		}
		for k, v := range more {
			p[k] = v
		}
		return p
	}
	blocks := func(v map[string]any) map[string]any {
		return map[string]any{"extensions": map[string]any{"blocks": v}}
	}
	hello := client.Message{Agent: "echo", Parts: text("hello")}
	with := func(change func(*client.Message)) client.Message {
		m := hello
		change(&m)
		return m
	}
	for _, tt := range []struct {
		name string
		m    client.Message
		want map[string]any
	}{
		{"plain", hello, base(nil)},
		{"streams", with(func(m *client.Message) { m.Stream = client.StreamOn }), base(blocks(map[string]any{"stream": true}))},
		{"no streams", with(func(m *client.Message) { m.Stream = client.StreamOff }), base(blocks(map[string]any{"stream": false}))},
		{"pipe", with(func(m *client.Message) { m.Duration = 15 * time.Minute }), base(blocks(map[string]any{"taskKind": "pipe", "duration": 15.0}))},
		{"public key", with(func(m *client.Message) { m.ConsumerPublicKey = "k" }), base(blocks(map[string]any{"consumerPublicKey": "k"}))},
		{"idempotency", with(func(m *client.Message) { m.IdempotencyKey = "k-1" }), base(map[string]any{"idempotencyKey": "k-1"})},
		{"push and retry", with(func(m *client.Message) {
			m.Push = &client.PushNotification{URL: "https://example.com/hook", Filter: "terminal"}
			m.Retry = &client.RetryPolicy{MaxRetries: 3, ExpiresAfterSec: 300}
		}), base(map[string]any{
			"pushNotificationConfig": map[string]any{"url": "https://example.com/hook", "filter": "terminal"},
			"retryPolicy":            map[string]any{"maxRetries": 3.0, "expiresAfterSec": 300.0},
		})},
		{"owner", with(func(m *client.Message) { m.OwnerID = "user_1" }), base(nil)},
	} {
		if d := cmp.Diff(tt.want, params(c, tt.m)); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
	o := w.options()
	o.OwnerID = "user_9"
	if _, err := w.clientOf(o).Send(within(t), hello); !isA[*client.RPCError](err) {
		t.Errorf("a task for another owner: %v", err)
	}
	// A token whose owner is not known.
	o = w.options()
	o.APIKey, o.TokenFunc = "", func(context.Context) (client.Token, error) { return client.Token{Value: w.token()}, nil }
	w.fault(fault.Rule{Endpoint: "rpc", RPC: "SendMessage", Status: 200, Body: `{"result":{"taskId":"t","extensions":{"blocks":{"readToken":"x","streamChannels":{"status":"u.a.t"}}}}}`})
	if p := params(w.clientOf(o), hello); p["ownerId"] != "" {
		t.Errorf("owner %v", p["ownerId"])
	}
}

// C21, C22: every misuse fails before anything is sent.
func TestMisuse(t *testing.T) {
	w := newWorld(t)
	c := w.client()
	w.spy.forget()
	dir := t.TempDir()
	for _, tt := range []struct {
		name, says string
		m          client.Message
	}{
		{"no agent", "send a task: it names no agent: set Message.Agent", client.Message{Parts: text("x")}},
		{"bad agent", "letters, digits", client.Message{Agent: "a b"}},
		{"file without an id", "has no id", client.Message{Parts: []client.Part{client.Bytes("", "x", nil)}}},
		{"no content", "client.Text", client.Message{Parts: []client.Part{{ID: "a"}}}},
		{"bad JSON", "valid JSON", client.Message{Parts: []client.Part{client.JSON("a", json.RawMessage("{"))}}},
		{"no JSON", "as JSON", client.Message{Parts: []client.Part{client.JSON("a", math.NaN())}}},
		{"no UTF-8", "client.Bytes", client.Message{Parts: text("\xff")}},
		{"no file", "no such file", client.Message{Parts: []client.Part{client.File("a", filepath.Join(dir, "none"))}}},
		{"a directory", "not a regular file", client.Message{Parts: []client.Part{client.File("a", dir)}}},
		{"no reader", "no content", client.Message{Parts: []client.Part{client.Reader("a", "x", nil)}}},
		{"negative", "whole minutes", client.Message{Duration: -time.Minute}},
		{"seconds", "whole minutes", client.Message{Duration: 30 * time.Second}},
		{"a half", "whole minutes", client.Message{Duration: 15*time.Minute + 30*time.Second}},
		{"too long", "43200", client.Message{Duration: 43_201 * time.Minute}},
		{"stream mode", "client.StreamOn", client.Message{Stream: 7}},
		{"key", "UTF-8", client.Message{IdempotencyKey: "\xff"}},
		{"push", "Push.URL", client.Message{Push: &client.PushNotification{URL: "x"}}},
		{"retry", "negative", client.Message{Retry: &client.RetryPolicy{MaxRetries: -1}}},
	} {
		if tt.m.Agent == "" && tt.name != "no agent" {
			tt.m.Agent = "echo"
		}
		if _, err := c.Send(within(t), tt.m); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := c.Connect(within(t), ""); err == nil {
		t.Error("connected to no task")
	}
	if n := len(w.spy.find("/", "")); n != 0 {
		t.Errorf("%d requests", n)
	}
	w.provide("echo", client.Free, done)
	for _, minutes := range []time.Duration{1, 43_200} {
		w.send(c, client.Message{Agent: "echo", Duration: minutes * time.Minute})
	}
}

// C19, C20: what is small travels inside the message, what is large is uploaded, in one upload session.
func TestFiles(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	c := w.client()
	limit, opened := 16<<10, 0
	content := strings.Repeat("x", limit+1)
	path := filepath.Join(t.TempDir(), "large.txt")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	w.spy.forget()
	w.send(c, client.Message{Agent: "echo", Parts: []client.Part{client.Bytes("file", "small.bin", []byte(content[:limit]))}})
	part := w.spy.rpc("SendMessage")[0].params(t)["requestParts"].([]any)[0].(map[string]any)
	ref := part["artifactRef"].(map[string]any)
	if len(w.spy.find("/api/v1/files", "")) != 0 || ref["kind"] != "inline" || ref["size"] != float64(limit) || ref["fileName"] != "small.bin" {
		t.Errorf("%v", ref)
	}

	w.spy.forget()
	// The storage answers without a body. An answer that is lost is a fault; one that was cut would be whole, and the connection
	// would close under the request that follows.
	w.fault(fault.Rule{Endpoint: "blob", Action: fault.Lose, Times: 1})   // the first file
	w.fault(fault.Rule{Endpoint: "blob", Status: 503, Skip: 1, Times: 1}) // after its second attempt: the second file
	w.send(c, client.Message{Agent: "echo", Parts: []client.Part{
		client.File("file", path),
		// A reader of unknown length is measured first, and opened again for each attempt.
		client.Reader("file", "read.bin", func() (io.ReadCloser, error) {
			opened++
			return io.NopCloser(io.MultiReader(strings.NewReader(content))), nil
		}),
		client.Text("request", "hello"),
	}})
	var first, second map[string]any
	requests := w.spy.find("/api/v1/files/request-upload", "")
	_ = json.Unmarshal([]byte(requests[0].body), &first)
	_ = json.Unmarshal([]byte(requests[1].body), &second)
	message := w.spy.rpc("SendMessage")[0].params(t)
	session := message["uploadSessionId"]
	want := map[string]any{"role": "consumer-input", "fileName": "large.txt", "fileSize": float64(limit + 1), "mimeType": "text/plain; charset=utf-8", "agentName": "echo", "partId": "file"}
	if d := cmp.Diff(want, first); d != "" {
		t.Error(d)
	}
	if second["uploadSessionId"] != session || second["agentName"] != nil || session == nil || second["fileName"] != "read.bin" {
		t.Errorf("session %v, second file %v", session, second)
	}
	for _, p := range message["requestParts"].([]any)[:2] {
		if p.(map[string]any)["artifactRef"] != nil {
			t.Errorf("%v", p)
		}
	}
	attempts, confirms := len(w.spy.find("/blob/", "")), len(w.spy.find("/api/v1/files/confirm-upload", ""))
	if len(requests) != 2 || attempts != 4 || confirms != 2 || opened != 3 {
		t.Errorf("%d uploads in %d attempts, %d confirmations, opened %d times", len(requests), attempts, confirms, opened)
	}
}

// C48: an upload that fails is typed, and no task is sent.
func TestUploadFails(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	c := w.client()
	large := client.Bytes("file", "large.bin", make([]byte, 100_000))
	for endpoint, status := range map[string]int{"request-upload": 413, "blob": 400, "confirm-upload": 404} {
		w.spy.forget()
		id := w.fault(fault.Rule{Endpoint: endpoint, Status: status})
		_, err := c.Send(within(t), client.Message{Agent: "echo", Parts: []client.Part{large}})
		if e, ok := errors.AsType[*client.UploadError](err); !ok || e.Status != status || e.PartID != "file" || e.FileName != "large.bin" {
			t.Errorf("%s: %v", endpoint, err)
		}
		if n := len(w.spy.rpc("SendMessage")); n != 0 {
			t.Errorf("%s: %d tasks were sent", endpoint, n)
		}
		w.sb.Faults().Remove(id)
	}
	broken := client.Reader("file", "x", func() (io.ReadCloser, error) { return nil, errors.New("no disk") })
	if _, err := c.Send(within(t), client.Message{Agent: "echo", Parts: []client.Part{broken}}); err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("%v", err)
	}
}

// C25, C26: a repetition finds the first task, ended or not.
func TestIdempotentHits(t *testing.T) {
	w := newWorld(t)
	var runs atomic.Int32
	w.provide("echo", client.Free, func(j *job) {
		runs.Add(1)
		if *j.start.Task.Parts[0].Text == "wait" {
			untilCanceled(j)
			return
		}
		j.upload("file.bin", strings.Repeat("x", 50_000))
		j.end(client.Completed)
	})
	c := w.client()
	ended := client.Message{Agent: "echo", Parts: text("x"), IdempotencyKey: "ended"}
	first := w.send(c, ended)
	if _, err := first.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	w.spy.forget()
	again := w.send(c, ended)
	if !again.Idempotent() || again.TaskID() != first.TaskID() || first.Idempotent() {
		t.Error("another task")
	}
	if n := len(w.spy.find("/v", "")) + len(w.spy.find("/time", "")); n != 0 {
		t.Errorf("%d requests to PubNub before anybody follows it", n)
	}
	artifacts := again.Artifacts()
	if len(artifacts) != 1 {
		t.Fatalf("%d artifacts", len(artifacts))
	}
	if d, err := again.Download(within(t), artifacts[0]); err != nil || len(d.Data) != 50_000 {
		t.Errorf("%d bytes, %v", len(d.Data), err)
	}
	if end, err := again.Wait(within(t)); err != nil || end.State != client.Completed {
		t.Errorf("%+v, %v", end, err)
	}
	if n := len(w.spy.find("/v2/subscribe", "")); n != 0 {
		t.Errorf("subscribed %d times to a task that has ended", n)
	}

	live := client.Message{Agent: "echo", Parts: text("wait"), IdempotencyKey: "live"}
	running := w.send(c, live)
	again = w.send(c, live)
	if !again.Idempotent() || again.TaskID() != running.TaskID() {
		t.Error("another task")
	}
	if err := again.Cancel(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*client.Session{running, again} {
		if end, err := s.Wait(within(t)); err != nil || end.State != client.Canceled {
			t.Errorf("%+v, %v", end, err)
		}
	}
	if runs.Load() != 2 {
		t.Errorf("ran %d times", runs.Load())
	}
}

// A lost answer does not send the task twice, whether the message has a key or not.
func TestLostAnswer(t *testing.T) {
	w := newWorld(t)
	var runs atomic.Int32
	w.provide("echo", client.Free, func(j *job) { runs.Add(1); done(j) })
	w.fault(fault.Rule{Endpoint: "rpc", RPC: "SendMessage", Action: fault.Lose, Times: 1})
	s := w.send(w.client(), client.Message{Agent: "echo", Parts: text("x")})
	if _, err := s.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	if runs.Load() != 1 || s.Idempotent() {
		t.Errorf("ran %d times, idempotent %v", runs.Load(), s.Idempotent())
	}
}

// A Send that never gets its answer says so, and what it may have sent can be canceled, or found with the same key.
func TestUnclearSend(t *testing.T) {
	w := newWorld(t)
	var runs atomic.Int32
	w.provide("echo", client.Free, func(j *job) {
		runs.Add(1)
		j.await(j.canceled)
		j.end(client.Canceled)
	})
	c := w.client()
	m := client.Message{Agent: "echo", Parts: text("x"), IdempotencyKey: "mine"}
	id := w.fault(fault.Rule{Endpoint: "rpc", RPC: "SendMessage", Action: fault.Lose})
	_, err := c.Send(within(t), m)
	unclear, ok := errors.AsType[*client.UnclearError](err)
	if !ok || unclear.Agent != "echo" || unclear.IdempotencyKey != "mine" {
		t.Fatalf("%v", err)
	}
	w.sb.Faults().Remove(id)
	s := w.send(c, m)
	if !s.Idempotent() {
		t.Error("the key does not find the task")
	}
	if err := unclear.Cancel(within(t)); err != nil {
		t.Fatal(err)
	}
	if end, err := s.Wait(within(t)); err != nil || end.State != client.Canceled {
		t.Errorf("%+v, %v", end, err)
	}
	if err := unclear.Cancel(within(t)); err != nil {
		t.Errorf("canceled again: %v", err)
	}
	if runs.Load() != 1 {
		t.Errorf("it ran %d times", runs.Load())
	}
	// What was refused is clear.
	if _, err := c.Send(within(t), client.Message{Agent: "nobody"}); errors.As(err, new(*client.UnclearError)) || err == nil {
		t.Errorf("an unknown agent: %v", err)
	}
}

func ExampleJSON() {
	p := client.JSON("request", map[string]int{"a": 1})
	fmt.Println(p.ID, p.MIMEType, p.IsFile())
	// Output: request application/json false
}

// A redirect is never followed with a credential.
func TestRedirects(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, untilCanceled)
	c := w.client()
	s := w.send(c, client.Message{Agent: "echo", Parts: text("x")})
	w.front(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Host == "elsewhere.example" || r.URL.Host == "elsewhere.example" {
			if strings.Contains(r.URL.RawQuery, "auth=") || r.Header.Get("Authorization") != "" || r.Header.Get("Referer") != "" {
				t.Errorf("a credential went to %s", r.URL)
			}
			rw.WriteHeader(http.StatusNotFound)
			return true
		}
		rw.Header().Set("Location", "http://elsewhere.example"+r.URL.Path)
		rw.WriteHeader(http.StatusTemporaryRedirect)
		return true
	})
	err := s.Cancel(within(t))
	if e, ok := errors.AsType[*client.RPCError](err); !ok || e.Code != 307 || !strings.Contains(err.Error(), "redirect to http://elsewhere.example") {
		t.Errorf("%v", err)
	}
	if _, err := c.Send(within(t), client.Message{Agent: "echo", Parts: text("x")}); err == nil {
		t.Error("sent")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.Wait(ctx); err == nil {
		t.Error("waited")
	}
}
