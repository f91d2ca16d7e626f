package pubnub

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"mime/multipart"
	"regexp"
	"strings"
	"testing"
	"time"
)

// step is one request of a sequence. $NAME in its path, body and wanted answer stands for what an earlier step took.
type step struct {
	name, method, path, body string
	status                   int
	contentType              string // "" is that of the data endpoints
	want                     string
	take                     map[string]string // name → regular expression with one group, of the answer
	sign                     string            // secret key to sign with
	before                   func()            // is called before the request
}

const (
	typeJS   = `text/javascript; charset="UTF-8"`
	typeJSON = "application/json"
	typeXML  = "application/xml"
)

// run sends the requests in order and compares the answers. A timetoken that the wanted answer does not name is
// written T.
func run(t *testing.T, server interface{ send(step) reply }, steps []step) map[string]string {
	t.Helper()
	vars := map[string]string{}
	fill := func(s string) string {
		for name, value := range vars {
			s = strings.ReplaceAll(s, "$"+name, value)
		}
		return s
	}
	for _, s := range steps {
		if s.before != nil {
			s.before()
		}
		s.path, s.body = fill(s.path), fill(s.body)
		got := server.send(s)
		for name, pattern := range s.take {
			m := regexp.MustCompile(pattern).FindStringSubmatch(got.body)
			if m == nil {
				t.Fatalf("%s: answer %s has no %s", s.name, got.body, pattern)
			}
			vars[name] = m[1]
		}
		s.want = fill(s.want)
		body := timetokens.ReplaceAllStringFunc(got.body, func(tt string) string {
			if strings.Contains(s.want, tt) {
				return tt
			}
			return "T"
		})
		if got.status != s.status || body != s.want {
			t.Errorf("%s: %d %s\nwant %d %s", s.name, got.status, body, s.status, s.want)
		}
		want := s.contentType
		if want == "" {
			want = typeJS
		}
		if ct := got.header.Get("Content-Type"); ct != want {
			t.Errorf("%s: content type %q, want %q", s.name, ct, want)
		}
	}
	return vars
}

// client sends the steps of a sequence to a server.
type client struct {
	t  *testing.T
	do func(method, path, body string) reply
}

func (c client) send(s step) reply {
	if s.sign != "" {
		s.path = signed(s)
	}
	return c.do(s.method, s.path, s.body)
}

