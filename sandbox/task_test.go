package sandbox

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/wire"
)

func TestTaskTravelsTheWholeWay(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 1, `{}`)
	w := b.work("echo", "AG-echo-1", 1)
	w.state(0)
	token := b.consumer(b.APIKey())
	s := b.send(token, "echo", "hello", nil)
	if s.Queued || s.Idempotent || s.State != "pending" || s.OrgID != "org_1" || s.Extensions.Blocks.StreamChannels.Status != "u.org_1."+s.TaskID {
		t.Errorf("submitted: %+v", s)
	}
	start := w.next()
	if start["type"] != "StartTask" || start["taskId"] != s.TaskID || start["ownerId"] != "user_1" || start["orgId"] != "org_1" || start["writeToken"] == "" {
		t.Errorf("start: %v", start)
	}
	w.state(1)
	w.running(start)
	if got := b.taskState(token, s.TaskID); got != "running" {
		t.Errorf("state %s, want running", got)
	}
	w.end(start, wire.Completed)
	w.end(start, wire.Failed) // a second terminal changes nothing
	w.state(0)
	if got := b.taskState(token, s.TaskID); got != "completed" {
		t.Errorf("state %s, want completed", got)
	}
	if diff := cmp.Diff([]string{"request", "progress running", "terminal completed", "terminal failed"}, b.events(s)); diff != "" {
		t.Error(diff)
	}
	if e := b.rpc(token, "CancelTask", object{"taskId": s.TaskID}, nil); e != nil {
		t.Errorf("cancel of a finished task: %+v", e)
	}
	if n := len(b.events(s)); n != 4 {
		t.Errorf("cancel of a finished task left %d events", n)
	}
}

func TestSlotIsFreedByPresenceState(t *testing.T) {
	b := start(t, nil)
	b.register("one", 1, `{}`)
	w := b.work("one", "AG-one-1", 1)
	w.state(0)
	token := b.consumer(b.APIKey())
	b.send(token, "one", "a", nil)
	first := w.next()
	second := b.send(token, "one", "b", nil)
	if !second.Queued {
		t.Error("second task is not queued")
	}
	w.state(1)
	w.running(first)
	w.end(first, wire.Completed)
	b.taskState(token, second.TaskID) // the terminal has been taken note of
	w.idle()
	w.state(0)
	if got := w.next()["taskId"]; got != second.TaskID {
		t.Errorf("got task %v, want %s", got, second.TaskID)
	}
}

func TestSlotIsFreedWithoutState(t *testing.T) {
	b := start(t, nil)
	b.register("one", 1, `{}`)
	w := b.work("one", "AG-one-1", 1)
	w.state(0)
	token := b.consumer(b.APIKey())
	b.send(token, "one", "a", nil)
	first := w.next()
	second := b.send(token, "one", "b", nil)
	w.running(first)
	begin := time.Now() // before the end, from which the network counts
	w.end(first, wire.Completed)
	if got := w.next()["taskId"]; got != second.TaskID {
		t.Errorf("got task %v, want %s", got, second.TaskID)
	}
	if took := time.Since(begin); took < time.Second {
		t.Errorf("slot was freed after %s, without a presence state", took)
	}
}

func TestTaskWaitsForAnInstance(t *testing.T) {
	b := start(t, nil)
	b.register("late", 2, `{}`)
	token := b.consumer(b.APIKey())
	s := b.send(token, "late", "a", nil)
	if !s.Queued {
		t.Error("not queued")
	}
	w := b.work("late", "AG-late-1", 2)
	if got := w.next()["taskId"]; got != s.TaskID {
		t.Errorf("got task %v, want %s", got, s.TaskID)
	}
}

func TestLeastLoadedInstance(t *testing.T) {
	b := start(t, nil)
	b.register("two", 2, `{}`)
	x, y := b.work("two", "AG-two-x", 2), b.work("two", "AG-two-y", 2)
	x.state(1)
	y.state(0)
	token := b.consumer(b.APIKey())
	s := b.send(token, "two", "a", nil)
	if got := y.next()["taskId"]; got != s.TaskID {
		t.Errorf("got task %v, want %s", got, s.TaskID)
	}
	x.idle()
}

