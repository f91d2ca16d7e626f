package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

// The PubNub SDK leaves one goroutine behind per client, Destroy or not.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/pubnub/go/v7.(*RequestWorkers).ReadQueue"))
}

// patience is how long a test waits for what must come. It bounds hangs: a machine may stand still for a while.
const patience = 3 * time.Minute

// bed is a running sandbox with a client of its own.
type bed struct {
	*Sandbox
	t    *testing.T
	http *http.Client
}

// start runs a sandbox until the end of the test.
func start(t *testing.T, change func(*Config)) *bed {
	t.Helper()
	cfg := Config{Log: slog.New(slog.DiscardHandler), PresenceScan: 10 * time.Millisecond}
	cfg.ConsumerTokenTTL = time.Hour // no test renews one
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.shutdown = time.Hour // what is held ends by itself, and is not cut off
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Errorf("Run has not ended after %s", patience)
		}
		transport.CloseIdleConnections()
	})
	return &bed{s, t, &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// do sends a request and returns the status and body.
func (b *bed) do(method, path, bearer, body string) (int, string, http.Header) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	target := path
	if !strings.HasPrefix(path, "http") {
		target = b.URL() + path
	}
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := b.http.Do(req)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res.StatusCode, string(got), res.Header
}

// call is do for JSON answers with a 2xx status.
func (b *bed) call(method, path, bearer string, in, out any) {
	b.t.Helper()
	body := ""
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			b.t.Fatal(err)
		}
		body = string(raw)
	}
	status, got, _ := b.do(method, path, bearer, body)
	if status/100 != 2 {
		b.t.Fatalf("%s %s: %d %s", method, path, status, got)
	}
	if err := json.Unmarshal([]byte(got), out); err != nil {
		b.t.Fatalf("%s %s answered %s: %v", method, path, got, err)
	}
}

type object = map[string]any

// register enters an agent with a minimal card; blocks is extensions.blocks.
func (b *bed) register(name string, concurrency int, blocks string) {
	b.t.Helper()
	b.registerWith(name, concurrency, blocks, "")
}

// registerWith is register with more members of the card.
func (b *bed) registerWith(name string, concurrency int, blocks, more string) {
	b.t.Helper()
	doc := fmt.Sprintf(`{"identity":{"agentName":%q,"displayName":"Agent %s","description":"An agent for tests.","version":"1.0.0","provider":{"organization":"Test"}},
		"tags":[{"id":"test","name":"Test"}],"capabilities":{"taskKinds":["request"]},
		"io":{"inputs":[{"id":"request","description":"what","contentType":"text/plain","required":true,"example":"x"}],"outputs":[{"id":"reply","description":"that","contentType":"text/plain","guaranteed":true}]},
		%s"runtime":{"handler":"main.go","concurrency":%d},"extensions":{"blocks":%s}}`, name, name, more, concurrency, blocks)
	c, err := card.Parse([]byte(doc))
	if err != nil {
		b.t.Fatalf("card: %v", err)
	}
	if err := b.Register(c); err != nil {
		b.t.Fatal(err)
	}
}

// consumer returns a consumer's JWT for an API key.
func (b *bed) consumer(apiKey string) string {
	b.t.Helper()
	var out struct{ AccessToken string }
	b.call("POST", "/api/v1/auth/agent/consumer-token", "", object{"apiKey": apiKey}, &out)
	return out.AccessToken
}

type sent struct {
	TaskID, OrgID      string
	Idempotent, Queued bool
	State              string
	Extensions         struct {
		Blocks struct {
			ReadToken, SubscribeKey, PublishKey string
			StreamChannels                      struct{ Status string }
		}
	}
}

type rpcError struct {
	Code    int
	Message string
	Data    struct {
		Code, Message string
		Details       json.RawMessage
	}
}

// rpc makes a call and returns its result or error.
func (b *bed) rpc(token, method string, params, result any) *rpcError {
	b.t.Helper()
	var out struct {
		ID     string
		Result json.RawMessage
		Error  *rpcError
	}
	b.call("POST", "/api/v1/rpc", token, object{"jsonrpc": "2.0", "id": "rpc-1-aa", "method": method, "params": params}, &out)
	if out.ID != "rpc-1-aa" {
		b.t.Errorf("%s answered with id %q", method, out.ID)
	}
	if out.Error == nil && result != nil {
		if err := json.Unmarshal(out.Result, result); err != nil {
			b.t.Fatalf("%s answered %s: %v", method, out.Result, err)
		}
	}
	return out.Error
}

