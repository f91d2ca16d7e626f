package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// administer makes a request of the administrator.
func (b *bed) administer(method, path, body string) string {
	b.t.Helper()
	status, got, _ := b.do(method, AdminPath+path, b.keys.AdminToken, body)
	if status != 200 {
		b.t.Fatalf("%s %s: %d %s", method, path, status, got)
	}
	return strings.TrimSuffix(got, "\n")
}

// failing makes a request that gets no answer.
func (b *bed) failing(method, path string) error {
	b.t.Helper()
	req, err := http.NewRequest(method, b.URL()+path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	res, err := b.http.Do(req)
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil {
			b.t.Errorf("%s %s: answered %d", method, path, res.StatusCode)
		}
	}
	return err
}

func TestAdministratorNeedsTheToken(t *testing.T) {
	b := start(t, nil)
	const refused = `{"code":"Unauthorized","error":"The administrator's interface needs the token that the sandbox prints, BLOCKSD_SANDBOX_TOKEN."}` + "\n"
	for _, path := range []string{"", "faults", "requests", "keys", "anything"} {
		for _, token := range []string{"", "x", b.APIKey(), b.keys.AdminToken + "x"} {
			if status, body, h := b.do("GET", AdminPath+path, token, ""); status != 401 || body != refused || h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s with %q: %d %s %v", path, token, status, body, h)
			}
		}
	}
	if status, body, _ := b.do("GET", AdminPath+"anything", b.keys.AdminToken, ""); status != 404 || body != `{"code":"NotFound","error":"There is no GET /_sandbox/anything here."}`+"\n" {
		t.Errorf("%d %s", status, body)
	}
}

func TestAdministratorsMistakes(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 1, `{}`)
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "faults", `{"action":"drop","chanel":"x"}`, 400, `{"code":"InvalidParams","error":"The request body is invalid: unknown field \"chanel\"."}`},
		{"POST", "faults", `{}`, 400, `{"code":"InvalidParams","error":"add fault: the rule does nothing: give an action, a status or a delay"}`},
		{"POST", "faults", `{"delay":5}`, 400, `{"code":"InvalidParams","error":"The request body is invalid: a duration must be a string like \"1.5s\", not 5."}`},
		{"DELETE", "faults/x", ``, 404, `{"code":"FaultNotFound","error":"There is no fault x."}`},
		{"POST", "outage", `{"side":"moon"}`, 400, `{"code":"InvalidParams","error":"side must be pubnub or blocks, not \"moon\"."}`},
		{"PUT", "clock", `{"skew":"much"}`, 400, `{"code":"InvalidParams","error":"skew must be a duration such as 90s or -2m, not \"much\"."}`},
		{"POST", "revoke", `{"token":"x"}`, 400, `{"code":"InvalidParams","error":"revoke token in the sandbox: token was not issued here"}`},
		{"DELETE", "keys/x", ``, 404, `{"code":"ApiKeyNotFound","error":"There is no such API key."}`},
		{"POST", "keys", `{"orgId":"x"}`, 404, `{"code":"OrganizationNotFound","error":"There is no organization x."}`},
		{"POST", "agents/x/offline", ``, 404, `{"code":"AgentNotFound","error":"There is no agent x, or it is not visible to you."}`},
		{"POST", "agents/echo/environment", `{"billingMode":"x"}`, 400, `{"code":"InvalidParams","error":"The billing mode must be free or paid, not \"x\"."}`},
		{"GET", "requests?wait=1y", ``, 400, `{"code":"InvalidParams","error":"wait must be a duration of at most 5m0s, not \"1y\"."}`},
		{"GET", "requests?after=x", ``, 400, `{"code":"InvalidParams","error":"after must be a number, not \"x\"."}`},
	} {
		if status, body, _ := b.do(tt.method, AdminPath+tt.path, b.keys.AdminToken, tt.body); status != tt.status || body != tt.want+"\n" {
			t.Errorf("%s %s %s: %d %s, want %d %s", tt.method, tt.path, tt.body, status, body, tt.status, tt.want)
		}
	}
	if rules := b.Faults().Rules(); len(rules) != 0 {
		t.Errorf("rules: %+v", rules)
	}
}