func TestLostInstance(t *testing.T) {
	b := start(t, func(c *Config) { c.SafetyNet = 200 * time.Millisecond })
	b.register("two", 2, `{}`)
	x := b.work("two", "AG-two-x", 2)
	token := b.consumer(b.APIKey())
	running, pending := b.send(token, "two", "a", nil), b.send(token, "two", "b", nil)
	start := x.next()
	x.next()
	x.running(start)
	x.stop()
	x.leave()
	y := b.work("two", "AG-two-y", 2)
	// A poll that x had under way when it was stopped may arrive after it has left, and bring it back: it leaves again.
	b.await("y gets the task that x had not begun", func() bool {
		x.leave()
		return len(y.messages) > 0
	})
	if got := y.next()["taskId"]; got != pending.TaskID {
		t.Errorf("got task %v, want %s", got, pending.TaskID)
	}
	b.await("safety net", func() bool {
		x.leave()
		return b.taskState(token, running.TaskID) == "failed"
	})
	if diff := cmp.Diff([]string{"request", "progress running", "terminal failed"}, b.events(running)); diff != "" {
		t.Error(diff)
	}
}

func TestCancel(t *testing.T) {
	b := start(t, func(c *Config) { c.CancelBudget = 100 * time.Millisecond })
	b.register("one", 1, `{}`)
	w := b.work("one", "AG-one-1", 1)
	token := b.consumer(b.APIKey())
	obedient := b.send(token, "one", "a", nil)
	start := w.next()
	w.running(start)
	queued := b.send(token, "one", "b", nil)
	for _, id := range []string{obedient.TaskID, queued.TaskID} {
		if e := b.rpc(token, "CancelTask", object{"taskId": id}, nil); e != nil {
			t.Fatalf("CancelTask: %+v", e)
		}
	}
	order := w.next()
	if order["type"] != "CancelTask" || order["taskId"] != obedient.TaskID {
		t.Errorf("got %v", order)
	}
	b.await("queued task is canceled", func() bool { return b.taskState(token, queued.TaskID) == "canceled" })
	if diff := cmp.Diff([]string{"request", "cancel_requested", "terminal canceled"}, b.events(queued)); diff != "" {
		t.Error(diff)
	}
	// The instance does not react: the network ends the task itself.
	b.await("budget", func() bool { return b.taskState(token, obedient.TaskID) == "canceled" })
	if diff := cmp.Diff([]string{"request", "progress running", "cancel_requested", "terminal canceled"}, b.events(obedient)); diff != "" {
		t.Error(diff)
	}
}

