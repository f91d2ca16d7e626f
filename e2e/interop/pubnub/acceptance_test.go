package pubnub

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMessages: each SDK publishes by GET and by POST what is hard to carry, and each receives every message once. The
// Go SDK delivers them in any order, which is its own fault.
func TestMessages(t *testing.T) {
	k := network(t)
	hard := []any{"a//b", "%2F", "😀 ü", strings.Repeat("x", 30<<10), "9223372036854775807", object{"n": "1&<>", "quote": "\"'"}, []any{1.0, "two"}}
	var clients []*client
	for _, sdk := range sdks {
		c := start(t, sdk, k.open("uuid-"+sdk))
		c.subscribe(command{Channels: []string{"room.1", "other"}})
		clients = append(clients, c)
	}
	want := map[string]int{}
	for _, c := range clients {
		for i := range 50 {
			for _, post := range []bool{false, true} {
				var m any = fmt.Sprintf("%s %d %v", c.name, i, post)
				if i < len(hard) && (post || len(fmt.Sprint(hard[i])) < 10_000) { // a long one does not fit into a URL
					m = object{"from": c.name, "post": post, "i": i, "hard": hard[i]}
				}
				c.timetoken(command{Op: "publish", Channel: "room.1", Message: m, Post: post})
				raw, _ := json.Marshal(m)
				want[string(raw)]++
			}
		}
	}
	for _, c := range clients {
		got := map[string]int{}
		last := ""
		for range 100 * len(clients) {
			e := c.next("message")
			raw, _ := json.Marshal(e.Message)
			got[string(raw)]++
			if c.name != "go" && e.Timetoken <= last {
				t.Errorf("%s: message %s after %s", c.name, e.Timetoken, last)
			}
			last = e.Timetoken
		}
		for m, n := range want {
			if got[m] != n {
				t.Errorf("%s received %.100s %d times, want %d", c.name, m, got[m], n)
			}
		}
	}
}

// TestSubscriptions: channels, groups and wildcards of one client, which changes them while a publisher runs; nothing
// is lost, and each SDK accepts the match that the sandbox names.
func TestSubscriptions(t *testing.T) {
	k := network(t)
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			c, p := start(t, sdk, k.open("reader")), start(t, sdk, k.open("writer"))
			group := "group-" + sdk
			p.do(command{Op: "groupAdd", Group: group, Channels: []string{"g." + sdk, "h." + sdk}}, nil)
			var list struct{ Channels []string }
			p.do(command{Op: "groupList", Group: group}, &list)
			if slices.Sort(list.Channels); !slices.Equal(list.Channels, []string{"g." + sdk, "h." + sdk}) {
				t.Errorf("group has %v", list.Channels)
			}
			c.subscribe(command{Channels: []string{"keep." + sdk, "wild-" + sdk + ".*"}, Groups: []string{group}})
			count := 0
			publish := func(channel string) string {
				count++
				p.timetoken(command{Op: "publish", Channel: channel, Message: fmt.Sprint(channel, " ", count)})
				return fmt.Sprint(channel, " ", count)
			}
			for _, channel := range []string{"keep." + sdk, "wild-" + sdk + ".x", "g." + sdk, "h." + sdk} {
				want := publish(channel)
				e := c.next("message")
				if e.Message != want || e.Channel != channel || e.Publisher != "writer" {
					t.Errorf("got %+v, want %q", e, want)
				}
			}
			// A channel that joins the group is heard without a new subscription.
			p.do(command{Op: "groupAdd", Group: group, Channels: []string{"late." + sdk}}, nil)
			if want := publish("late." + sdk); c.next("message").Message != want {
				t.Errorf("not %q", want)
			}
			p.do(command{Op: "groupRemove", Group: group, Channels: []string{"late." + sdk}}, nil)
			publish("late." + sdk) // not heard
			// Change the channels under traffic. Before the second change everything must have come: the Go SDK loses
			// messages when a change meets another one.
			hear := func(want []string) {
				t.Helper()
				missing := map[string]bool{}
				for _, m := range want {
					missing[m] = true
				}
				for len(missing) > 0 {
					m := c.next("message").Message.(string)
					// Two loops of the Go SDK may run beside each other after a change, and then each message comes twice.
					if !missing[m] && sdk != "go" {
						t.Errorf("got %q, which is not one of %q or came twice", m, want)
					}
					delete(missing, m)
				}
			}
			for _, op := range []string{"subscribe", "unsubscribe"} {
				var want []string
				for i := range 20 {
					want = append(want, publish("keep."+sdk))
					if i == 8 {
						c.do(command{Op: op, Channels: []string{"more." + sdk}}, nil)
					}
				}
				hear(want)
			}
			p.do(command{Op: "groupDelete", Group: group}, nil)
			p.do(command{Op: "groupList", Group: group}, &list)
			if len(list.Channels) != 0 {
				t.Errorf("group that was deleted has %v", list.Channels)
			}
		})
	}
}