// TestFaultsOnTheNetwork: the faults reach what really passes, and end when they are taken back.
func TestFaultsOnTheNetwork(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 4, `{}`)
	w := b.work("echo", "AG-echo-1", 4)
	w.state(0)
	token := b.consumer(b.APIKey())

	if got := b.administer("POST", "faults", `{"endpoint":"rpc","rpc":"SendMessage","status":503,"body":"busy","contentType":"text/plain","times":1}`); got != `{"id":"fault_1"}` {
		t.Error(got)
	}
	if status, body, h := b.do("POST", "/api/v1/rpc", token, `{"id":1,"method":"SendMessage","params":{}}`); status != 503 || body != "busy" || h.Get("Content-Type") != "text/plain" {
		t.Errorf("%d %s", status, body)
	}
	if got := b.administer("GET", "faults", ""); !strings.Contains(got, `"rpc":"SendMessage","times":1,"action":"status","status":503,"body":"busy","contentType":"text/plain","hits":1}`) {
		t.Error(got)
	}
	b.administer("DELETE", "faults", "")

	// A StartTask is lost on its way, then one comes twice.
	b.administer("POST", "faults", `{"action":"gap","channel":"agent.*","contains":"StartTask","times":1}`)
	lost := b.send(token, "echo", "a", nil)
	b.await("the fault", func() bool { return b.Faults().Rules()[0].Hits == 1 })
	b.administer("POST", "faults", `{"action":"duplicate","channel":"agent.*","contains":"StartTask","times":1}`)
	twice := b.send(token, "echo", "b", nil)
	for range 2 {
		if got := w.next()["taskId"]; got != twice.TaskID {
			t.Errorf("got the task %v, want %s twice and %s never", got, twice.TaskID, lost.TaskID)
		}
	}
	b.administer("DELETE", "faults", "")

	// The PubNub side is gone: the instance's poll is cut, and it is lost once it is silent.
	id := b.administer("POST", "outage", "")
	<-w.done
	if err := b.failing("GET", "/time/0"); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("time: %v", err)
	}
	if state := b.taskState(token, twice.TaskID); state != "pending" {
		t.Errorf("state %s", state)
	}
	var out struct{ ID string }
	if err := json.Unmarshal([]byte(id), &out); err != nil {
		t.Fatal(err)
	}
	b.administer("DELETE", "faults/"+out.ID, "")
	if status, _, _ := b.do("GET", "/time/0", "", ""); status != 200 {
		t.Errorf("time after the outage: %d", status)
	}
}

func TestRecordedRequests(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 4, `{}`)
	token := b.consumer(b.APIKey())
	b.administer("PUT", "recording", `{"on":true,"limit":50}`)
	s := b.send(token, "echo", "hello", nil)
	b.events(s)
	got := b.administer("GET", "requests?endpoint=rpc&contains=hello&wait=5s", "")
	if !strings.Contains(got, `"rpc":"SendMessage"`) || !strings.Contains(got, `\"text\":\"hello\"`) || !strings.Contains(got, `"status":200`) || strings.Contains(got, token) {
		t.Error(got)
	}
	got = b.administer("GET", "requests?channel="+s.Extensions.Blocks.StreamChannels.Status, "")
	if !strings.Contains(got, `"endpoint":"history"`) || strings.Contains(got, s.Extensions.Blocks.ReadToken) {
		t.Error(got)
	}
	if got := b.administer("GET", "requests?endpoint=publish", ""); got != `{"requests":[]}` {
		t.Error(got)
	}
	b.administer("PUT", "recording", `{"on":false}`)
	if b.Faults().Recording() {
		t.Error("recording goes on")
	}
}