// send submits a text task.
func (b *bed) send(token, agent, text string, more object) sent {
	b.t.Helper()
	params := object{"agentName": agent, "billingMode": "free", "ownerId": "", "requestParts": []object{{"partId": "request", "text": text}}}
	for k, v := range more {
		params[k] = v
	}
	var s sent
	if e := b.rpc(token, "SendMessage", params, &s); e != nil {
		b.t.Fatalf("SendMessage: %+v", e)
	}
	return s
}

// worker is a raw provider instance.
type worker struct {
	*bed
	id, agent, control, token, jwt, refresh string
	keys                                    wire.Keyset
	concurrency                             int
	cursor                                  string
	done                                    chan struct{}
	cancel                                  context.CancelFunc
	messages                                chan object
}

// work connects an instance and polls its control channel until the test ends or leave is called.
func (b *bed) work(agent, id string, concurrency int) *worker {
	b.t.Helper()
	w := &worker{bed: b, id: id, agent: agent, concurrency: concurrency, done: make(chan struct{}), messages: make(chan object, 1024)}
	var out struct{ ControlChannel, PAMToken, AccessToken, RefreshToken string }
	b.call("POST", "/api/v1/auth/agent/connect", b.APIKey(), object{"agentName": agent, "instanceId": id, "billingMode": "free", "concurrency": concurrency}, &out)
	w.control, w.token, w.jwt, w.refresh = out.ControlChannel, out.PAMToken, out.AccessToken, out.RefreshToken
	var cdm struct{ Playground wire.Keyset }
	b.call("GET", "/api/v1/cdm", "", nil, &cdm)
	w.keys = cdm.Playground
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	b.t.Cleanup(w.stop)
	var answer struct {
		T struct{ T string }
		M []struct{ D object }
	}
	b.call("GET", w.subscribeURL("0"), "", nil, &answer)
	w.cursor = answer.T.T
	online := func() int {
		a, err := b.blocks.Agent(&blocks.Principal{OrgID: "org_1"}, agent)
		if err != nil {
			b.t.Error(err)
		}
		return a.OnlineCount
	}
	before := online()
	defer func() { b.await("instance "+id+" is ready", func() bool { return online() > before }) }()
	go w.poll(ctx)
	return w
}

// poll hands on what comes on the control channel, from the cursor on.
func (w *worker) poll(ctx context.Context) {
	defer close(w.done)
	var answer struct {
		T struct{ T string }
		M []struct{ D object }
	}
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, "GET", w.URL()+w.subscribeURL(w.cursor), nil)
		res, err := w.http.Do(req)
		if err != nil {
			return
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		answer.M = nil
		if err != nil || json.Unmarshal(body, &answer) != nil || res.StatusCode != 200 {
			return
		}
		w.cursor = answer.T.T
		for _, m := range answer.M {
			w.messages <- m.D
		}
	}
}

// stop ends the polls without leaving.
func (w *worker) stop() {
	w.cancel()
	<-w.done
}

func (w *worker) query() string { return "uuid=" + w.id + "&auth=" + w.token }

func (w *worker) subscribeURL(tt string) string {
	filter := url.QueryEscape(wire.ControlFilter(w.id))
	return "/v2/subscribe/" + w.keys.SubscribeKey + "/" + w.control + "/0?tt=" + tt + "&heartbeat=20&filter-expr=" + strings.ReplaceAll(filter, "+", "%20") + "&" + w.query()
}

// state announces how many tasks are active.
func (w *worker) state(active int) {
	w.t.Helper()
	raw, _ := json.Marshal(wire.NewPresenceState(w.id, active, w.concurrency, time.Now()))
	status, body, _ := w.do("GET", "/v2/presence/sub-key/"+w.keys.SubscribeKey+"/channel/"+w.control+"/uuid/"+w.id+"/data?state="+url.QueryEscape(string(raw))+"&"+w.query(), "", "")
	if status != 200 {
		w.t.Fatalf("set state: %d %s", status, body)
	}
}

func (w *worker) leave() {
	w.t.Helper()
	if status, body, _ := w.do("GET", "/v2/presence/sub-key/"+w.keys.SubscribeKey+"/channel/"+w.control+"/leave?"+w.query(), "", ""); status != 200 {
		w.t.Fatalf("leave: %d %s", status, body)
	}
}