// TestCatchUp: a subscription from a timetoken gets what is still in the ring: the newest 100.
func TestCatchUp(t *testing.T) {
	k := network(t)
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			p := start(t, sdk, k.open("writer"))
			channel := "catch." + sdk
			first := p.timetoken(command{Op: "publish", Channel: channel, Message: "0"})
			from := ""
			for i := range 150 {
				tt := p.timetoken(command{Op: "publish", Channel: channel, Message: fmt.Sprint(i + 1)})
				if i == 119 {
					from = tt
				}
			}
			for cursor, oldest := range map[string]int{first: 51, from: 121} {
				c := start(t, sdk, k.open("reader-"+cursor))
				c.do(command{Op: "subscribe", Channels: []string{channel}, Timetoken: cursor}, nil)
				var got []int
				for range 150 - oldest + 1 {
					n := 0
					fmt.Sscan(c.next("message").Message.(string), &n)
					got = append(got, n)
				}
				slices.Sort(got)
				if got[0] != oldest || got[len(got)-1] != 150 {
					t.Errorf("from %s: %v", cursor, got)
				}
			}
		})
	}
}

// TestPresence: join, state, leave and time-out as others and oneself see them; who is here and where.
func TestPresence(t *testing.T) {
	k := network(t)
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
			// The JavaScript SDK sends a heartbeat beside the handshake. Where that comes first, the join lies before the cursor.
			if sdk != "javascript" {
				self.until("presence", is("join", "self"))
			}
			self.do(command{Op: "setState", Channels: []string{channel}, State: object{"mood": "ok"}}, nil)
			if e := watcher.until("presence", is("state-change", "self")); fmt.Sprint(e.State) != "map[mood:ok]" {
				t.Errorf("%+v", e)
			}
			var state struct{ Channels map[string]map[string]any }
			watcher.do(command{Op: "getState", Channels: []string{channel}, UUID: "self"}, &state)
			if state.Channels[channel]["mood"] != "ok" {
				t.Errorf("state %+v", state)
			}
			// Someone who is silent: a heartbeat that lasts four seconds, and no more. Sent by hand, since the SDKs send more.
			status, body := get(t, k.origin, "/v2/presence/sub-key/"+k.openSubscribe+"/channel/"+channel+"/heartbeat?uuid=silent&heartbeat=1")
			if status != 200 {
				t.Fatal(body)
			}
			for _, c := range []*client{watcher, self} {
				if e := c.until("presence", is("join", "silent")); e.Occupancy != 2 {
					t.Errorf("%+v", e)
				}
			}
			type here struct {
				Total    int
				Channels map[string]struct {
					Occupancy int
					UUIDs     []string
					States    map[string]map[string]any
				}
			}
			watcher.until("presence", is("timeout", "silent"))
			for _, channels := range [][]string{{channel}, {channel, "empty." + sdk}} {
				var h here
				watcher.do(command{Op: "hereNow", Channels: channels, States: true}, &h)
				if h.Total != 1 || h.Channels[channel].Occupancy != 1 || !slices.Equal(h.Channels[channel].UUIDs, []string{"self"}) || h.Channels[channel].States["self"]["mood"] != "ok" {
					t.Errorf("here now of %v: %+v", channels, h)
				}
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

type stored struct {
	More     bool
	Messages []struct {
		Message         any
		Timetoken, UUID string
		Meta            any
		Actions         []string
	}
}

func (s stored) texts() []string {
	var out []string
	for _, m := range s.Messages {
		out = append(out, fmt.Sprint(m.Message))
	}
	return out
}

// TestHistory: pages, counts, message actions with their events, deletion of one message, the older interface.
func TestHistory(t *testing.T) {
	k := network(t)
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			c := start(t, sdk, k.admin("u1")) // one SDK refuses to delete without a secret key
			channel := "hist." + sdk
			c.subscribe(command{Channels: []string{channel}})
			var tts []string
			for i := range 5 {
				tts = append(tts, c.timetoken(command{Op: "publish", Channel: channel, Message: fmt.Sprint("m", i), Meta: object{"n": i}}))
			}
			no := false
			c.timetoken(command{Op: "publish", Channel: channel, Message: "unstored", Store: &no})
			c.timetoken(command{Op: "signal", Channel: channel, Message: "sig"})
			c.timetoken(command{Op: "fire", Channel: channel, Message: "fired"})
			if e := c.next("signal"); e.Message != "sig" || e.Publisher != "u1" {
				t.Errorf("signal %+v", e)
			}
			var h stored
			c.do(command{Op: "history", Channel: channel, Count: 2}, &h)
			if got := h.texts(); !slices.Equal(got, []string{"m3", "m4"}) || h.Messages[0].UUID != "u1" || fmt.Sprint(h.Messages[0].Meta) != "map[n:3]" || h.Messages[0].Timetoken != tts[3] {
				t.Errorf("newest: %+v", h)
			}
			h = stored{}
			c.do(command{Op: "history", Channel: channel, Count: 100, Start: tts[3], End: tts[1]}, &h)
			if got := h.texts(); !slices.Equal(got, []string{"m1", "m2"}) {
				t.Errorf("range: %v", got)
			}
			var counts struct{ Channels map[string]int }
			c.do(command{Op: "counts", Channels: []string{channel, "none." + sdk}, Timetokens: []string{tts[2], tts[0]}}, &counts)
			if counts.Channels[channel] != 3 || counts.Channels["none."+sdk] != 0 {
				t.Errorf("counts %v", counts.Channels)
			}
			act := c.timetoken(command{Op: "addAction", Channel: channel, Timetoken: tts[2], Type: "reaction", Value: "smile"})
			if e := c.next("action"); e.Type != "reaction" || e.Value != "smile" || e.Timetoken != act {
				t.Errorf("action event %+v", e)
			}
			if a := c.try(command{Op: "addAction", Channel: channel, Timetoken: tts[2], Type: "reaction", Value: "smile"}); a.OK {
				t.Error("the same action was taken twice")
			}
			h = stored{}
			c.do(command{Op: "history", Channel: channel, Count: 3, Actions: true}, &h)
			if got := h.texts(); !slices.Equal(got, []string{"m2", "m3", "m4"}) || !slices.Equal(h.Messages[0].Actions, []string{"reaction/smile/u1"}) {
				t.Errorf("with actions: %+v", h)
			}
			var actions struct{ Actions []string }
			c.do(command{Op: "actions", Channel: channel}, &actions)
			if !slices.Equal(actions.Actions, []string{"reaction/smile/u1"}) {
				t.Errorf("actions %v", actions.Actions)
			}
			c.do(command{Op: "removeAction", Channel: channel, Timetoken: tts[2], Action: act}, nil)
			if e := c.next("action"); e.Timetoken != act || e.Action == "added" {
				t.Errorf("action event %+v", e)
			}
			c.do(command{Op: "delete", Channel: channel, Start: before(tts[3]), End: tts[3]}, nil)
			var old struct {
				Messages    []string
				First, Last string
			}
			c.do(command{Op: "history2", Channel: channel, Count: 10}, &old)
			if !slices.Equal(old.Messages, []string{"m0", "m1", "m2", "m4"}) || !about(old.First, tts[0]) || !about(old.Last, tts[4]) {
				t.Errorf("v2 after deletion: %+v", old)
			}
			c.do(command{Op: "history2", Channel: channel, Count: 2, Reverse: true}, &old)
			if !slices.Equal(old.Messages, []string{"m0", "m1"}) {
				t.Errorf("v2 in reverse: %+v", old)
			}
			// The fire, sent before the signal's successors, has not come.
			c.timetoken(command{Op: "publish", Channel: channel, Message: "end"})
			for {
				m := c.next("message").Message
				if m == "fired" {
					t.Error("a fire was delivered")
				}
				if m == "end" {
					break
				}
			}
		})
	}
}