func TestClockSkew(t *testing.T) {
	b := start(t, nil)
	token := b.consumer(b.APIKey())
	list := `{"id":1,"method":"ListTasks"}`
	tick := func() int64 {
		var tt []int64
		b.call("GET", "/time/0", "", nil, &tt)
		return tt[0]
	}
	before := tick()
	b.administer("PUT", "clock", `{"skew":"2h"}`)
	if ahead := time.Duration(tick()-before) * 100; ahead < 2*time.Hour {
		t.Errorf("timetokens are %s ahead", ahead)
	}
	if status, body, _ := b.do("POST", "/api/v1/rpc", token, list); status != 401 || !strings.Contains(body, "expired") {
		t.Errorf("a token of an hour after two: %d %s", status, body)
	}
	b.administer("PUT", "clock", `{"skew":"0s"}`)
	if status, _, _ := b.do("POST", "/api/v1/rpc", token, list); status != 200 {
		t.Errorf("after the clock was set back: %d", status)
	}
}

func TestRevocationAndExpiry(t *testing.T) {
	b := start(t, nil)
	b.register("echo", 4, `{}`)
	w := b.work("echo", "AG-echo-1", 4)
	token := b.consumer(b.APIKey())
	b.administer("POST", "revoke", `{"token":"`+w.token+`"}`)
	<-w.done // its held poll was answered with 403
	if status, body, _ := b.do("GET", w.subscribeURL(w.cursor), "", ""); status != 403 {
		t.Errorf("revoked token: %d %s", status, body)
	}

	b.administer("POST", "expire", `{"refreshTokens":true}`)
	if status, _, _ := b.do("POST", "/api/v1/rpc", token, `{"id":1,"method":"ListTasks"}`); status != 401 {
		t.Errorf("expired JWT: %d", status)
	}
	if status, body, _ := b.do("POST", "/api/v1/auth/agent/refresh", b.APIKey(), `{"refreshToken":"`+w.refresh+`"}`); status != 401 || !strings.Contains(body, "REFRESH_TOKEN_INVALID") {
		t.Errorf("forgotten refresh token: %d %s", status, body)
	}

	var key struct {
		ID, APIKey string
		ExpiresAt  *time.Time
	}
	if err := json.Unmarshal([]byte(b.administer("POST", "keys", `{"name":"ci","expiresIn":"1h"}`)), &key); err != nil || key.ExpiresAt == nil {
		t.Fatalf("%+v, %v", key, err)
	}
	b.consumer(key.APIKey)
	b.administer("DELETE", "keys/"+key.ID, "")
	if status, body, _ := b.do("POST", "/api/v1/auth/agent/consumer-token", "", `{"apiKey":"`+key.APIKey+`"}`); status != 401 || !strings.Contains(body, "API_KEY_INVALID") {
		t.Errorf("revoked key: %d %s", status, body)
	}
	if list := b.administer("GET", "keys", ""); strings.Contains(list, key.APIKey) || strings.Contains(list, b.APIKey()) || !strings.Contains(list, `"revoked":true`) {
		t.Errorf("keys: %s", list)
	}

	b.administer("POST", "agents/echo/offline", "")
	if status, body, _ := b.do("POST", "/api/v1/auth/agent/connect", b.APIKey(), `{"agentName":"echo","instanceId":"i","billingMode":"free"}`); status != 403 || !strings.Contains(body, "AGENT_FORCED_OFFLINE") {
		t.Errorf("forced offline: %d %s", status, body)
	}
	b.administer("DELETE", "agents/echo/offline", "")
	b.administer("POST", "agents/echo/environment", `{"billingMode":"paid"}`)
	if a, err := b.blocks.Agent(nil, "echo"); err != nil || a.BillingMode != wire.Paid {
		t.Errorf("%+v, %v", a, err)
	}
	if got := b.administer("GET", "", ""); !strings.Contains(got, `"agents":1,"faults":0,`) {
		t.Error(got)
	}
}

