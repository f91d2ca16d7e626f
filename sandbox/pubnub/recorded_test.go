package pubnub

import (
	"strings"
	"testing"
	"time"
)

// These are rules of the real network, taken from recordings of its answers.

// TestFlags: a flag is on as 1 and as true, off as 0 and as false.
func TestFlags(t *testing.T) {
	steps := []step{
		{name: "a", method: "GET", path: `/publish/pub-open/sub-open/0/h/0/1?uuid=a&meta={"k":1}&custom_message_type=note`, status: 200, want: sent, take: map[string]string{"A": tt}},
		{name: "b", method: "GET", path: `/publish/pub-open/sub-open/0/h/0/2?uuid=a`, status: 200, want: sent, take: map[string]string{"B": tt}},
		{name: "not stored", method: "GET", path: `/publish/pub-open/sub-open/0/h/0/3?uuid=a&store=false`, status: 200, want: sent},
		{name: "stored elsewhere", method: "GET", path: `/publish/pub-open/sub-open/0/h%7C/0/3?uuid=a&store=1`, status: 200, want: sent},
		{name: "fire", method: "GET", path: `/publish/pub-open/sub-open/0/f/0/3?uuid=a&store=0&norep=1`, status: 200, want: sent},
		{name: "not delivered", method: "GET", path: `/v2/subscribe/sub-open/f/0?tt=1`, status: 200, want: `{"t":{"t":"1","r":1},"m":[]}`},
		{name: "present", method: "GET", path: `/v2/presence/sub-key/sub-open/channel/p/heartbeat?uuid=a&state={"p":{"n":1}}`, status: 200, want: `{"status":200,"message":"OK","service":"Presence"}`},
	}
	v3 := func(members string) string {
		return `{"status":200,"error":false,"error_message":"","channels":{"h":[{"message":1,"timetoken":"$A"` + members + `}]}}`
	}
	here := func(rest string) string { return `{"status":200,"message":"OK","service":"Presence",` + rest + `}` }
	for _, flag := range []struct{ path, on, off string }{
		{"/v3/history/sub-key/sub-open/channel/h?start=$B&include_uuid=", v3(`,"uuid":"a"`), v3("")},
		{"/v3/history/sub-key/sub-open/channel/h?start=$B&include_meta=", v3(`,"meta":{"k":1}`), v3("")},
		{"/v3/history/sub-key/sub-open/channel/h?start=$B&include_message_type=", v3(`,"message_type":null`), v3("")},
		{"/v3/history/sub-key/sub-open/channel/h?start=$B&include_custom_message_type=", v3(`,"custom_message_type":"note"`), v3("")},
		{"/v3/history-with-actions/sub-key/sub-open/channel/h?start=$B&include_uuid=", v3(`,"uuid":"a"`), v3("")},
		{"/v3/history/sub-key/sub-open/channel/h%7C?encode_channels=", `{"status":200,"error":false,"error_message":"","channels":{"h%7C":[{"message":3,"timetoken":"T"}]}}`,
			`{"status":200,"error":false,"error_message":"","channels":{"h|":[{"message":3,"timetoken":"T"}]}}`},
		{"/v2/history/sub-key/sub-open/channel/h?include_token=", `[[{"message":1,"timetoken":$A},{"message":2,"timetoken":$B}],$A,$B]`, `[[1,2],$A,$B]`},
		{"/v2/history/sub-key/sub-open/channel/h?include_meta=", `[[{"message":1,"meta":{"k":1}},{"message":2,"meta":""}],$A,$B]`, `[[1,2],$A,$B]`},
		{"/v2/history/sub-key/sub-open/channel/h?count=1&reverse=", `[[1],$A,$A]`, `[[2],$B,$B]`},
		{"/v2/presence/sub-key/sub-open/channel/p?state=", here(`"uuids":[{"uuid":"a","state":{"n":1}}],"occupancy":1`), here(`"uuids":["a"],"occupancy":1`)},
		{"/v2/presence/sub-key/sub-open/channel/p?disable_uuids=", here(`"occupancy":1`), here(`"uuids":["a"],"occupancy":1`)},
		{"/v2/presence/sub-key/sub-open/channel/p?disable-uuids=", here(`"occupancy":1`), here(`"uuids":["a"],"occupancy":1`)},
	} {
		for value, want := range map[string]string{"1": flag.on, "true": flag.on, "0": flag.off, "false": flag.off} {
			steps = append(steps, step{name: flag.path + value, method: "GET", path: flag.path + value, status: 200, want: want})
		}
	}
	sequence(t, steps)
}