// about compares timetokens that came as numbers: JavaScript reads them as floating point, whose steps are 2 there.
func about(a, b string) bool {
	d := number(a) - number(b)
	return d >= -2 && d <= 2
}

func before(tt string) string {
	return fmt.Sprint(number(tt) - 1)
}

// TestFiles: sent, listed in pages, found by its address, downloaded, deleted; told to subscribers.
func TestFiles(t *testing.T) {
	k := network(t)
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			c, watcher := start(t, sdk, k.open("sender")), start(t, "javascript", k.open("watcher"))
			channel := "files." + sdk
			watcher.subscribe(command{Channels: []string{channel}})
			var sent struct{ ID string }
			c.do(command{Op: "sendFile", Channel: channel, Name: "one.txt", Content: "the first file", Message: "note"}, &sent)
			if e := watcher.next("file"); e.ID != sent.ID || e.Name != "one.txt" || !strings.Contains(fmt.Sprint(e.Message), "note") {
				t.Errorf("file event %+v", e)
			}
			c.do(command{Op: "sendFile", Channel: channel, Name: "two.txt", Content: "second", Message: "note"}, nil)
			var list struct {
				Files []string
				Next  string
			}
			c.do(command{Op: "listFiles", Channel: channel, Limit: 1}, &list)
			if !slices.Equal(list.Files, []string{"one.txt 14"}) || list.Next == "" {
				t.Errorf("first page %+v", list)
			}
			c.do(command{Op: "listFiles", Channel: channel, Limit: 1, Next: list.Next}, &list)
			if !slices.Equal(list.Files, []string{"two.txt 6"}) || list.Next != "" {
				t.Errorf("second page %+v", list)
			}
			var url struct{ URL string }
			c.do(command{Op: "fileURL", Channel: channel, File: sent.ID, Name: "one.txt"}, &url)
			if !strings.Contains(url.URL, k.origin) {
				t.Errorf("address %q", url.URL)
			}
			var content struct{ Content string }
			c.do(command{Op: "downloadFile", Channel: channel, File: sent.ID, Name: "one.txt"}, &content)
			if content.Content != "the first file" {
				t.Errorf("content %q", content.Content)
			}
			c.do(command{Op: "deleteFile", Channel: channel, File: sent.ID, Name: "one.txt"}, nil)
			c.do(command{Op: "listFiles", Channel: channel, Limit: 10}, &list)
			if !slices.Equal(list.Files, []string{"two.txt 6"}) {
				t.Errorf("after deletion %+v", list)
			}
		})
	}
}

