package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox/blocks"
)

// BenchmarkPublish is one publisher's message over HTTP to a channel that nobody reads.
func BenchmarkPublish(b *testing.B) {
	s := bench(b)
	target := s.URL() + "/publish/" + s.Sandbox.keys.Open.PublishKey + "/" + s.Sandbox.keys.Open.SubscribeKey + "/0/c/0?uuid=u&store=0"
	body := []byte(`{"type":"progress","taskId":"t","progress":0,"state":"running","protocolVersion":"2026-05-01"}`)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			post(b, s, target, body)
		}
	})
}

// BenchmarkTask is a task's whole way: submitted, started by an instance that answers at once, its terminal seen by
// the network; 32 in flight, with the events and presence updates that a real instance sends.
func BenchmarkTask(b *testing.B) {
	s := bench(b)
	t := &bed{Sandbox: s.Sandbox, http: s.http}
	token := s.token
	in := make(chan object, 1024)
	for range 16 { // handlers
		go func() {
			for start := range in {
				id := start["taskId"].(string)
				channel := wire.TaskChannel(start["orgId"].(string), id)
				meta := url.QueryEscape(string(wire.EventMeta("echo", id, "")))
				target := s.URL() + "/publish/" + s.keys.PublishKey + "/" + s.keys.SubscribeKey + "/0/" + channel + "/0?store=1&meta=" + meta + "&uuid=AG-1&auth=" + url.QueryEscape(start["writeToken"].(string))
				post(b, s, target, wire.RunningEvent(id))
				post(b, s, target, []byte(`{"type":"artifact","taskId":"`+id+`","artifactRef":{"kind":"inline","mimeType":"text/plain","size":3,"data":"aGkh"},"outputId":"reply","protocolVersion":"2026-05-01"}`))
				post(b, s, target, wire.TerminalEvent(id, wire.Terminal{State: wire.Completed}))
			}
		}()
	}
	defer close(in)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.poll(ctx, in)
	body, _ := json.Marshal(object{"jsonrpc": "2.0", "id": "r", "method": "SendMessage", "params": object{
		"agentName": "echo", "billingMode": "free", "ownerId": "", "requestParts": []object{{"partId": "request", "text": "hello"}}}})
	b.ResetTimer()
	var all sync.WaitGroup
	work := make(chan struct{})
	for range 32 {
		all.Go(func() {
			for range work {
				req, _ := http.NewRequest("POST", s.URL()+"/api/v1/rpc", bytes.NewReader(body))
				req.Header.Set("Authorization", "Bearer "+token)
				res, err := t.http.Do(req)
				if err != nil {
					b.Error(err)
					continue
				}
				var out struct{ Result sent }
				if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
					b.Error(err)
				}
				res.Body.Close()
				// Wait for the terminal as a consumer does.
				x := out.Result.Extensions.Blocks
				cursor := "1000"
				for done := false; !done; {
					res, err := t.http.Get(s.URL() + "/v2/subscribe/" + x.SubscribeKey + "/" + x.StreamChannels.Status + "/0?tt=" + cursor + "&uuid=c" + out.Result.TaskID + "&auth=" + url.QueryEscape(x.ReadToken))
					if err != nil {
						b.Error(err)
						break
					}
					raw, _ := io.ReadAll(res.Body)
					res.Body.Close()
					var answer struct{ T struct{ T string } }
					_ = json.Unmarshal(raw, &answer)
					cursor = answer.T.T
					done = bytes.Contains(raw, []byte(`"terminal"`)) || res.StatusCode != 200
				}
			}
		})
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}

type benched struct {
	*Sandbox
	http  *http.Client
	token string
	keys  wire.Keyset
}

func bench(b *testing.B) *benched {
	sb, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sb.Run(ctx) }()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	b.Cleanup(func() { cancel(); <-done; transport.CloseIdleConnections() })
	s := &benched{Sandbox: sb, http: &http.Client{Transport: transport}, keys: sb.blocks.Environment(wire.Free).Keys}
	t := &bed{Sandbox: sb, http: s.http}
	t.registerQuietly(b)
	c, err := sb.blocks.ConsumerToken(sb.APIKey())
	if err != nil {
		b.Fatal(err)
	}
	s.token = c.AccessToken
	return s
}

var (
	benchAgent   = blocks.AgentSpec{Name: "echo", BillingMode: wire.Free, Concurrency: 128}
	benchConnect = blocks.ConnectRequest{AgentName: "echo", InstanceID: "AG-1", BillingMode: wire.Free}
)

func (s *bed) registerQuietly(b *testing.B) {
	spec := benchAgent
	spec.OrgID = s.Sandbox.keys.Orgs[0].ID
	if err := s.blocks.Register(spec); err != nil {
		b.Fatal(err)
	}
}

// poll plays an instance.
func (s *benched) poll(ctx context.Context, in chan<- object) {
	p, _ := s.blocks.ByKey(s.APIKey())
	c, err := s.blocks.Connect(p, benchConnect)
	if err != nil {
		panic(err)
	}
	state := func(active int) {
		raw, _ := json.Marshal(wire.PresenceState{InstanceID: "AG-1", ActiveTasks: active, Concurrency: 128})
		res, err := s.http.Get(s.URL() + "/v2/presence/sub-key/" + s.keys.SubscribeKey + "/channel/" + c.ControlChannel + "/uuid/AG-1/data?uuid=AG-1&auth=" + url.QueryEscape(c.PAMToken) + "&state=" + url.QueryEscape(string(raw)))
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	filter := strings.ReplaceAll(url.QueryEscape(wire.ControlFilter("AG-1")), "+", "%20")
	cursor := "0"
	for ctx.Err() == nil {
		req, _ := http.NewRequestWithContext(ctx, "GET", s.URL()+"/v2/subscribe/"+s.keys.SubscribeKey+"/"+c.ControlChannel+"/0?heartbeat=20&uuid=AG-1&tt="+cursor+"&filter-expr="+filter+"&auth="+url.QueryEscape(c.PAMToken), nil)
		res, err := s.http.Do(req)
		if err != nil {
			return
		}
		var answer struct {
			T struct{ T string }
			M []struct{ D object }
		}
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		if err != nil {
			return
		}
		cursor = answer.T.T
		for _, m := range answer.M {
			in <- m.D
		}
		state(0)
	}
}

func post(b *testing.B, s *benched, target string, body []byte) {
	res, err := s.http.Post(target, "application/json", bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if res.StatusCode != 200 {
		b.Errorf("publish: %d", res.StatusCode)
	}
}
