package route_test

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/sandbox/api"
	"github.com/blocksd/blocksd/sandbox/pubnub"
	"github.com/blocksd/blocksd/sandbox/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var faces = route.Join(api.Routes, pubnub.Routes, api.Serves)

func TestLook(t *testing.T) {
	sub := []string{"sub"}
	for path, want := range map[string]route.Route{
		"/time/0":                                              {Endpoint: "time"},
		"/publish/pub/sub/0/c/0":                               {Endpoint: "publish", Keys: []string{"pub", "sub"}, Channels: []string{"c"}, Secret: 6},
		"/signal/pub/sub/0/c/0/%22x%22":                        {Endpoint: "signal", Keys: []string{"pub", "sub"}, Channels: []string{"c"}, Secret: 6},
		"/v2/subscribe/sub/a,b%2Fc,/0":                         {Endpoint: "subscribe", Keys: sub, Channels: []string{"a", "b/c"}},
		"/v2/presence/sub-key/sub/channel/a,b/heartbeat":       {Endpoint: "heartbeat", Keys: sub, Channels: []string{"a", "b"}},
		"/v2/presence/sub-key/sub/channel/a/leave":             {Endpoint: "leave", Keys: sub, Channels: []string{"a"}},
		"/v2/presence/sub-key/sub/channel/a/uuid/me/data":      {Endpoint: "state", Keys: sub, Channels: []string{"a"}},
		"/v2/presence/sub-key/sub/uuid/me":                     {Endpoint: "where-now", Keys: sub},
		"/v2/presence/sub_key/sub/channel/a":                   {Endpoint: "here-now", Keys: sub, Channels: []string{"a"}},
		"/v2/history/sub-key/sub/channel/c":                    {Endpoint: "history", Keys: sub, Channels: []string{"c"}},
		"/v3/history-with-actions/sub-key/sub/channel/c":       {Endpoint: "history", Keys: sub, Channels: []string{"c"}},
		"/v1/message-actions/sub/channel/c/message/1":          {Endpoint: "actions", Keys: sub, Channels: []string{"c"}},
		"/v1/channel-registration/sub-key/sub/channel-group/g": {Endpoint: "groups", Keys: sub},
		"/v1/files/sub/channels/c/files/i/n":                   {Endpoint: "files", Keys: sub, Channels: []string{"c"}},
		"/v1/files/publish-file/pub/sub/0/c/0/m":               {Endpoint: "files", Keys: []string{"pub", "sub"}, Channels: []string{"c"}, Secret: 8},
		"/v3/pam/sub/grant/token":                              {Endpoint: "grant", Keys: sub, Secret: 4},
		"/_upload/x":                                           {Secret: 1},
		"/_files/x/f.txt":                                      {Secret: 1},
		"/nothing/of/ours":                                     {},
		"/":                                                    {},
		"/api/v1/cdm":                                          {Side: route.Blocks, Endpoint: "cdm"},
		"/api/v1/registry/agents":                              {Side: route.Blocks, Endpoint: "registry"},
		"/api/v1/agents/echo/grants/grant_1":                   {Side: route.Blocks},
		"/api/v1/nothing":                                      {Side: route.Blocks},
		"/agents/echo":                                         {Side: route.Blocks},
		"/invite/x":                                            {Side: route.Blocks, Secret: 1},
		"/blob/x":                                              {Side: route.Blocks, Endpoint: "blob", Secret: 1},
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if want.Side == "" {
			want.Side = route.PubNub
		}
		if diff := cmp.Diff(want, faces.Look(u)); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

func TestSafe(t *testing.T) {
	for raw, want := range map[string]string{
		"/publish/p/s/0/c/0/%22hush%22/more?uuid=u&auth=hush&signature=hush": "/publish/p/s/0/c/0/***?uuid=u&auth=***&signature=***",
		"/publish/p/s/0/c/0?meta=hush":                                       "/publish/p/s/0/c/0?meta=***",
		"/v1/files/publish-file/p/s/0/c/0/hush":                              "/v1/files/publish-file/p/s/0/c/0/***",
		"/v3/pam/s/grant/hush":                                               "/v3/pam/s/grant/***",
		"/_upload/hush":                                                      "/_upload/***",
		"/_files/hush/f.txt":                                                 "/_files/***",
		"/blob/hush":                                                         "/blob/***",
		"/invite/hush":                                                       "/invite/***",
		"/api/auth/oauth2/authorize?code_challenge=hush":                     "/api/auth/oauth2/authorize?code_challenge=***",
		"/time/0": "/time/0",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := faces.Safe(u); got != want {
			t.Errorf("%s is logged as %s, want %s", raw, got, want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	want := []string{
		"actions", "anon-task-read-token", "blob", "cdm", "confirm-upload", "connect", "consumer-token", "files", "grant", "groups", "heartbeat",
		"here-now", "history", "leave", "publish", "refresh", "registry", "request-upload", "rpc", "signal", "state", "subscribe",
		"task-read-token", "time", "where-now",
	}
	if diff := cmp.Diff(want, faces.Endpoints); diff != "" {
		t.Error(diff)
	}
}
