package system

import (
	"net/http"
	"testing"
)

// Grant is what a PubNub client needs to read one task's channel.
type Grant struct {
	Origin       string `json:"origin"`
	SubscribeKey string `json:"subscribeKey"`
	PublishKey   string `json:"publishKey"`
	Token        string `json:"token"`
	Channel      string `json:"channel"`
	// ReadyFile is written by the client when its subscription stands.
	ReadyFile string `json:"readyFile,omitempty"`
}

// ReadGrant asks the network for a read token of a task, by plain HTTP as the protocol has it.
func (n *Network) ReadGrant(t testing.TB, taskID string) (Grant, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var cdm struct {
		Playground struct{ PublishKey, SubscribeKey string }
		API        struct{ BaseURL string }
	}
	if err := Exchange(t.Context(), client, http.MethodGet, n.Env.Get("BLOCKS_CDM_URL"), "", nil, &cdm); err != nil {
		return Grant{}, err
	}
	var token struct{ AccessToken string }
	if err := Exchange(t.Context(), client, http.MethodPost, cdm.API.BaseURL+"/api/v1/auth/agent/consumer-token", "", map[string]string{"apiKey": n.Env.Get("BLOCKS_API_KEY")}, &token); err != nil {
		return Grant{}, err
	}
	var read struct{ PAMToken, Channel string }
	if err := Exchange(t.Context(), client, http.MethodPost, cdm.API.BaseURL+"/api/v1/auth/task-read-token", token.AccessToken, map[string]string{"taskId": taskID, "role": "consumer"}, &read); err != nil {
		return Grant{}, err
	}
	return Grant{
		Origin:       n.Env.Get("BLOCKSD_PUBNUB_ORIGIN"),
		SubscribeKey: cdm.Playground.SubscribeKey, PublishKey: cdm.Playground.PublishKey,
		Token: read.PAMToken, Channel: read.Channel,
	}, nil
}