func TestIdempotencyKeysBelongToTheCaller(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 1, `{}`)
	mine, other := b.consumer(b.APIKey()), b.consumer(b.keys.Orgs[1].APIKey)
	key := object{"idempotencyKey": "k"}
	first, again, foreign := b.send(mine, "echo", "a", key), b.send(mine, "echo", "a", key), b.send(other, "echo", "a", key)
	if again.TaskID != first.TaskID || !again.Idempotent || first.Idempotent {
		t.Errorf("first %+v, again %+v", first, again)
	}
	if foreign.TaskID == first.TaskID || foreign.Idempotent {
		t.Errorf("foreign %+v", foreign)
	}
	if diff := cmp.Diff([]string{"request"}, b.events(first)); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	b := start(t, nil)
	b.register("open", 1, `{}`)
	b.register("closed", 1, `{"listing":"private"}`)
	b.register("dear", 1, `{"billingMode":"paid","pricePerTask":"0.25"}`)
	mine, other, broke := b.consumer(b.APIKey()), b.consumer(b.keys.Orgs[1].APIKey), b.consumer(b.keys.Orgs[2].APIKey)
	own := b.send(mine, "open", "x", nil)
	private := b.send(mine, "closed", "x", nil)
	type params = object
	tests := []struct {
		name, token, method string
		params              params
		code                int
		app                 string
	}{
		{"unknown agent", mine, "SendMessage", params{"agentName": "nobody", "billingMode": "free"}, -32000, "AgentNotFound"},
		{"private agent", other, "SendMessage", params{"agentName": "closed", "billingMode": "free"}, -32000, "AgentNotFound"},
		{"billing mode", other, "SendMessage", params{"agentName": "dear", "billingMode": "free"}, -32000, "BillingModeMismatch"},
		{"no balance", broke, "SendMessage", params{"agentName": "dear", "billingMode": "paid"}, -32000, "InsufficientBalance"},
		{"owner", mine, "SendMessage", params{"agentName": "open", "billingMode": "free", "ownerId": "user_2"}, -32000, "PermissionDenied"},
		{"no agent name", mine, "SendMessage", params{"billingMode": "free"}, -32602, "InvalidParams"},
		{"parts", mine, "SendMessage", params{"agentName": "open", "billingMode": "free", "requestParts": "x"}, -32602, "InvalidParams"},
		{"pipe without duration", mine, "SendMessage", params{"agentName": "open", "billingMode": "free", "extensions": object{"blocks": object{"taskKind": "pipe"}}}, -32602, "InvalidParams"},
		{"stranger reads", other, "GetTask", params{"taskId": own.TaskID}, -32000, "PermissionDenied"},
		{"stranger cancels", other, "CancelTask", params{"taskId": own.TaskID}, -32000, "PermissionDenied"},
		{"unknown task", mine, "GetTask", params{"taskId": "t"}, -32000, "TaskNotFound"},
		{"unknown method", mine, "Dance", params{}, -32601, "MethodNotFound"},
		{"anonymous and private", "", "GetTask", params{"taskId": private.TaskID}, -32000, "PermissionDenied"},
	}
	for _, tt := range tests {
		if tt.method == "SendMessage" && tt.params["requestParts"] == nil {
			tt.params["requestParts"] = []object{}
		}
		e := b.rpc(tt.token, tt.method, tt.params, nil)
		if e == nil || e.Code != tt.code || e.Data.Code != tt.app {
			t.Errorf("%s: %+v, want %d %s", tt.name, e, tt.code, tt.app)
		}
	}
	if e := b.rpc(other, "SendMessage", params{"agentName": "dear", "billingMode": "free", "requestParts": []object{}}, nil); string(e.Data.Details) != `{"expected":"paid","got":"free"}` {
		t.Errorf("details %s", e.Data.Details)
	}
	if e := b.rpc(broke, "SendMessage", params{"agentName": "dear", "billingMode": "paid", "requestParts": []object{}}, nil); string(e.Data.Details) != `{"available":"0.00","required":"0.25"}` {
		t.Errorf("details %s", e.Data.Details)
	}
	for _, method := range []string{"SendMessage", "CancelTask", "ListTasks"} {
		if status, body, _ := b.do("POST", "/api/v1/rpc", "", `{"method":"`+method+`"}`); status != 401 {
			t.Errorf("%s without credentials: %d %s", method, status, body)
		}
	}
	if status, _, _ := b.do("POST", "/api/v1/auth/task-read-token", other, `{"taskId":"`+own.TaskID+`"}`); status != 403 {
		t.Errorf("read token for a stranger: %d", status)
	}
	for id, want := range map[string]int{own.TaskID: 200, private.TaskID: 403} {
		if status, _, _ := b.do("POST", "/api/v1/auth/anon-task-read-token", "", `{"taskId":"`+id+`","fingerprint":"f"}`); status != want {
			t.Errorf("anonymous read token: %d, want %d", status, want)
		}
	}
	// A read token is good for its own task and no other.
	x, y := own.Extensions.Blocks, private.Extensions.Blocks
	status, body, _ := b.do("GET", "/v3/history/sub-key/"+x.SubscribeKey+"/channel/"+y.StreamChannels.Status+"?auth="+x.ReadToken, "", "")
	if status != 403 {
		t.Errorf("history of another task: %d %s", status, body)
	}
}