// next returns the next control message.
func (w *worker) next() object {
	w.t.Helper()
	select {
	case m := <-w.messages:
		return m
	case <-time.After(patience):
		w.t.Fatalf("instance %s got no message", w.id)
		return nil
	}
}

// idle fails if a message has come.
func (w *worker) idle() {
	w.t.Helper()
	select {
	case m := <-w.messages:
		w.t.Fatalf("instance %s got %v", w.id, m)
	default:
	}
}

// publish sends an event of a task with the task's token.
func (w *worker) publish(start object, event []byte) {
	w.t.Helper()
	channel := wire.TaskChannel(start["orgId"].(string), start["taskId"].(string))
	meta := url.QueryEscape(string(wire.EventMeta(w.agent, start["taskId"].(string), "")))
	status, body, _ := w.do("POST", "/publish/"+w.keys.PublishKey+"/"+w.keys.SubscribeKey+"/0/"+channel+"/0?store=1&meta="+meta+"&uuid="+w.id+"&auth="+url.QueryEscape(start["writeToken"].(string)), "", string(event))
	if status != 200 {
		w.t.Fatalf("publish %s: %d %s", event, status, body)
	}
}

func (w *worker) running(start object) {
	w.t.Helper()
	w.publish(start, wire.RunningEvent(start["taskId"].(string)))
}

func (w *worker) end(start object, state wire.TaskState) {
	w.t.Helper()
	w.publish(start, wire.TerminalEvent(start["taskId"].(string), wire.Terminal{State: state}))
}

// events returns the types of the events of a task, with the state where there is one.
func (b *bed) events(s sent) []string {
	b.t.Helper()
	x := s.Extensions.Blocks
	var out struct {
		Channels map[string][]struct{ Message json.RawMessage }
	}
	b.call("GET", "/v3/history/sub-key/"+x.SubscribeKey+"/channel/"+x.StreamChannels.Status+"?max=100&include_meta=false&uuid=c&auth="+x.ReadToken, "", nil, &out)
	var got []string
	for _, m := range out.Channels[x.StreamChannels.Status] {
		e, err := wire.DecodeEvent(m.Message)
		if err != nil {
			b.t.Fatal(err)
		}
		text := string(e.Type)
		if e.State != "" {
			text += " " + string(e.State)
		}
		got = append(got, text)
	}
	return got
}

// await polls a condition; what it waits for happens in the sandbox's own time.
func (b *bed) await(what string, ok func() bool) {
	b.t.Helper()
	testutil.Eventually(b.t, patience, what, ok)
}

// taskState asks for the row of a task.
func (b *bed) taskState(token, id string) string {
	b.t.Helper()
	var out struct{ Task struct{ State string } }
	if e := b.rpc(token, "GetTask", object{"taskId": id}, &out); e != nil {
		b.t.Fatalf("GetTask: %+v", e)
	}
	return out.Task.State
}

// upload sends an output file of a task and returns its address.
func (b *bed) upload(w *worker, taskID, name, content string) string {
	b.t.Helper()
	var ticket struct{ UploadID, UploadURL string }
	b.call("POST", "/api/v1/files/request-upload", w.jwt, object{
		"role": "provider-output", "fileName": name, "fileSize": len(content), "mimeType": "text/plain", "taskId": taskID, "outputId": "reply",
	}, &ticket)
	form := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n" + content + "\r\n--x--\r\n"
	req, err := http.NewRequest("POST", ticket.UploadURL, strings.NewReader(form))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	res, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 204 {
		b.t.Fatalf("upload: %s", res.Status)
	}
	var out struct {
		ArtifactRef struct{ Channel, FileID, FileName string }
	}
	b.call("POST", "/api/v1/files/confirm-upload", w.jwt, object{"uploadId": ticket.UploadID}, &out)
	ref := out.ArtifactRef
	status, body, h := b.do("GET", "/v1/files/"+w.keys.SubscribeKey+"/channels/"+ref.Channel+"/files/"+ref.FileID+"/"+ref.FileName+"?uuid=c&auth="+b.readToken(w.jwt, taskID), "", "")
	if status != 307 {
		b.t.Fatalf("download: %d %s", status, body)
	}
	return h.Get("Location")
}

func (b *bed) readToken(jwt, taskID string) string {
	b.t.Helper()
	var out struct{ PAMToken string }
	b.call("POST", "/api/v1/auth/task-read-token", jwt, object{"taskId": taskID, "role": "provider"}, &out)
	return out.PAMToken
}
