package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Grant is what a PubNub client needs to read one task's channel.
type Grant struct {
	Origin       string `json:"origin"`
	SubscribeKey string `json:"subscribeKey"`
	PublishKey   string `json:"publishKey"`
	Token        string `json:"token"`
	Channel      string `json:"channel"`
	// ReadyFile is written by the client when it is about to subscribe.
	ReadyFile string `json:"readyFile,omitempty"`
}

// ReadGrant asks the network for a read token of a task, by plain HTTP as the protocol has it.
func (n *Network) ReadGrant(t testing.TB, taskID string) (Grant, error) {
	t.Helper()
	var cdm struct {
		Playground struct{ PublishKey, SubscribeKey string }
		API        struct{ BaseURL string }
	}
	if err := exchange(http.MethodGet, n.Env.Get("BLOCKS_CDM_URL"), "", nil, &cdm); err != nil {
		return Grant{}, err
	}
	var token struct{ AccessToken string }
	if err := exchange(http.MethodPost, cdm.API.BaseURL+"/api/v1/auth/agent/consumer-token", "", map[string]string{"apiKey": n.Env.Get("BLOCKS_API_KEY")}, &token); err != nil {
		return Grant{}, err
	}
	var read struct{ PAMToken, Channel string }
	if err := exchange(http.MethodPost, cdm.API.BaseURL+"/api/v1/auth/task-read-token", token.AccessToken, map[string]string{"taskId": taskID, "role": "consumer"}, &read); err != nil {
		return Grant{}, err
	}
	return Grant{
		Origin:       n.Env.Get("BLOCKSD_PUBNUB_ORIGIN"),
		SubscribeKey: cdm.Playground.SubscribeKey, PublishKey: cdm.Playground.PublishKey,
		Token: read.PAMToken, Channel: read.Channel,
	}, nil
}

// exchange sends body as JSON with a bearer token and decodes the answer into result.
func exchange(method, url, bearer string, body, result any) error {
	var payload bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&payload).Encode(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequest(method, url, &payload)
	if err != nil {
		return err
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Blocks-Protocol-Version", "2026-05-01")
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: HTTP %d %s", method, url, resp.StatusCode, strings.TrimSpace(string(b)))
	}
	return json.Unmarshal(b, result)
}