// TestRanges: which messages a history, a count and a page of actions hold, and when there are more.
func TestRanges(t *testing.T) {
	const v2 = "/v2/history/sub-key/sub-open/channel/h"
	const with = "/v3/history-with-actions/sub-key/sub-open/channel/h"
	publish := func(body, name string) step {
		return step{name: "publish " + body, method: "GET", path: "/publish/pub-open/sub-open/0/h/0/" + body, status: 200, want: sent, take: map[string]string{name: tt}}
	}
	get := func(name, path, want string) step {
		return step{name: name, method: "GET", path: path, status: 200, want: want}
	}
	counts := func(n string) string {
		return `{"status":200,"error":false,"error_message":"","channels":{"h":` + n + `}}`
	}
	page := func(messages, more string) string {
		return `{"status":200,"error":false,"error_message":"","channels":{"h":[` + messages + `]}` + more + `}`
	}
	act := func(n string) step {
		return step{name: "act " + n, method: "POST", path: "/v1/message-actions/sub-open/channel/h/message/$D?uuid=u", body: `{"type":"n","value":"` + n + `"}`, status: 200,
			want: `{"status":200,"data":{"type":"n","value":"` + n + `","uuid":"u","actionTimetoken":"T","messageTimetoken":"$D"}}`, take: map[string]string{"X" + n: `"actionTimetoken":"([0-9]+)"`}}
	}
	action := func(n string) string {
		return `{"type":"n","value":"` + n + `","uuid":"u","actionTimetoken":"$X` + n + `","messageTimetoken":"$D"}`
	}
	sequence(t, []step{
		publish("1", "A"), publish("2", "B"), publish("3", "C"), publish("4", "D"),

		get("newest", v2+"?count=2", `[[3,4],$C,$D]`),
		get("start is exclusive, end inclusive", v2+"?start=$D&end=$B", `[[2,3],$B,$C]`),
		get("oldest", v2+"?count=2&reverse=1", `[[1,2],$A,$B]`),
		get("reverse: start exclusive", v2+"?reverse=1&start=$A", `[[2,3,4],$B,$D]`),
		get("reverse: end inclusive", v2+"?reverse=1&end=$C", `[[1,2,3],$A,$C]`),
		get("reverse: both", v2+"?reverse=1&start=$A&end=$C", `[[2,3],$B,$C]`),
		get("reverse: the oldest of both", v2+"?reverse=1&start=$A&end=$D&count=2&include_token=1", `[[{"message":2,"timetoken":$B},{"message":3,"timetoken":$C}],$B,$C]`),
		get("reverse: nothing", v2+"?reverse=1&start=$D", `[[],0,0]`),

		get("newer than the first", "/v3/history/sub-key/sub-open/message-counts/h?timetoken=$A", counts("3")),
		get("newer than the last", "/v3/history/sub-key/sub-open/message-counts/h?timetoken=$D", counts("0")),
		get("newer, channel by channel", "/v3/history/sub-key/sub-open/message-counts/h?channelsTimetoken=$C", counts("1")),

		get("more", with+"?max=2", page(`{"message":3,"timetoken":"$C"},{"message":4,"timetoken":"$D"}`, `,"more":{"url":"`+with+`?start=$C&max=2","start":"$C","max":2}`)),
		get("the rest, exactly", with+"?max=2&start=$C", page(`{"message":1,"timetoken":"$A"},{"message":2,"timetoken":"$B"}`, "")),
		get("all", with+"?max=4", page(`{"message":1,"timetoken":"$A"},{"message":2,"timetoken":"$B"},{"message":3,"timetoken":"$C"},{"message":4,"timetoken":"$D"}`, "")),
		get("none older than the end", with+"?max=2&start=$D&end=$B", page(`{"message":2,"timetoken":"$B"},{"message":3,"timetoken":"$C"}`, "")),

		act("1"), act("2"), act("3"),
		get("more actions", "/v1/message-actions/sub-open/channel/h?limit=2", `{"status":200,"data":[`+action("2")+`,`+action("3")+`],"more":{"url":"/v1/message-actions/sub-open/channel/h?start=$X2&limit=2","start":"$X2","limit":2}}`),
		get("the other action", "/v1/message-actions/sub-open/channel/h?limit=1&start=$X2", `{"status":200,"data":[`+action("1")+`]}`),
		get("all actions", "/v1/message-actions/sub-open/channel/h?limit=3", `{"status":200,"data":[`+action("1")+`,`+action("2")+`,`+action("3")+`]}`),
	})
}