// TestTokens: granted and signed by each SDK, parsed by each, allowing what was granted and nothing else, also to a held
// poll after revocation.
func TestTokens(t *testing.T) {
	k := network(t)
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			admin, user := start(t, sdk, k.admin("admin")), start(t, sdk, k.pam("user"))
			read, write := "read."+sdk, "write."+sdk
			var granted struct{ Token string }
			admin.do(command{
				Op: "grant", TTL: 15, UUID: "user", Channels: map[string]string{read: "r", write: "w"}, Groups: map[string]string{"g-" + sdk: "rm"},
				Patterns: map[string]string{"^pat\\.[a-z]+$": "rw"},
			}, &granted)
			for _, other := range sdks {
				var p struct {
					TTL                int
					UUID               string
					Channels, Patterns []string
				}
				start(t, other, k.open("parser")).do(command{Op: "parseToken", Token: granted.Token}, &p)
				slices.Sort(p.Channels)
				if p.TTL != 15 || p.UUID != "user" || !slices.Equal(p.Channels, []string{read, write}) || !slices.Equal(p.Patterns, []string{"^pat\\.[a-z]+$"}) {
					t.Errorf("%s parses %+v", other, p)
				}
			}
			denied := func(c *client, cmd command) {
				t.Helper()
				if a := c.try(cmd); a.OK || a.Status != 403 {
					t.Errorf("%s of %s: %+v, want 403", cmd.Op, cmd.Channel, a)
				}
			}
			denied(user, command{Op: "publish", Channel: write, Message: "no token"})
			user.do(command{Op: "setToken", Token: granted.Token}, nil)
			user.timetoken(command{Op: "publish", Channel: write, Message: "m"})
			user.timetoken(command{Op: "publish", Channel: "pat.x", Message: "m", Post: true})
			denied(user, command{Op: "publish", Channel: read, Message: "m"})
			denied(user, command{Op: "publish", Channel: "pat.1", Message: "m"})
			denied(user, command{Op: "history", Channel: write, Count: 1})
			user.do(command{Op: "history", Channel: read, Count: 1}, nil)
			user.do(command{Op: "groupAdd", Group: "g-" + sdk, Channels: []string{read}}, nil)
			denied(user, command{Op: "groupAdd", Group: "other", Channels: []string{read}})
			// Bound to its user id.
			thief := start(t, sdk, k.pam("thief"))
			thief.do(command{Op: "setToken", Token: granted.Token}, nil)
			denied(thief, command{Op: "publish", Channel: write, Message: "stolen"})
			// Signed requests need no token, by GET and by POST, with all that is hard to sign.
			for _, post := range []bool{false, true} {
				admin.timetoken(command{Op: "publish", Channel: "any/ü *!'()~", Message: "a b&<>+%", Meta: object{"k": "v w~*"}, Post: post})
			}
			var counts struct{ Channels map[string]int }
			admin.do(command{Op: "counts", Channels: []string{"any"}, Timetokens: []string{"1"}}, &counts)
			cfg := k.admin("guesser")
			cfg.SecretKey = "sec-c-wrong"
			guesser := start(t, sdk, cfg)
			denied(guesser, command{Op: "publish", Channel: write, Message: "m"})
			// Revocation ends the poll that is being held.
			user.subscribe(command{Channels: []string{read}, Groups: []string{"g-" + sdk}})
			admin.timetoken(command{Op: "publish", Channel: read, Message: "heard"})
			if m := user.next("message").Message; m != "heard" {
				t.Errorf("heard %v", m)
			}
			admin.do(command{Op: "revoke", Token: granted.Token}, nil)
			user.until("status", func(e event) bool {
				return !strings.Contains(e.Category, "Connected") || strings.Contains(e.Category, "Disconnected")
			})
			denied(user, command{Op: "publish", Channel: write, Message: "m"})
		})
	}
}

// TestFilters: a filter on meta data is applied by the sandbox for each SDK.
func TestFilters(t *testing.T) {
	k := network(t)
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			cfg := k.open("reader")
			cfg.Filter = `meta.k == "v" && n > 1`
			c, p := start(t, sdk, cfg), start(t, sdk, k.open("writer"))
			channel := "filter." + sdk
			c.subscribe(command{Channels: []string{channel}})
			for i := range 4 {
				p.timetoken(command{Op: "publish", Channel: channel, Message: fmt.Sprint(i), Meta: object{"k": "v", "n": i}})
			}
			var got []string
			for range 2 {
				got = append(got, c.next("message").Message.(string))
			}
			if slices.Sort(got); !slices.Equal(got, []string{"2", "3"}) {
				t.Errorf("got %v", got)
			}
		})
	}
}

// TestClock: every SDK reads the time.
func TestClock(t *testing.T) {
	k := network(t)
	for _, sdk := range sdks {
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			tt := start(t, sdk, k.open("u")).timetoken(command{Op: "time"})
			if age := time.Since(time.Unix(0, number(tt)*100)); age < -time.Minute || age > time.Minute {
				t.Errorf("time %s is %s off", tt, age)
			}
		})
	}
}