// signed returns the path with its signature, computed here from the rules and not by the code under test. The query
// must be plain: no characters that need an escape, no repeated names.
func signed(s step) string {
	path, query, _ := strings.Cut(s.path, "?")
	pairs := strings.Split(query, "&")
	if query == "" {
		pairs = nil
	}
	if !strings.Contains(query, "timestamp=") {
		pairs = append(pairs, fmt.Sprintf("timestamp=%d", time.Now().Unix()))
	}
	for i := range pairs { // insertion sort: few
		for j := i; j > 0 && pairs[j] < pairs[j-1]; j-- {
			pairs[j], pairs[j-1] = pairs[j-1], pairs[j]
		}
	}
	query = strings.Join(pairs, "&")
	mac := hmac.New(sha256.New, []byte(s.sign))
	fmt.Fprintf(mac, "%s\n%s\n%s\n%s\n%s", s.method, "pub-pam", path, query, s.body)
	return path + "?" + query + "&signature=v2." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func sequence(t *testing.T, steps []step) map[string]string {
	t.Helper()
	server, _, _ := face(t, 20*time.Millisecond)
	return run(t, client{t, func(method, path, body string) reply { return fetch(t, server, method, path, body) }}, steps)
}

const (
	sent = `[1,"Sent","T"]`
	tt   = `"([0-9]{17})"\]`
)

func TestHistorySequence(t *testing.T) {
	sequence(t, []step{
		{name: "first", method: "GET", path: `/publish/pub-open/sub-open/0/h/0/%221%22?uuid=a&meta={"k":1}&custom_message_type=my_type-1`, status: 200, want: sent, take: map[string]string{"A": tt}},
		{name: "second", method: "GET", path: `/publish/pub-open/sub-open/0/h/0/2?uuid=a`, status: 200, want: sent, take: map[string]string{"B": tt}},
		{name: "third", method: "GET", path: `/publish/pub-open/sub-open/0/h/0/3?uuid=a&ttl=0.5`, status: 200, want: sent, take: map[string]string{"C": tt}},
		{name: "other", method: "GET", path: `/publish/pub-open/sub-open/0/h2/0/4?uuid=a`, status: 200, want: sent},
		{name: "fire", method: "GET", path: `/publish/pub-open/sub-open/0/h/0/5?uuid=a&store=0&norep=true`, status: 200, want: sent},
		{name: "bad custom type", method: "GET", path: `/publish/pub-open/sub-open/0/h/0/5?custom_message_type=a+b`, status: 400, want: `[0,"Invalid custom_message_type","T"]`},

		{name: "page", method: "GET", path: "/v3/history/sub-key/sub-open/channel/h?max=2&start=$C", status: 200,
			want: `{"status":200,"error":false,"error_message":"","channels":{"h":[{"message":"1","timetoken":"$A"},{"message":2,"timetoken":"$B"}]}}`},
		{name: "in full", method: "GET", path: "/v3/history/sub-key/sub-open/channel/h?max=1&start=$B&include_meta=true&include_uuid=true&include_message_type=true&include_custom_message_type=true", status: 200,
			want: `{"status":200,"error":false,"error_message":"","channels":{"h":[{"message":"1","timetoken":"$A","uuid":"a","message_type":null,"meta":{"k":1},"custom_message_type":"my_type-1"}]}}`},
		{name: "one of each", method: "GET", path: "/v3/history/sub-key/sub-open/channel/h,h2", status: 200,
			want: `{"status":200,"error":false,"error_message":"","channels":{"h":[{"message":3,"timetoken":"$C"}],"h2":[{"message":4,"timetoken":"T"}]}}`},
		{name: "escaped name", method: "GET", path: "/publish/pub-open/sub-open/0/channel%7Cencoded%3A%3A1/0/1", status: 200, want: sent},
		{name: "encoded", method: "GET", path: "/v3/history/sub-key/sub-open/channel/channel%7Cencoded%3A%3A1", status: 200,
			want: `{"status":200,"error":false,"error_message":"","channels":{"channel%7Cencoded%3A%3A1":[{"message":1,"timetoken":"T"}]}}`},
		{name: "not encoded", method: "GET", path: "/v3/history/sub-key/sub-open/channel/channel%7Cencoded%3A%3A1?encode_channels=false", status: 200,
			want: `{"status":200,"error":false,"error_message":"","channels":{"channel|encoded::1":[{"message":1,"timetoken":"T"}]}}`},

		{name: "v2", method: "GET", path: "/v2/history/sub-key/sub-open/channel/h?count=2", status: 200, want: `[[2,3],$B,$C]`},
		{name: "v2 reverse", method: "GET", path: "/v2/history/sub-key/sub-open/channel/h?count=2&reverse=true", status: 200, want: `[["1",2],$A,$B]`},
		{name: "v2 reverse from", method: "GET", path: "/v2/history/sub-key/sub-open/channel/h?count=2&reverse=true&start=$A", status: 200, want: `[[2,3],$B,$C]`},
		{name: "v2 in full", method: "GET", path: "/v2/history/sub-key/sub-open/channel/h?count=1&start=$B&include_token=true&include_meta=true", status: 200, want: `[[{"message":"1","timetoken":$A,"meta":{"k":1}}],$A,$A]`},
		{name: "v2 empty", method: "GET", path: "/v2/history/sub-key/sub-open/channel/none", status: 200, want: `[[],0,0]`},
		{name: "v2 callback", method: "GET", path: "/v2/history/sub-key/sub-open/channel/none?callback=f.g", status: 200, want: `f.g([[],0,0])`},
		{name: "v2 bad", method: "GET", path: "/v2/history/sub-key/sub-open/channel/h?count=x", status: 400, want: `{"status":400,"error":true,"error_message":"Invalid Arguments: count","channels":{}}`},

		{name: "counts", method: "GET", path: "/v3/history/sub-key/sub-open/message-counts/h,h2,none?timetoken=$B", status: 200, want: `{"status":200,"error":false,"error_message":"","channels":{"h":1,"h2":1,"none":0}}`},
		{name: "counts each", method: "GET", path: "/v3/history/sub-key/sub-open/message-counts/h,h2?channelsTimetoken=$A%2C99999999999999999", status: 200, want: `{"status":200,"error":false,"error_message":"","channels":{"h":2,"h2":0}}`},
		{name: "counts unknown", method: "GET", path: "/v3/history/sub-key/sub-open/message-counts/h,h2?channelsTimetoken=1,2,3", status: 400, want: `{"status":400,"error":true,"error_message":"Invalid Arguments: channelsTimetoken","channels":{}}`},

		{name: "act", method: "POST", path: "/v1/message-actions/sub-open/channel/h/message/$B?uuid=u2", body: `{"type":"reaction","value":"smile"}`, status: 200,
			want: `{"status":200,"data":{"type":"reaction","value":"smile","uuid":"u2","actionTimetoken":"T","messageTimetoken":"$B"}}`, take: map[string]string{"X": `"actionTimetoken":"([0-9]+)"`}},
		{name: "act again", method: "POST", path: "/v1/message-actions/sub-open/channel/h/message/$B?uuid=u2", body: `{"type":"reaction","value":"smile"}`, status: 409,
			want: `{"status":409,"error":{"source":"actions","message":"Action Already Added"}}`},
		{name: "another act", method: "POST", path: "/v1/message-actions/sub-open/channel/h/message/$B?uuid=u3", body: `{"type":"reaction","value":"smile"}`, status: 200,
			want: `{"status":200,"data":{"type":"reaction","value":"smile","uuid":"u3","actionTimetoken":"T","messageTimetoken":"$B"}}`, take: map[string]string{"Y": `"actionTimetoken":"([0-9]+)"`}},
		{name: "bad act", method: "POST", path: "/v1/message-actions/sub-open/channel/h/message/$B?uuid=u2", body: `{"type":"reaction"}`, status: 400,
			want: `{"status":400,"error":{"source":"actions","message":"Invalid action: type and value must be texts"}}`},
		{name: "act elsewhere", method: "POST", path: "/v1/message-actions/sub-x/channel/h/message/$B?uuid=u2", body: `{"type":"reaction"}`, status: 400,
			want: `{"status":400,"error":{"source":"actions","message":"Invalid Subkey"}}`},
		{name: "acts", method: "GET", path: "/v1/message-actions/sub-open/channel/h?limit=1", status: 200,
			want: `{"status":200,"data":[{"type":"reaction","value":"smile","uuid":"u3","actionTimetoken":"$Y","messageTimetoken":"$B"}],"more":{"url":"/v1/message-actions/sub-open/channel/h?start=$Y&limit=1","start":"$Y","limit":1}}`},
		{name: "older acts", method: "GET", path: "/v1/message-actions/sub-open/channel/h?start=$Y", status: 200,
			want: `{"status":200,"data":[{"type":"reaction","value":"smile","uuid":"u2","actionTimetoken":"$X","messageTimetoken":"$B"}]}`},
		{name: "history with actions", method: "GET", path: "/v3/history-with-actions/sub-key/sub-open/channel/h?max=2&start=$C", status: 200,
			want: `{"status":200,"error":false,"error_message":"","channels":{"h":[{"message":"1","timetoken":"$A"},{"message":2,"timetoken":"$B","actions":{"reaction":{"smile":[{"uuid":"u2","actionTimetoken":"$X"},{"uuid":"u3","actionTimetoken":"$Y"}]}}}]}}`},
		{name: "more of it", method: "GET", path: "/v3/history-with-actions/sub-key/sub-open/channel/h?max=1", status: 200,
			want: `{"status":200,"error":false,"error_message":"","channels":{"h":[{"message":3,"timetoken":"$C"}]},"more":{"url":"/v3/history-with-actions/sub-key/sub-open/channel/h?start=$C&max=1","start":"$C","max":1}}`},
		{name: "actions of two channels", method: "GET", path: "/v3/history-with-actions/sub-key/sub-open/channel/h,h2", status: 400, want: `{"status":400,"error":true,"error_message":"Invalid Arguments: channels","channels":{}}`},
		{name: "events", method: "GET", path: "/v2/subscribe/sub-open/h/0?tt=$C&uuid=w", status: 200,
			want: `{"t":{"t":"T","r":1},"m":[{"a":"1","f":0,"i":"u2","p":{"t":"T","r":1},"k":"sub-open","c":"h","e":3,"d":{"source":"actions","version":"1.0","event":"added","data":{"messageTimetoken":"T","actionTimetoken":"T","type":"reaction","value":"smile"}}},` +
				`{"a":"1","f":0,"i":"u3","p":{"t":"T","r":1},"k":"sub-open","c":"h","e":3,"d":{"source":"actions","version":"1.0","event":"added","data":{"messageTimetoken":"T","actionTimetoken":"T","type":"reaction","value":"smile"}}}]}`},
		{name: "not one's own", method: "DELETE", path: "/v1/message-actions/sub-open/channel/h/message/$B/action/$X?uuid=u3", status: 400,
			want: `{"status":400,"error":{"source":"actions","message":"Not deleting message action: wrong uuid specified"}}`},
		{name: "take back", method: "DELETE", path: "/v1/message-actions/sub-open/channel/h/message/$B/action/$X?uuid=u2", status: 200, want: `{"status":200,"data":{}}`},
		{name: "take back again", method: "DELETE", path: "/v1/message-actions/sub-open/channel/h/message/$B/action/$X?uuid=u2", status: 404,
			want: `{"status":404,"error":{"source":"actions","message":"No matching message actions to delete"}}`},

		{name: "delete one", method: "DELETE", path: "/v3/history/sub-key/sub-open/channel/h?start=$A&end=$B", status: 200, want: `{"status":200,"error":false,"error_message":""}`},
		{name: "its actions went", method: "GET", path: "/v1/message-actions/sub-open/channel/h", status: 200, want: `{"status":200,"data":[]}`},
		{name: "two left", method: "GET", path: "/v2/history/sub-key/sub-open/channel/h", status: 200, want: `[["1",3],$A,$C]`},
		{name: "delete older", method: "DELETE", path: "/v3/history/sub-key/sub-open/channel/h?start=$C", status: 200, want: `{"status":200,"error":false,"error_message":""}`},
		{name: "one left", method: "GET", path: "/v2/history/sub-key/sub-open/channel/h", status: 200, want: `[[3],$C,$C]`},
		{name: "delete newer", method: "DELETE", path: "/v3/history/sub-key/sub-open/channel/h?end=$C", status: 200, want: `{"status":200,"error":false,"error_message":""}`},
		{name: "none left", method: "GET", path: "/v2/history/sub-key/sub-open/channel/h", status: 200, want: `[[],0,0]`},
		{name: "bad delete", method: "DELETE", path: "/v3/history/sub-key/sub-open/channel/h?end=-1", status: 400, want: `{"status":400,"error":true,"error_message":"Invalid Arguments: end","channels":{}}`},
	})
}

func TestGroupSequence(t *testing.T) {
	const ok = `{"status":200,"message":"OK","service":"channel-registry","error":false}`
	base := "/v1/channel-registration/sub-key/sub-open/channel-group"
	sequence(t, []step{
		{name: "none", method: "GET", path: base, status: 200, contentType: typeJSON, want: `{"status":200,"payload":{"namespace":"","groups":[]},"service":"channel-registry","error":false}`},
		{name: "handshake", method: "GET", path: "/v2/subscribe/sub-open/,/0?uuid=w&channel-group=g,g-pnpres", status: 200, want: `{"t":{"t":"T","r":1},"m":[]}`, take: map[string]string{"S": `"t":"([0-9]+)"`}},
		{name: "add", method: "GET", path: base + "/g?add=ch1,ch2", status: 200, contentType: typeJSON, want: ok},
		{name: "list", method: "GET", path: base + "/g", status: 200, contentType: typeJSON, want: `{"status":200,"payload":{"group":"g","channels":["ch1","ch2"]},"service":"channel-registry","error":false}`},
		{name: "groups", method: "GET", path: base, status: 200, contentType: typeJSON, want: `{"status":200,"payload":{"namespace":"","groups":["g"]},"service":"channel-registry","error":false}`},
		{name: "publish", method: "GET", path: "/publish/pub-open/sub-open/0/ch1/0/1?uuid=a", status: 200, want: sent},
		{name: "deliver", method: "GET", path: "/v2/subscribe/sub-open/,/0?uuid=w&channel-group=g&tt=$S", status: 200,
			want: `{"t":{"t":"T","r":1},"m":[{"a":"1","f":0,"i":"a","p":{"t":"T","r":1},"k":"sub-open","c":"ch1","d":1,"b":"g"}]}`},
		{name: "by name and group", method: "GET", path: "/v2/subscribe/sub-open/ch1/0?uuid=w&channel-group=g&tt=$S", status: 200,
			want: `{"t":{"t":"T","r":1},"m":[{"a":"1","f":0,"i":"a","p":{"t":"T","r":1},"k":"sub-open","c":"ch1","d":1,"b":"ch1"}]}`},
		{name: "here now", method: "GET", path: "/v2/presence/sub-key/sub-open/channel/,?channel-group=g", status: 200,
			want: `{"status":200,"message":"OK","payload":{"channels":{"ch1":{"uuids":["w"],"occupancy":1},"ch2":{"uuids":["w"],"occupancy":1}},"total_channels":2,"total_occupancy":2},"service":"Presence"}`},
		{name: "leave", method: "GET", path: "/v2/presence/sub-key/sub-open/channel/,/leave?channel-group=g&uuid=w", status: 200, want: `{"status":200,"message":"OK","action":"leave","service":"Presence"}`},
		{name: "nobody here", method: "GET", path: "/v2/presence/sub-key/sub-open/channel/,?channel-group=g", status: 200,
			want: `{"status":200,"message":"OK","payload":{"channels":{},"total_channels":0,"total_occupancy":0},"service":"Presence"}`},
		{name: "remove one", method: "GET", path: base + "/g?remove=ch2", status: 200, contentType: typeJSON, want: ok},
		{name: "one left", method: "GET", path: base + "/g", status: 200, contentType: typeJSON, want: `{"status":200,"payload":{"group":"g","channels":["ch1"]},"service":"channel-registry","error":false}`},
		{name: "wildcard in a group", method: "GET", path: base + "/g?add=a.*", status: 400, contentType: typeJSON, want: `{"status":400,"message":"Invalid channel","service":"channel-registry","error":true}`},
		{name: "delete", method: "GET", path: base + "/g/remove", status: 200, contentType: typeJSON, want: ok},
		{name: "gone", method: "GET", path: base + "/g", status: 200, contentType: typeJSON, want: `{"status":200,"payload":{"group":"g","channels":[]},"service":"channel-registry","error":false}`},
		{name: "bad name", method: "GET", path: base + "/g%2Ch?add=c", status: 400, contentType: typeJSON, want: `{"status":400,"message":"Invalid channel group","service":"channel-registry","error":true}`},
		{name: "too many", method: "GET", path: "/v2/subscribe/sub-open/,/0?channel-group=1,2,3,4,5,6,7,8,9,10,11", status: 400, want: `{"message":"Too many channel groups","error":true,"service":"Access Manager","status":400}`},
	})
}

func TestPresenceSequence(t *testing.T) {
	heard := `{"a":"1","f":0,"p":{"t":"T","r":1},"k":"sub-open","c":"$C","u":{"pn_action":"join","pn_uuid":"bob","pn_timestamp":N,"pn_occupancy":1,"pn_ispresence":1,"pn_channel":"r.1"},"d":{"action":"join","timestamp":N,"uuid":"bob","occupancy":1},"b":"$C"}`
	now := time.Unix(1700000000, 0)
	server, _, space := faceAt(t, 20*time.Millisecond, func() time.Time { return now })
	later := func() { now = now.Add(100 * time.Millisecond); space.Announce() }
	seconds := regexp.MustCompile(`timestamp":[0-9]{10}`)
	run(t, client{t, func(method, path, body string) reply {
		r := fetch(t, server, method, path, body)
		r.body = seconds.ReplaceAllString(r.body, `timestamp":N`)
		return r
	}}, []step{
		{name: "watch", method: "GET", path: "/v2/subscribe/sub-open/r.1-pnpres,r.*-pnpres/0?uuid=w", status: 200, want: `{"t":{"t":"T","r":1},"m":[]}`, take: map[string]string{"S": `"t":"([0-9]+)"`}},
		{name: "join", method: "GET", path: "/v2/subscribe/sub-open/r.1/0?uuid=bob&heartbeat=20", status: 200, want: `{"t":{"t":"T","r":1},"m":[]}`},
		{name: "not yet", method: "GET", path: "/v2/subscribe/sub-open/r.1-pnpres/0?uuid=w&tt=$S", status: 200, want: `{"t":{"t":"$S","r":1},"m":[]}`},
		{name: "seen", before: later, method: "GET", path: "/v2/subscribe/sub-open/r.1-pnpres/0?uuid=w&tt=$S", status: 200, want: `{"t":{"t":"T","r":1},"m":[` + strings.ReplaceAll(heard, "$C", "r.1-pnpres") + `]}`},
		{name: "seen through a wildcard", method: "GET", path: "/v2/subscribe/sub-open/r.*-pnpres/0?uuid=w&tt=$S", status: 200, want: `{"t":{"t":"T","r":1},"m":[` + strings.ReplaceAll(heard, "$C", "r.*-pnpres") + `]}`},
		{name: "where now", method: "GET", path: "/v2/presence/sub-key/sub-open/uuid/bob", status: 200, want: `{"status":200,"message":"OK","payload":{"channels":["r.1"]},"service":"Presence"}`},
		{name: "second", method: "GET", path: "/v2/presence/sub-key/sub-open/channel/r.1/heartbeat?uuid=carl", status: 200, want: `{"status":200,"message":"OK","service":"Presence"}`},
		{name: "page", method: "GET", path: "/v2/presence/sub-key/sub-open/channel/r.1?limit=1&offset=1", status: 200, want: `{"status":200,"message":"OK","service":"Presence","uuids":["carl"],"occupancy":2}`},
		{name: "page of several", method: "GET", path: "/v2/presence/sub-key/sub-open/channel/r.1,x?limit=1", status: 200,
			want: `{"status":200,"message":"OK","payload":{"channels":{"r.1":{"uuids":["bob"],"occupancy":2}},"total_channels":1,"total_occupancy":2},"service":"Presence"}`},
		{name: "all of the key", method: "GET", path: "/v2/presence/sub-key/sub-open?disable_uuids=1", status: 200,
			want: `{"status":200,"message":"OK","payload":{"channels":{"r.1":{"occupancy":2}},"total_channels":1,"total_occupancy":2},"service":"Presence"}`},
	})
}

func TestAccessSequence(t *testing.T) {
	const grant = "/v3/pam/sub-pam/grant"
	forbidden := func(what string) string {
		return `{"message":"Forbidden","payload":{` + what + `},"error":true,"service":"Access Manager","status":403}`
	}
	invalid := func(message, source, detail, location, kind string, status int) string {
		return fmt.Sprintf(`{"error":{"message":%q,"source":%q,"details":[{"message":%q,"location":%q,"locationType":%q}]},"service":"Access Manager","status":%d}`, message, source, detail, location, kind, status)
	}
	vars := sequence(t, []step{
		{name: "unsigned", method: "POST", path: grant, body: `{}`, status: 400, want: invalid("Invalid timestamp", "grant", "Timestamp is not within 60 seconds of the server's time.", "timestamp", "query", 400)},
		{name: "stale", method: "POST", path: grant + "?timestamp=1700000000", sign: "sec-pam", body: `{}`, status: 400, want: invalid("Invalid timestamp", "grant", "Timestamp is not within 60 seconds of the server's time.", "timestamp", "query", 400)},
		{name: "wrong key", method: "POST", path: grant, sign: "guess", body: `{}`, status: 403, want: invalid("Invalid signature", "grant", "Client and server produced different signatures for the same inputs.", "signature", "query", 403)},
		{name: "no access manager", method: "POST", path: "/v3/pam/sub-open/grant", body: `{}`, status: 403, want: invalid("Access Manager not enabled", "grant", "This subscribe key takes no grants.", "subscribe-key", "path", 403)},
		{name: "bad ttl", method: "POST", path: grant, sign: "sec-pam", body: `{"ttl":0,"permissions":{"resources":{"channels":{"c":1}}}}`, status: 400, want: invalid("Invalid ttl", "grant", "Range should be 1 to 43200 minute(s).", "ttl", "body", 400)},
		{name: "empty", method: "POST", path: grant, sign: "sec-pam", body: `{"ttl":1,"permissions":{"resources":{"channels":{}},"patterns":{},"meta":{}}}`, status: 400, want: invalid("This grant contains no permissions", "grant", "What are you granting?", "permissions", "body", 400)},
		{name: "grant", method: "POST", path: grant, sign: "sec-pam", body: `{"ttl":"15","permissions":{"resources":{"channels":{"r":1,"w":2,"d":8},"groups":{"g":1,"m":4}},"patterns":{"channels":{"^p[0-9]$":3}},"meta":{"k":"v"},"uuid":"u1"}}`, status: 200,
			want: `{"data":{"message":"Success","token":"$TOKEN"},"service":"Access Manager","status":200}`, take: map[string]string{"TOKEN": `"token":"([^"]+)"`}},

		{name: "read", method: "GET", path: "/v2/subscribe/sub-pam/r,p1/0?uuid=u1&auth=$TOKEN", status: 200, want: `{"t":{"t":"T","r":1},"m":[]}`},
		{name: "not read", method: "GET", path: "/v2/subscribe/sub-pam/r,w,p10/0?uuid=u1&auth=$TOKEN", status: 403, want: forbidden(`"channels":["w","p10"]`)},
		{name: "not his", method: "GET", path: "/v2/subscribe/sub-pam/r/0?uuid=u2&auth=$TOKEN", status: 403, want: forbidden(`"channels":["r"]`)},
		{name: "group", method: "GET", path: "/v2/subscribe/sub-pam/,/0?uuid=u1&auth=$TOKEN&channel-group=g,g-pnpres", status: 200, want: `{"t":{"t":"T","r":1},"m":[]}`},
		{name: "not the group", method: "GET", path: "/v2/subscribe/sub-pam/,/0?uuid=u1&auth=$TOKEN&channel-group=m", status: 403, want: forbidden(`"channel-groups":[":m"]`)},
		{name: "no leave", method: "GET", path: "/v2/presence/sub-key/sub-pam/channel/w/leave?uuid=u1&auth=$TOKEN", status: 403, want: forbidden(`"channels":["w"]`)},
		{name: "manage", method: "GET", path: "/v1/channel-registration/sub-key/sub-pam/channel-group/m?add=r&uuid=u1&auth=$TOKEN", status: 200, contentType: typeJSON, want: `{"status":200,"message":"OK","service":"channel-registry","error":false}`},
		{name: "not manage", method: "GET", path: "/v1/channel-registration/sub-key/sub-pam/channel-group/g?add=r&uuid=u1&auth=$TOKEN", status: 403, want: forbidden(`"channel-groups":[":g"]`)},
		{name: "write", method: "GET", path: "/publish/pub-pam/sub-pam/0/w/0/1?uuid=u1&auth=$TOKEN", status: 200, want: sent},
		{name: "not write", method: "GET", path: "/signal/pub-pam/sub-pam/0/r/0/1?uuid=u1&auth=$TOKEN", status: 403, want: forbidden(`"channels":["r"]`)},
		{name: "delete", method: "DELETE", path: "/v3/history/sub-key/sub-pam/channel/d?uuid=u1&auth=$TOKEN", status: 200, want: `{"status":200,"error":false,"error_message":""}`},
		{name: "not delete", method: "DELETE", path: "/v3/history/sub-key/sub-pam/channel/r?uuid=u1&auth=$TOKEN", status: 403, want: forbidden(`"channels":["r"]`)},
		{name: "counts need read", method: "GET", path: "/v3/history/sub-key/sub-pam/message-counts/w?timetoken=1&uuid=u1&auth=$TOKEN", status: 403, want: forbidden(`"channels":["w"]`)},
		{name: "actions need read", method: "GET", path: "/v1/message-actions/sub-pam/channel/w?uuid=u1&auth=$TOKEN", status: 403, want: forbidden(`"channels":["w"]`)},
		{name: "files need write", method: "POST", path: "/v1/files/sub-pam/channels/r/generate-upload-url?uuid=u1&auth=$TOKEN", body: `{"name":"f"}`, status: 403, want: forbidden(`"channels":["r"]`)},
		{name: "where am I", method: "GET", path: "/v2/presence/sub-key/sub-pam/uuid/u1?uuid=u1&auth=$TOKEN", status: 200, want: `{"status":200,"message":"OK","payload":{"channels":["p1","r"]},"service":"Presence"}`},
		{name: "where is he", method: "GET", path: "/v2/presence/sub-key/sub-pam/uuid/u2?uuid=u1&auth=$TOKEN", status: 403, want: forbidden(`"channels":[]`)},

		{name: "signed needs no token", method: "GET", path: "/v2/subscribe/sub-pam/any/0?uuid=u3", sign: "sec-pam", status: 200, want: `{"t":{"t":"T","r":1},"m":[]}`},
		{name: "signed badly", method: "GET", path: "/v2/subscribe/sub-pam/any/0?uuid=u3", sign: "guess", status: 403, want: `{"message":"Signature Does Not Match","error":true,"service":"Access Manager","status":403}`},
		{name: "signed late", method: "GET", path: "/v2/subscribe/sub-pam/any/0?uuid=u3&timestamp=1700000000", sign: "sec-pam", status: 400, want: `{"message":"Invalid Timestamp","error":true,"service":"Access Manager","status":400}`},
		{name: "all of the key", method: "GET", path: "/v1/channel-registration/sub-key/sub-pam/channel-group?uuid=u3", sign: "sec-pam", status: 200, contentType: typeJSON, want: `{"status":200,"payload":{"namespace":"","groups":["m"]},"service":"channel-registry","error":false}`},

		{name: "revoke nothing", method: "DELETE", path: grant + "/abc", sign: "sec-pam", status: 400, want: invalid("Invalid token", "revoke", "Token is not valid.", "token", "path", 400)},
		{name: "revoke", method: "DELETE", path: grant + "/$TOKEN", sign: "sec-pam", status: 200, want: `{"data":{"message":"Success"},"service":"Access Manager","status":200}`},
		{name: "revoked", method: "GET", path: "/v2/subscribe/sub-pam/r/0?uuid=u1&auth=$TOKEN", status: 403, want: `{"error":true,"status":403,"service":"Access Manager","message":"Token is revoked"}`},
	})
	if !strings.HasPrefix(vars["TOKEN"], "qEF2AkF0Gm") {
		t.Errorf("token %q starts unlike a real one", vars["TOKEN"])
	}
}

// TestRevocationEndsHeldPolls: the sender of a poll that is being held learns at once that its token is gone; others
// are not disturbed.
func TestRevocationEndsHeldPolls(t *testing.T) {
	server, manager, _ := face(t, 0)
	c := client{t, func(method, path, body string) reply { return fetch(t, server, method, path, body) }}
	var tokens []string
	for range 2 {
		r := c.send(step{method: "POST", path: "/v3/pam/sub-pam/grant", sign: "sec-pam", body: fmt.Sprintf(`{"ttl":%d,"permissions":{"resources":{"channels":{"c":3}}}}`, len(tokens)+1)})
		tokens = append(tokens, regexp.MustCompile(`"token":"([^"]+)"`).FindStringSubmatch(r.body)[1])
	}
	cursor := timetokens.FindString(fetch(t, server, "GET", "/v2/subscribe/sub-pam/c/0?auth="+tokens[0], "").body)
	var got [2]chan reply
	for i, token := range tokens {
		got[i] = make(chan reply, 1)
		go func() {
			got[i] <- fetch(t, server, "GET", fmt.Sprintf("/v2/subscribe/sub-pam/c/0?uuid=u%d&auth=%s&tt=%s", i, token, cursor), "")
		}()
	}
	if err := manager.Revoke(tokens[0]); err != nil {
		t.Fatal(err)
	}
	if r := <-got[0]; r.status != 403 || !strings.Contains(r.body, "Token is revoked") || r.header.Get("X-Pn-Cause") != "4001" {
		t.Errorf("poll with a revoked token got %d %s", r.status, r.body)
	}
	fetch(t, server, "POST", "/publish/pub-pam/sub-pam/0/c/0?auth="+tokens[1], `"on"`)
	if r := <-got[1]; r.status != 200 || !strings.Contains(r.body, `"d":"on"`) {
		t.Errorf("the other poll got %d %s", r.status, r.body)
	}
}

func TestFileSequence(t *testing.T) {
	server, _, _ := face(t, 20*time.Millisecond)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	_ = w.WriteField("tagging", "x")
	part, _ := w.CreateFormFile("file", "f.txt")
	_, _ = part.Write([]byte("content of the file"))
	w.Close()
	created := regexp.MustCompile(`"(created|expiration_date)":"[^"]*"`)
	date := regexp.MustCompile(`"X-Amz-Date","value":"[^"]*"`)
	c := client{t, func(method, path, body string) reply {
		header := []string{}
		if strings.HasPrefix(path, "/_upload/") {
			header = []string{"Content-Type", w.FormDataContentType()}
		}
		r := fetch(t, server, method, strings.TrimPrefix(path, server.URL), body, header...)
		r.body = date.ReplaceAllString(created.ReplaceAllString(r.body, `"$1":"WHEN"`), `"X-Amz-Date","value":"WHEN"`)
		r.body = strings.ReplaceAll(r.body, server.URL, "URL")
		return r
	}}
	announce := func(name, v string) step {
		return step{name: "announce " + name, method: "POST", path: "/v1/files/sub-open/channels/c/generate-upload-url?uuid=u", body: `{"name":"` + name + `"}`, status: 200, contentType: typeJSON,
			want: `{"status":200,"data":{"id":"$ID` + v + `","name":"` + name + `"},"file_upload_request":{"url":"URL/_upload/$BLOB` + v + `","method":"POST","expiration_date":"WHEN","form_fields":[` +
				`{"key":"tagging","value":"<Tagging><TagSet><Tag><Key>ObjectTTLInDays</Key><Value>0</Value></Tag></TagSet></Tagging>"},{"key":"key","value":"sub-open/$BLOB` + v + `/$ID` + v + `/` + name + `"},` +
				`{"key":"Content-Type","value":"text/plain; charset=utf-8"},{"key":"X-Amz-Credential","value":"sandbox"},{"key":"X-Amz-Security-Token","value":""},{"key":"X-Amz-Algorithm","value":"AWS4-HMAC-SHA256"},` +
				`{"key":"X-Amz-Date","value":"WHEN"},{"key":"Policy","value":"e30="},{"key":"X-Amz-Signature","value":"$BLOB` + v + `"}]}}`,
			take: map[string]string{"ID" + v: `"id":"([^"]+)"`, "BLOB" + v: `/_upload/([^"]+)"`}}
	}
	vars := run(t, c, []step{announce("f.txt", "A"), announce("g.txt", "B")})
	for _, v := range []string{"A", "B"} {
		if r := c.send(step{method: "POST", path: "/_upload/" + vars["BLOB"+v], body: form.String()}); r.status != 204 || r.body != "" {
			t.Fatalf("upload: %d %s", r.status, r.body)
		}
	}
	fill := func(s string) string {
		for _, name := range []string{"IDA", "IDB", "BLOBA", "BLOBB"} {
			s = strings.ReplaceAll(s, "$"+name, vars[name])
		}
		return s
	}
	rest := []step{
		{name: "sent twice", method: "POST", path: "/_upload/$BLOBA", body: form.String(), status: 403, contentType: typeXML, want: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Invalid according to Policy: Policy expired.</Message></Error>"},
		{name: "list", method: "GET", path: "/v1/files/sub-open/channels/c/files?limit=1", status: 200, contentType: typeJSON, want: `{"status":200,"data":[{"name":"f.txt","id":"$IDA","size":19,"created":"WHEN"}],"next":"1","count":1}`},
		{name: "list on", method: "GET", path: "/v1/files/sub-open/channels/c/files?limit=1&next=1", status: 200, contentType: typeJSON, want: `{"status":200,"data":[{"name":"g.txt","id":"$IDB","size":19,"created":"WHEN"}],"next":null,"count":1}`},
		{name: "list nothing", method: "GET", path: "/v1/files/sub-open/channels/x/files", status: 200, contentType: typeJSON, want: `{"status":200,"data":[],"next":null,"count":0}`},
		{name: "download", method: "GET", path: "/v1/files/sub-open/channels/c/files/$IDA/f.txt", status: 307, want: ""},
		{name: "bytes", method: "GET", path: "/_files/$BLOBA/f.txt", status: 200, contentType: "application/octet-stream", want: "content of the file"},
		{name: "other channel", method: "GET", path: "/v1/files/sub-open/channels/x/files/$IDA/f.txt", status: 404, want: `{"status":404,"error":true,"message":"Requested URI was not found"}`},
		{name: "publish", method: "GET", path: `/v1/files/publish-file/pub-open/sub-open/0/c/0/%7B%22message%22%3A%7B%22text%22%3A%22note%22%7D%2C%22file%22%3A%7B%22name%22%3A%22f.txt%22%2C%22id%22%3A%22$IDA%22%7D%7D?uuid=u`, status: 200, want: sent},
		{name: "deliver", method: "GET", path: "/v2/subscribe/sub-open/c/0?uuid=w&tt=1", status: 200,
			want: `{"t":{"t":"T","r":1},"m":[{"a":"1","f":0,"i":"u","p":{"t":"T","r":1},"k":"sub-open","c":"c","e":4,"d":{"message":{"text":"note"},"file":{"name":"f.txt","id":"$IDA"}}}]}`},
		{name: "delete", method: "DELETE", path: "/v1/files/sub-open/channels/c/files/$IDA/f.txt", status: 200, contentType: typeJSON, want: `{"status":200}`},
		{name: "delete again", method: "DELETE", path: "/v1/files/sub-open/channels/c/files/$IDA/f.txt", status: 404, want: `{"status":404,"error":true,"message":"Requested URI was not found"}`},
		{name: "bytes went", method: "GET", path: "/_files/$BLOBA/f.txt", status: 403, contentType: typeXML, want: "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"},
		{name: "bad name", method: "POST", path: "/v1/files/sub-open/channels/c/generate-upload-url", body: `{"name":"a/b"}`, status: 400, contentType: typeJSON, want: `{"status":400,"error":{"source":"files","message":"Invalid file name"}}`},
	}
	for i := range rest {
		rest[i].path, rest[i].want = fill(rest[i].path), fill(rest[i].want)
	}
	run(t, c, rest)
	r := c.send(announce("big.txt", "C"))
	address := regexp.MustCompile(`/_upload/([^"]+)"`).FindStringSubmatch(r.body)[1]
	form.Reset()
	big := multipart.NewWriter(&form)
	part, _ = big.CreateFormFile("file", "big.txt")
	_, _ = part.Write(make([]byte, defaultMaxFile+1))
	big.Close()
	got := fetch(t, server, "POST", "/_upload/"+address, form.String(), "Content-Type", big.FormDataContentType())
	if got.status != 400 || !strings.Contains(got.body, "EntityTooLarge") {
		t.Errorf("too large a file: %d %s", got.status, got.body)
	}
}

func TestCallbackAndLimits(t *testing.T) {
	long := strings.Repeat("n", maxID+1)
	sequence(t, []step{
		{name: "publish", method: "GET", path: "/publish/pub-open/sub-open/0/c/cb_1/1?ortt=%7B%22t%22%3A14780000000000000%7D&seqn=7", status: 200, want: `cb_1([1,"Sent","T"])`},
		{name: "subscribe", method: "GET", path: "/v2/subscribe/sub-open/c/my.cb?tt=1", status: 200, want: `my.cb({"t":{"t":"T","r":1},"m":[{"a":"1","f":0,"s":7,"p":{"t":"T","r":1},"o":{"t":"14780000000000000"},"k":"sub-open","c":"c","d":1}]})`},
		{name: "no function", method: "GET", path: "/publish/pub-open/sub-open/0/c/alert(1)/1", status: 200, want: sent},
		{name: "refused", method: "GET", path: "/publish/pub-open/sub-open/0/c/cb/%7B", status: 400, want: `cb([0,"Invalid JSON","T"])`},
		{name: "no channel", method: "GET", path: "/v2/subscribe/sub-open/,/0?tt=0", status: 400, want: `{"message":"Missing channels and channel groups","error":true,"service":"Access Manager","status":400}`},
		{name: "deep wildcard", method: "GET", path: "/v2/subscribe/sub-open/a.b.c.*/0?tt=0", status: 400, want: `{"message":"Wildcard maximum depth exceeded","error":true,"service":"Access Manager","status":400}`},
		{name: "deep wildcard published", method: "GET", path: "/publish/pub-open/sub-open/0/a.b.c.*/0/1", status: 400, want: `[0,"Wildcard maximum depth exceeded","T"]`},
		{name: "long uuid", method: "GET", path: "/v2/subscribe/sub-open/c/0?uuid=" + long, status: 400, want: `{"message":"Invalid UUID","error":true,"service":"Access Manager","status":400}`},
		{name: "long group", method: "GET", path: "/v2/subscribe/sub-open/c/0?channel-group=" + long, status: 400, want: `{"message":"Invalid Channel Group","error":true,"service":"Access Manager","status":400}`},
		{name: "long channel", method: "GET", path: "/publish/pub-open/sub-open/0/" + strings.Repeat("n", maxName+1) + "/0/1", status: 400, want: `[0,"Invalid Channel","T"]`},
		{name: "control character", method: "GET", path: "/v2/subscribe/sub-open/a%0Ab/0", status: 400, want: `{"message":"Invalid Channel","error":true,"service":"Access Manager","status":400}`},
		{name: "old cursor", method: "GET", path: `/v2/subscribe/sub-open/c/0?t=%7B%22r%22%3A12%2C%22t%22%3A%2299999999999999999%22%7D`, status: 200, want: `{"t":{"t":"99999999999999999","r":1},"m":[]}`},
	})
}
