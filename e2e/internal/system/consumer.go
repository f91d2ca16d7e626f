package system

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Consumer submits tasks and reads their channels by plain HTTP, as many as a test wants and whatever becomes of the
// daemon meanwhile.
type Consumer struct {
	env       Env
	base      string
	origin    string
	subscribe string
	publish   string
	http      *http.Client

	mu    sync.Mutex // guards what follows
	token string
	until time.Time
}

// Submitted is a task as its consumer knows it.
type Submitted struct{ ID, Channel, Token string }

// NewConsumer makes a consumer with the first API key of a sandbox.
func NewConsumer(ctx context.Context, env Env) (*Consumer, error) {
	// The sandbox closes a connection on which no request has come within ten seconds. One that was opened for nothing, after a
	// standstill, must not be taken just then.
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second}
	c := &Consumer{env: env, origin: "http://" + env.Get("BLOCKSD_PUBNUB_ORIGIN"), http: &http.Client{Transport: transport}}
	var cdm struct {
		Playground struct{ SubscribeKey, PublishKey string }
		API        struct{ BaseURL string }
	}
	if err := Exchange(ctx, c.http, http.MethodGet, env.Get("BLOCKS_CDM_URL"), "", nil, &cdm); err != nil {
		return nil, err
	}
	c.base, c.subscribe, c.publish = cdm.API.BaseURL, cdm.Playground.SubscribeKey, cdm.Playground.PublishKey
	return c, nil
}

// Close ends its connections.
func (c *Consumer) Close() { c.http.CloseIdleConnections() }

// Submit sends a task with one text part.
func (c *Consumer) Submit(ctx context.Context, agent, text string) (Submitted, error) {
	return c.submit(ctx, agent, text, nil)
}

func (c *Consumer) submit(ctx context.Context, agent, text string, extensions map[string]any) (Submitted, error) {
	bearer, err := c.bearer(ctx)
	if err != nil {
		return Submitted{}, err
	}
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
	params := map[string]any{"agentName": agent, "billingMode": "free", "ownerId": "", "requestParts": []map[string]string{{"partId": "request", "text": text}}}
	if extensions != nil {
		params["extensions"] = extensions
	}
	err = Exchange(ctx, c.http, http.MethodPost, c.base+"/api/v1/rpc", bearer, map[string]any{
		"jsonrpc": "2.0", "id": "1", "method": "SendMessage", "params": params,
	}, &answer)
	if err == nil && answer.Result.TaskID == "" {
		err = fmt.Errorf("SendMessage to %s: %s", agent, answer.Error)
	}
	b := answer.Result.Extensions.Blocks
	return Submitted{answer.Result.TaskID, b.StreamChannels.Status, b.ReadToken}, err
}

// Await follows a task to its first terminal event.
func (c *Consumer) Await(ctx context.Context, s Submitted) (Event, error) {
	for cursor := "1000"; ; { // everything that is kept
		var answer struct {
			T struct{ T string }
			M []struct{ D Event }
		}
		u := fmt.Sprintf("%s/v2/subscribe/%s/%s/0?tt=%s&uuid=consumer&auth=%s", c.origin, c.subscribe, url.PathEscape(s.Channel), cursor, url.QueryEscape(s.Token))
		if err := Exchange(ctx, c.http, http.MethodGet, u, "", nil, &answer); err != nil {
			return Event{}, fmt.Errorf("follow task %s: %w", s.ID, err)
		}
		cursor = answer.T.T
		for _, m := range answer.M {
			if m.D.Type == "terminal" {
				return m.D, nil
			}
		}
	}
}

// History returns all events of a task that are stored, oldest first, up to 100.
func (c *Consumer) History(ctx context.Context, s Submitted) ([]Event, error) {
	var answer struct {
		Channels map[string][]struct{ Message Event }
	}
	u := fmt.Sprintf("%s/v3/history/sub-key/%s/channel/%s?max=100&uuid=consumer&auth=%s", c.origin, c.subscribe, url.PathEscape(s.Channel), url.QueryEscape(s.Token))
	if err := Exchange(ctx, c.http, http.MethodGet, u, "", nil, &answer); err != nil {
		return nil, fmt.Errorf("history of task %s: %w", s.ID, err)
	}
	var events []Event
	for _, stored := range answer.Channels {
		for _, e := range stored {
			events = append(events, e.Message)
		}
	}
	return events, nil
}

// bearer returns a consumer token that is still good.
func (c *Consumer) bearer(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Now().Before(c.until) {
		return c.token, nil
	}
	var token struct{ AccessToken string }
	if err := Exchange(ctx, c.http, http.MethodPost, c.base+"/api/v1/auth/agent/consumer-token", "", map[string]string{"apiKey": c.env.Get("BLOCKS_API_KEY")}, &token); err != nil {
		return "", err
	}
	c.token, c.until = token.AccessToken, time.Now().Add(30*time.Second) // it lives for a minute
	return c.token, nil
}