func TestCredentials(t *testing.T) {
	var now atomic.Pointer[time.Time]
	later := func(d time.Duration) { at := now.Load().Add(d); now.Store(&at) }
	begin := time.Now()
	now.Store(&begin)
	b := start(t, func(c *Config) {
		c.Now, c.ConsumerTokenTTL = func() time.Time { return *now.Load() }, time.Minute
	})
	b.register("echo", 1, `{}`)
	var c struct {
		AccessToken, RefreshToken, UserID string
		ExpiresIn                         int
	}
	b.call("POST", "/api/v1/auth/agent/consumer-token", "", object{"apiKey": b.APIKey()}, &c)
	if c.ExpiresIn != 60 || c.UserID != "user_1" {
		t.Errorf("consumer token %+v", c)
	}
	old := c.RefreshToken
	b.call("POST", "/api/v1/auth/agent/refresh", b.APIKey(), object{"refreshToken": old}, &c)
	status, body, _ := b.do("POST", "/api/v1/auth/agent/refresh", b.APIKey(), `{"refreshToken":"`+old+`"}`)
	if want := `{"code":"REFRESH_TOKEN_INVALID","error":"The refresh token is invalid, used or expired.","message":"The refresh token is invalid, used or expired."}`; status != 401 || body != want {
		t.Errorf("used refresh token: %d %s", status, body)
	}
	for path, request := range map[string][2]string{
		"/api/v1/auth/agent/consumer-token": {"", `{"apiKey":"bk_x"}`},
		"/api/v1/auth/agent/refresh":        {"bk_x", `{"refreshToken":"` + c.RefreshToken + `"}`},
		"/api/v1/auth/agent/connect":        {"bk_x", `{"agentName":"echo","instanceId":"i","billingMode":"free"}`},
	} {
		if status, body, _ := b.do("POST", path, request[0], request[1]); status != 401 || !slices.Contains([]string{`{"code":"API_KEY_INVALID","error":"The API key is invalid or was revoked.","message":"The API key is invalid or was revoked."}`}, body) {
			t.Errorf("%s with a bad key: %d %s", path, status, body)
		}
	}
	if status, _, _ := b.do("POST", "/api/v1/auth/agent/connect", b.APIKey(), `{"agentName":"nobody","instanceId":"i","billingMode":"free"}`); status != 404 {
		t.Errorf("connect of an unknown agent: %d", status)
	}
	later(61 * time.Second)
	if status, body, _ := b.do("POST", "/api/v1/rpc", c.AccessToken, `{"method":"ListTasks"}`); status != 401 {
		t.Errorf("expired token: %d %s", status, body)
	}
}

func TestForcedOffline(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 1, `{}`)
	w := b.work("echo", "AG-echo-1", 1)
	token := b.consumer(b.APIKey())
	running, queued := b.send(token, "echo", "a", nil), b.send(token, "echo", "b", nil)
	w.running(w.next())
	if err := b.ForceOffline("echo", true); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{running.TaskID, queued.TaskID} {
		b.await("task fails", func() bool { return b.taskState(token, id) == "failed" })
	}
	const want = `{"code":"AGENT_FORCED_OFFLINE","error":"The agent echo has been taken offline by an administrator.","message":"The agent echo has been taken offline by an administrator."}`
	for path, body := range map[string]string{
		"/api/v1/auth/agent/connect": `{"agentName":"echo","instanceId":"i","billingMode":"free"}`,
		"/api/v1/auth/agent/refresh": `{"refreshToken":"` + w.refresh + `"}`,
	} {
		if status, got, _ := b.do("POST", path, b.APIKey(), body); status != 403 || got != want {
			t.Errorf("%s: %d %s", path, status, got)
		}
	}
	if e := b.rpc(token, "SendMessage", object{"agentName": "echo", "billingMode": "free", "requestParts": []object{}}, nil); e == nil || e.Data.Code != "AGENT_FORCED_OFFLINE" {
		t.Errorf("SendMessage: %+v", e)
	}
	if err := b.ForceOffline("echo", false); err != nil {
		t.Fatal(err)
	}
	again := b.send(token, "echo", "c", nil)
	w.state(0)
	if got := w.next()["taskId"]; got != again.TaskID {
		t.Errorf("got %v", got)
	}
}

func TestBillingModeMayChange(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 1, `{}`)
	w := b.work("echo", "AG-echo-1", 1)
	token := b.consumer(b.APIKey())
	s := b.send(token, "echo", "a", nil)
	start := w.next()
	w.running(start)
	b.register("echo", 1, `{"billingMode":"paid"}`)
	w.end(start, wire.Completed)
	if got := b.taskState(token, s.TaskID); got != "completed" {
		t.Errorf("task of before: %s", got)
	}
	if paid := b.send(token, "echo", "b", object{"billingMode": "paid"}); !paid.Queued || paid.Extensions.Blocks.SubscribeKey == s.Extensions.Blocks.SubscribeKey {
		t.Errorf("paid task: %+v", paid)
	}
	w.idle()
}