// TestStreamOverHTTP: setup with the task's write token, writing with the provider's token, reading with the
// consumer's.
func TestStreamOverHTTP(t *testing.T) {
	b := start(t, func(c *Config) { c.StreamRevokeDelay = 10 * time.Millisecond })
	b.registerWith("talker", 4, `{}`, `"streams":{"_default":{"direction":"outbound","format":"bytes"}},`)
	w := b.work("talker", "AG-talker-1", 4)
	w.state(0)
	token := b.consumer(b.APIKey())
	s := b.send(token, "talker", "a", object{"extensions": object{"blocks": object{"stream": true}}})
	start := w.next()
	if start["hasStream"] != true {
		t.Fatalf("start: %v", start)
	}
	w.running(start)
	id := s.TaskID + "-1"
	setup := object{
		"type": "stream_setup", "protocolVersion": wire.ProtocolVersion, "taskId": s.TaskID, "orgId": s.OrgID, "agentName": "talker", "streamId": id,
		"channel": "stream.talker." + id, "direction": "outbound", "format": "bytes", "affinity": "dedicated", "taskKind": "request",
		"durationMinutes": 60, "declaredStream": "_default", "phase": "embedded",
	}
	raw, _ := json.Marshal(setup)
	path := "/publish/" + w.keys.PublishKey + "/" + w.keys.SubscribeKey + "/0/setup." + s.OrgID + "." + s.TaskID + "/0?store=0&uuid=" + w.id + "&auth="
	if status, body, _ := b.do("POST", path+w.token, "", string(raw)); status != 403 || !strings.Contains(body, `"message":"Forbidden"`) {
		t.Errorf("setup with the control token: %d %s", status, body)
	}
	status, body, h := b.do("POST", path+start["writeToken"].(string), "", string(raw))
	var answer struct {
		Message struct {
			OK                  bool
			StreamSetupResponse struct{ Token, Channel string }
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 403 || !answer.Message.OK || h.Get("Content-Type") != `text/javascript; charset="UTF-8"` {
		t.Fatalf("setup: %d %s %v", status, body, err)
	}
	var history struct {
		Channels map[string][]struct {
			Message struct {
				StreamEvent string
				Streams     map[string]struct{ Token string }
			}
		}
	}
	x := s.Extensions.Blocks
	b.call("GET", "/v3/history/sub-key/"+x.SubscribeKey+"/channel/"+x.StreamChannels.Status+"?max=100&uuid=c&auth="+x.ReadToken, "", nil, &history)
	events := history.Channels[x.StreamChannels.Status]
	reader := events[len(events)-1].Message.Streams[id].Token
	if reader == "" {
		t.Fatalf("events: %+v", events)
	}
	stream := "/publish/" + w.keys.PublishKey + "/" + w.keys.SubscribeKey + "/0/" + answer.Message.StreamSetupResponse.Channel + "/0?store=0&uuid=w&auth="
	if status, body, _ := b.do("POST", stream+answer.Message.StreamSetupResponse.Token, "", `{"type":"stream_data","seq":1}`); status != 200 {
		t.Errorf("write: %d %s", status, body)
	}
	if status, body, _ := b.do("POST", stream+reader, "", `{"type":"stream_data","seq":2}`); status != 403 {
		t.Errorf("write with the reader's token: %d %s", status, body)
	}
	read := "/v2/subscribe/" + x.SubscribeKey + "/" + answer.Message.StreamSetupResponse.Channel + "/0?tt=1000&uuid=r&auth=" + reader
	if status, body, _ := b.do("GET", read, "", ""); status != 200 || !strings.Contains(body, `"seq":1`) || strings.Contains(body, `"seq":2`) {
		t.Errorf("read: %d %s", status, body)
	}
	w.end(start, wire.Completed)
	b.await("the reader's token is revoked", func() bool {
		status, _, _ := b.do("GET", read, "", "")
		return status == 403
	})
}