// TestOwnJoin: a client whose heartbeat is handled right before its handshake sees its own join, and one that has
// subscribed to the presence channel alone sees it too.
func TestOwnJoin(t *testing.T) {
	now := time.Unix(1700000000, 0)
	server, _, space := faceAt(t, 20*time.Millisecond, func() time.Time { return now })
	later := func() { now = now.Add(100 * time.Millisecond); space.Announce() }
	join := func(match string) string {
		return `{"t":{"t":"T","r":1},"m":[{"a":"1","f":0,"p":{"t":"T","r":1},"k":"sub-open","c":"c-pnpres","u":{"pn_action":"join","pn_uuid":"me","pn_timestamp":1700000000,"pn_occupancy":1,"pn_ispresence":1,"pn_channel":"c"},` +
			`"d":{"action":"join","timestamp":1700000000,"uuid":"me","occupancy":1},"b":"` + match + `"}]}`
	}
	cursor := map[string]string{"S": `"t":"([0-9]+)"`}
	alone := map[string]string{"W": `"t":"([0-9]+)"`}
	const handshake = `{"t":{"t":"T","r":1},"m":[]}`
	run(t, client{t, func(method, path, body string) reply { return fetch(t, server, method, path, body) }}, []step{
		{name: "heartbeat", method: "GET", path: "/v2/presence/sub-key/sub-open/channel/c/heartbeat?uuid=me&heartbeat=300", status: 200, want: `{"status":200,"message":"OK","service":"Presence"}`},
		{name: "handshake", method: "GET", path: "/v2/subscribe/sub-open/c,c-pnpres/0?uuid=me&ee=", status: 200, want: handshake, take: cursor},
		{name: "alone", method: "GET", path: "/v2/subscribe/sub-open/c-pnpres/0?uuid=watcher", status: 200, want: handshake, take: alone},
		{name: "own join", before: later, method: "GET", path: "/v2/subscribe/sub-open/c,c-pnpres/0?uuid=me&ee=&tt=$S&tr=1", status: 200, want: join("c-pnpres")},
		{name: "seen alone", method: "GET", path: "/v2/subscribe/sub-open/c-pnpres/0?uuid=watcher&tt=$W", status: 200, want: join("c-pnpres")},
	})
	for _, uuid := range []string{"me", "watcher"} {
		if r := fetch(t, server, "GET", "/v2/presence/sub-key/sub-open/channel/c-pnpres?uuid="+uuid, ""); !strings.Contains(r.body, `"occupancy":0`) {
			t.Errorf("somebody is present on the presence channel: %s", r.body)
		}
	}
}
