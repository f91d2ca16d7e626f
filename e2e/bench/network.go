package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// network is a sandbox and what a consumer needs to use it.
type network struct {
	*process
	env       []string
	base      string
	origin    string
	subscribe string
	http      *http.Client

	mu    sync.Mutex // guards what follows
	token string
	until time.Time // when to get the next token: they live for a minute
}

func startNetwork(bin, work, envFile string) (*network, error) {
	path := filepath.Join(work, envFile)
	p, err := start(work, []string{"LOG_LEVEL=warn"}, filepath.Join(bin, "blocksd"), "sandbox", "--listen", "127.0.0.1:0", "--agents", filepath.Join(work, "plugins"), "--env-file", path)
	if err != nil {
		return nil, err
	}
	n := &network{process: p, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}, Timeout: 2 * time.Minute}}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(path)
		if err == nil {
			n.env = strings.Fields(string(b))
			break
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, fmt.Errorf("the sandbox wrote no %s: %s", path, p.output)
		}
	}
	var cdm struct {
		Playground struct{ SubscribeKey string }
		API        struct{ BaseURL string }
	}
	if err := n.exchange("GET", n.get("BLOCKS_CDM_URL"), "", nil, &cdm); err != nil {
		p.stop()
		return nil, err
	}
	n.base, n.origin, n.subscribe = cdm.API.BaseURL, "http://"+n.get("BLOCKSD_PUBNUB_ORIGIN"), cdm.Playground.SubscribeKey
	return n, nil
}

func (n *network) get(key string) string {
	for _, kv := range n.env {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return strings.Trim(v, `'"`)
		}
	}
	return ""
}

// times of a task by the network's clock; said is when its handler has published a status.
type times struct{ request, running, said, cancel, terminal time.Duration }

// sent is a task and what is needed to follow it. filter is a query parameter that leaves events out, or nothing.
type sent struct{ id, channel, token, cursor, filter string }

// task sends one task to echo and follows its channel until the terminal event.
func (n *network) task(limit time.Duration) (times, error) {
	s, err := n.submit("echo", "hello")
	if err != nil {
		return times{}, err
	}
	var seen times
	return seen, n.follow(&s, limit, &seen, func() bool { return seen.terminal != 0 })
}

func (n *network) rpc(method string, params, result any) error {
	bearer, err := n.bearer()
	if err != nil {
		return err
	}
	return n.exchange("POST", n.base+"/api/v1/rpc", bearer, map[string]any{"jsonrpc": "2.0", "id": "bench", "method": method, "params": params}, result)
}

// submit sends one task.
func (n *network) submit(agent, text string) (sent, error) { return n.submitWith(agent, text, nil) }

func (n *network) submitWith(agent, text string, extensions map[string]any) (sent, error) {
	var answer struct {
		Result struct {
			TaskID     string
			Extensions struct {
				Blocks struct {
					ReadToken      string
					StreamChannels struct{ Status string }
				}
			}
		}
		Error json.RawMessage
	}
	params := map[string]any{
		"agentName": agent, "billingMode": "free", "ownerId": "", "requestParts": []map[string]string{{"partId": "request", "text": text}},
	}
	if extensions != nil {
		params["extensions"] = extensions
	}
	err := n.rpc("SendMessage", params, &answer)
	if err == nil && answer.Result.TaskID == "" {
		err = fmt.Errorf("SendMessage: %s", answer.Error)
	}
	b := answer.Result.Extensions.Blocks
	return sent{id: answer.Result.TaskID, channel: b.StreamChannels.Status, token: b.ReadToken, cursor: "1000"}, err // from everything retained on
}

// cancel asks for the end of a task.
func (n *network) cancel(s sent) error {
	return n.rpc("CancelTask", map[string]string{"taskId": s.id}, &struct{}{})
}

// result sends one task to echo and waits for nothing but its terminal event, as a consumer does that wants the result
// only. The request counts from when it is sent.
func (n *network) result(limit time.Duration) (times, error) {
	seen := times{request: time.Duration(time.Now().UnixNano()/100%period) * 100}
	s, err := n.submit("echo", "hello")
	if err != nil {
		return times{}, err
	}
	s.filter = "&filter-expr=" + url.QueryEscape("data.type == 'terminal'")
	return seen, n.follow(&s, limit, &seen, func() bool { return seen.terminal != 0 })
}

// follow reads the channel of a task until enough has been seen.
func (n *network) follow(s *sent, limit time.Duration, seen *times, enough func() bool) error {
	for deadline := time.Now().Add(limit); !enough(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("task %s was not seen so far within %s", s.id, limit)
		}
		var answer struct {
			T struct{ T string }
			M []struct {
				P struct{ T string }
				D struct{ Type, State, Message, Error string }
			}
		}
		poll := n.origin + "/v2/subscribe/" + n.subscribe + "/" + s.channel + "/0?tt=" + s.cursor + "&uuid=bench&auth=" + s.token + s.filter
		if err := n.exchange("GET", poll, "", nil, &answer); err != nil {
			return err
		}
		s.cursor = answer.T.T
		for _, m := range answer.M {
			at, err := moment(m.P.T)
			if err != nil {
				return err
			}
			switch {
			case m.D.Type == "request":
				seen.request = at
			case m.D.Type == "cancel_requested":
				seen.cancel = at
			case m.D.Type == "progress" && m.D.Message != "":
				seen.said = at
			case m.D.Type == "progress" && m.D.State == "running":
				seen.running = at
			case m.D.Type == "terminal" && m.D.State == "failed":
				seen.terminal = at
				return &failedError{s.id, m.D.Error}
			case m.D.Type == "terminal":
				seen.terminal = at
			}
		}
	}
	return nil
}

// bearer returns a consumer token that is still good.
func (n *network) bearer() (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.until) {
		return n.token, nil
	}
	var token struct{ AccessToken string }
	if err := n.exchange("POST", n.base+"/api/v1/auth/agent/consumer-token", "", map[string]string{"apiKey": n.get("BLOCKS_API_KEY")}, &token); err != nil {
		return "", err
	}
	n.token, n.until = token.AccessToken, time.Now().Add(30*time.Second)
	return n.token, nil
}

func (n *network) exchange(method, address, bearer string, body, result any) error {
	return system.Exchange(context.Background(), n.http, method, address, bearer, body, result) // the client bounds it
}
