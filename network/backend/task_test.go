package backend_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
)

func text(s string) []wire.Part { return []wire.Part{{PartID: "request", Text: &s}} }

func file(content string) backend.Upload {
	return backend.Upload{
		FileName: `a "b".txt`, MIMEType: "text/plain", Size: int64(len(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
}

func TestTaskCalls(t *testing.T) {
	w := newWorld(t)
	c := w.api.NewConsumer(w.sb.APIKey())
	r, err := c.SendMessage(within(t), backend.SendRequest{AgentName: "echo", BillingMode: wire.Free, Parts: text("hi"), IdempotencyKey: "k"})
	if err != nil || r.TaskID == "" || r.Channel == "" || r.ReadToken == "" || r.Keys != w.cdm.Playground || !r.Queued || r.Idempotent {
		t.Fatalf("%+v, %v", r, err)
	}
	if again, err := c.SendMessage(within(t), backend.SendRequest{AgentName: "echo", BillingMode: wire.Free, Parts: text("hi"), IdempotencyKey: "k"}); err != nil || again.TaskID != r.TaskID || !again.Idempotent {
		t.Errorf("%+v, %v", again, err)
	}
	row, err := c.GetTask(within(t), r.TaskID)
	if err != nil || row.TaskID != r.TaskID || row.AgentName != "echo" || row.State.Final() {
		t.Errorf("%+v, %v", row, err)
	}
	rows, _, err := c.ListTasks(within(t), backend.ListFilter{AgentName: "echo", Limit: 10})
	if err != nil || len(rows) != 1 || rows[0].TaskID != r.TaskID {
		t.Errorf("%+v, %v", rows, err)
	}
	token, err := c.TaskReadToken(within(t), r.TaskID, "")
	if err != nil || token.Channel != r.Channel || token.Token == "" {
		t.Errorf("%+v, %v", token, err)
	}
	if err := c.CancelTask(within(t), r.TaskID); err != nil {
		t.Error(err)
	}
	if err := c.TerminateTask(within(t), r.TaskID); err != nil {
		t.Error(err)
	}
	if _, err := c.GetTask(within(t), "unknown"); err == nil {
		t.Error("an unknown task was found")
	} else if _, ok := errors.AsType[*backend.RPCError](err); !ok {
		t.Errorf("unknown task: %v", err)
	}
}

func TestRPCErrorsAreTyped(t *testing.T) {
	w := newWorld(t)
	stranger, err := w.sb.CreateKey("org_2", "another", 0) // the owner is let off
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.api.NewConsumer(stranger.Secret).SendMessage(within(t), backend.SendRequest{AgentName: "echo", BillingMode: wire.Paid, Parts: text("hi")})
	e, ok := errors.AsType[*backend.RPCError](err)
	if !ok || e.AppCode != "BillingModeMismatch" || e.Method != "SendMessage" {
		t.Fatalf("%v", err)
	}
	var details struct{ Expected, Got string }
	if json.Unmarshal(e.Details, &details) != nil || details.Expected != "free" || details.Got != "paid" {
		t.Errorf("%s", e.Details)
	}
	w.faults.set(times(1, "/rpc", func() *http.Response {
		return answer(200, `{"error":{"code":-32000,"message":"m","data":{"code":"EMBEDDED_JWT_REVOKED"}}}`)
	}, nil, false))
	if _, err := w.api.NewConsumer(w.sb.APIKey()).SendMessage(within(t), backend.SendRequest{AgentName: "echo", BillingMode: wire.Free, Parts: text("hi")}); err != nil {
		t.Errorf("after a revoked token: %v", err)
	}
}

// A lost answer must not submit the task twice, though the caller gave no key.
func TestSendMessageSurvivesLostAnswers(t *testing.T) {
	w := newWorld(t)
	c := w.api.NewConsumer(w.sb.APIKey())
	if _, err := c.UserID(within(t)); err != nil {
		t.Fatal(err)
	}
	w.faults.set(times(2, "/rpc", nil, errReset, true))
	r, err := c.SendMessage(within(t), backend.SendRequest{AgentName: "echo", BillingMode: wire.Free, Parts: text("hi")})
	if err != nil || r.Idempotent {
		t.Fatalf("%+v, %v", r, err)
	}
	w.faults.set(nil)
	rows, _, err := c.ListTasks(within(t), backend.ListFilter{})
	if err != nil || len(rows) != 1 {
		t.Errorf("%d tasks, %v", len(rows), err)
	}
	sent := w.faults.requests("/rpc")
	if !bytes.Equal(sent[0].body, sent[2].body) {
		t.Error("a repetition differs")
	}
	w.faults.set(times(1, "/rpc", func() *http.Response {
		r := answer(429, `{"error":"too many"}`)
		r.Header.Set("Retry-After", "3600")
		return r
	}, nil, false))
	if _, err := c.GetTask(within(t), r.TaskID); err == nil || errors.Is(err, context.DeadlineExceeded) { // that of within, not of an hour
		t.Errorf("asked to wait an hour: %v", err)
	}
}

func TestUploadInput(t *testing.T) {
	w := newWorld(t)
	c := w.api.NewConsumer(w.sb.APIKey())
	u := file(strings.Repeat("x", 100_000))
	u.AgentName, u.PartID = "echo", "request"
	opened := 0
	open := u.Open
	u.Open = func() (io.ReadCloser, error) { opened++; return open() }
	w.faults.set(times(1, "/blob", func() *http.Response { return answer(503, ``) }, nil, false))
	session, err := c.UploadInput(within(t), u)
	if err != nil || session == "" || opened != 2 {
		t.Fatalf("%q, %d opened, %v", session, opened, err)
	}
	second := u
	second.SessionID, second.PartID = session, "other"
	if again, err := c.UploadInput(within(t), second); err != nil || again != session {
		t.Errorf("%q, %v", again, err)
	}
	requests := w.faults.requests("/request-upload")
	if strings.Contains(string(requests[1].body), "agentName") || !strings.Contains(string(requests[1].body), session) {
		t.Errorf("second file announced with %s", requests[1].body)
	}
	for _, r := range w.faults.requests("/blob") {
		if r.header.Get("Authorization") != "" || r.header.Get("X-Write-Affinity") != "" || r.header.Get("Blocks-Protocol-Version") != "" {
			t.Errorf("the storage was sent %v", r.header)
		}
	}
	wrong := u
	wrong.Size += 5
	if _, err := c.UploadInput(within(t), wrong); err == nil {
		t.Error("a file shorter than announced was uploaded")
	}
}

func TestLostConfirmationIsLookedUp(t *testing.T) {
	w := newWorld(t)
	c := w.api.NewConsumer(w.sb.APIKey())
	task, err := c.SendMessage(within(t), backend.SendRequest{AgentName: "echo", BillingMode: wire.Free, Parts: text("hi")})
	if err != nil {
		t.Fatal(err)
	}
	s := w.session()
	if _, err := s.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	u := file("content")
	u.TaskID = task.TaskID
	asked := 0
	u.Published = func(context.Context) (wire.ArtifactRef, bool) {
		asked++
		return wire.ArtifactRef{Kind: wire.RefFile, FileID: "found"}, true
	}
	w.faults.set(func(r *http.Request, _ []byte) (*http.Response, error, bool) {
		switch {
		case strings.Contains(r.URL.Path, "/request-upload"):
			return answer(200, `{"uploadId":"u","uploadUrl":"`+w.sb.URL()+`/api/v1/nowhere","formFields":[]}`), nil, false
		case strings.Contains(r.URL.Path, "/nowhere"):
			return answer(204, ``), nil, false
		case strings.Contains(r.URL.Path, "/confirm-upload"):
			return nil, errReset, false
		}
		return nil, nil, false
	})
	ref, err := s.UploadOutput(within(t), u)
	if err != nil || ref.FileID != "found" || asked != 1 || len(w.faults.requests("/confirm-upload")) != 1 {
		t.Errorf("%+v, asked %d times, %v", ref, asked, err)
	}
}

func TestWriteAffinityIsHandedBack(t *testing.T) {
	w := newWorld(t)
	c := w.api.NewConsumer(w.sb.APIKey())
	until := strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10)
	w.faults.set(times(1, "/rpc", func() *http.Response {
		r := answer(200, `{"result":{"tasks":[]}}`)
		r.Header.Set("X-Write-Affinity", until)
		return r
	}, nil, false))
	for range 2 {
		if _, _, err := c.ListTasks(within(t), backend.ListFilter{}); err != nil {
			t.Fatal(err)
		}
	}
	sent := w.faults.requests("/rpc")
	if got := sent[1].header.Get("X-Write-Affinity"); got == "" {
		t.Error("not handed back")
	}
}

func TestAnswersAreBounded(t *testing.T) {
	w := newWorld(t)
	w.faults.set(func(*http.Request, []byte) (*http.Response, error, bool) {
		r := answer(200, ``)
		r.Body = io.NopCloser(io.LimitReader(zeros{}, 1<<40))
		return r, nil, false
	})
	if _, err := w.api.Agent(within(t), "", "echo"); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
