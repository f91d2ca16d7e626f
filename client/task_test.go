package client_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// C51: rows of tasks, in pages; what is not known of a row is kept.
func TestTasks(t *testing.T) {
	w := newWorld(t)
	w.provide("echo", client.Free, done)
	w.provide("other", client.Free, done)
	c := w.client()
	var sent []string
	for i := range 7 {
		s := w.send(c, client.Message{Agent: []string{"echo", "other"}[i/6], Parts: text("x")})
		if _, err := s.Wait(within(t)); err != nil {
			t.Fatal(err)
		}
		sent = append([]string{s.TaskID()}, sent...) // the newest comes first
	}
	all := func(f client.TaskFilter) (out []string) {
		t.Helper()
		for task, err := range c.AllTasks(within(t), f) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, task.ID)
		}
		return out
	}
	if d := cmp.Diff(sent, all(client.TaskFilter{Limit: 3})); d != "" {
		t.Error(d)
	}
	if n := len(w.spy.rpc("ListTasks")); n != 3 {
		t.Errorf("%d pages", n)
	}
	if d := cmp.Diff(sent[:1], all(client.TaskFilter{Agent: "other"})); d != "" {
		t.Error(d)
	}
	page, next, err := c.Tasks(within(t), client.TaskFilter{Limit: 2, State: client.Completed, Agent: "echo", Owner: "user_1"})
	if err != nil || len(page) != 2 || next == "" || page[0].Agent != "echo" || page[0].State != client.Completed || page[0].CreatedAt == "" || page[0].Owner != "user_1" {
		t.Errorf("%+v, %q, %v", page, next, err)
	}
	calls := w.spy.rpc("ListTasks")
	want := map[string]any{"ownerId": "user_1", "agentName": "echo", "state": "completed", "limit": 2.0}
	if d := cmp.Diff(want, calls[len(calls)-1].params(t)); d != "" {
		t.Error(d)
	}
	for range c.AllTasks(within(t), client.TaskFilter{Limit: 1}) {
		break // without reading on
	}
	if n := len(w.spy.rpc("ListTasks")); n != len(calls)+1 {
		t.Errorf("%d pages for one task", n-len(calls))
	}

	w.fault(fault.Rule{Endpoint: "rpc", RPC: "GetTask", Status: 200, Times: 1, Body: `{"result":{"taskId":"t","agentName":"echo","state":"running","price":"1"}}`})
	bare, err := c.Task(within(t), "t")
	if err != nil || bare.ID != "t" || bare.State != client.Running || string(bare.Raw) != `{"taskId":"t","agentName":"echo","state":"running","price":"1"}` {
		t.Errorf("%+v, %v", bare, err)
	}
	if row, err := c.Task(within(t), sent[0]); err != nil || row.ID != sent[0] || row.Agent != "other" {
		t.Errorf("%+v, %v", row, err)
	}
	for want, err := range map[string]error{
		"read task task_unknown: GetTask":      func() error { _, err := c.Task(within(t), "task_unknown"); return err }(),
		"cancel task task_unknown: CancelTask": c.Cancel(within(t), "task_unknown"),
		"retry task task_unknown: RetryTask":   c.Retry(within(t), "task_unknown"),
	} {
		if !isA[*client.NotFoundError](err) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	// A network that names the same page again does not keep us.
	w.fault(fault.Rule{Endpoint: "rpc", RPC: "ListTasks", Status: 200, Body: `{"result":{"tasks":[{"taskId":"t"}],"next":"again"}}`})
	if d := cmp.Diff([]string{"t", "t"}, all(client.TaskFilter{})); d != "" {
		t.Error(d)
	}
	w.sb.Faults().Clear()
	w.fault(fault.Rule{Endpoint: "rpc", RPC: "ListTasks", Status: 418})
	var got []string
	for _, err := range c.AllTasks(within(t), client.TaskFilter{}) {
		got = append(got, fmt.Sprint(isA[*client.RPCError](err)))
	}
	if d := cmp.Diff([]string{"true"}, got); d != "" {
		t.Error(d)
	}
}
