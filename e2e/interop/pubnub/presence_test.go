package pubnub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// TestPresence: join, state, leave and time-out as others and oneself see them; who is here and where.
func TestPresence(t *testing.T) {
	k := network(t)
	k.ask(t, http.MethodPut, "recording", "{}")
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			channel := "pres." + sdk
			cfg := k.open("self")
			cfg.Heartbeat = 300 // some SDKs are present only with one
			self, watcher := start(t, sdk, cfg), start(t, sdk, k.open("watcher"))
			watcher.do(command{Op: "subscribe", Channels: []string{channel + "-pnpres"}}, nil)
			watcher.until("status", func(e event) bool { return strings.Contains(e.Category, "Connected") })
			self.subscribe(command{Channels: []string{channel}, Presence: true})
			is := func(action, uuid string) func(event) bool {
				return func(e event) bool { return e.Action == action && e.UUID == uuid && e.Channel == channel }
			}
			if e := watcher.until("presence", is("join", "self")); e.Occupancy != 1 {
				t.Errorf("%+v", e)
			}
			// The JavaScript SDK sends a heartbeat beside the handshake. Where that comes first, the event comes after the
			// cursor of the handshake all the same.
			self.until("presence", is("join", "self"))
			self.do(command{Op: "setState", Channels: []string{channel}, State: object{"mood": "ok"}}, nil)
			if e := watcher.until("presence", is("state-change", "self")); fmt.Sprint(e.State) != "map[mood:ok]" {
				t.Errorf("%+v", e)
			}
			var state struct{ Channels map[string]map[string]any }
			watcher.do(command{Op: "getState", Channels: []string{channel}, UUID: "self"}, &state)
			if state.Channels[channel]["mood"] != "ok" {
				t.Errorf("state %+v", state)
			}
			// Someone whose SDK tells by itself that it lives, and is killed.
			cfg = k.open("mortal")
			cfg.Heartbeat, cfg.Beats = 4, true
			mortal := start(t, sdk, cfg)
			mortal.do(command{Op: "subscribe", Channels: []string{channel}}, nil)
			for _, c := range []*client{watcher, self} {
				if e := c.until("presence", is("join", "mortal")); e.Occupancy != 2 {
					t.Errorf("%+v", e)
				}
			}
			var beats struct{ Requests []struct{ Path string } }
			raw := k.ask(t, http.MethodGet, "requests?count=2&wait=1m&endpoint=heartbeat&channel="+channel+"&contains=uuid%3Dmortal", "")
			if err := json.Unmarshal(raw, &beats); err != nil || len(beats.Requests) < 2 || !strings.Contains(beats.Requests[0].Path, "heartbeat=4") {
				t.Errorf("heartbeats of the SDK: %s", raw)
			}
			mortal.kill()
			watcher.until("presence", is("timeout", "mortal"))
			type here struct {
				Total    int
				Channels map[string]struct {
					Occupancy int
					UUIDs     []string
					States    map[string]map[string]any
				}
			}
			for _, channels := range [][]string{{channel}, {channel, "empty." + sdk}} {
				// On a slow machine the mortal may have timed out and come back before it was killed.
				system.Eventually(t, patience, fmt.Sprintf("here now of %v is self alone, in its mood", channels), func() bool {
					var h here
					watcher.do(command{Op: "hereNow", Channels: channels, States: true}, &h)
					return h.Total == 1 && h.Channels[channel].Occupancy == 1 && slices.Equal(h.Channels[channel].UUIDs, []string{"self"}) && h.Channels[channel].States["self"]["mood"] == "ok"
				})
			}
			watcher.do(command{Op: "groupAdd", Group: "who-" + sdk, Channels: []string{channel}}, nil)
			var h here
			watcher.do(command{Op: "hereNow", Groups: []string{"who-" + sdk}}, &h)
			if h.Total != 1 || !slices.Equal(h.Channels[channel].UUIDs, []string{"self"}) {
				t.Errorf("here now of a group: %+v", h)
			}
			var where struct{ Channels []string }
			watcher.do(command{Op: "whereNow", UUID: "self"}, &where)
			if !slices.Contains(where.Channels, channel) {
				t.Errorf("where now: %v", where.Channels)
			}
			self.do(command{Op: "unsubscribe", Channels: []string{channel}}, nil)
			watcher.until("presence", is("leave", "self"))
		})
	}
}
