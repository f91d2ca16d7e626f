package pubnub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/pubsub"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// premises are two keysets, one without and one with access manager, in which there is something of each kind that a
// request can change.
type premises struct {
	t       *testing.T
	server  *Server
	spaces  map[string]*pubsub.Space
	manager *access.Manager
	// vars stand in paths for what is there: $M a message, $A an action of "here", $F a file, $B a place for another,
	// all of the open keyset; tokens of the other one: $GOOD for all of it, $NONE for nothing of it, $OLD expired, $HIS
	// for "his".
	vars map[string]string
}

func newPremises(t *testing.T) *premises {
	t.Helper()
	p := &premises{t: t, spaces: map[string]*pubsub.Space{}, vars: map[string]string{}}
	var err error
	if p.manager, err = access.NewManager([]byte("s"), time.Now); err != nil {
		t.Fatal(err)
	}
	var keysets []Keyset
	for _, name := range []string{"open", "pam"} {
		space, err := pubsub.New(pubsub.Config{SubscribeKey: "sub-" + name})
		if err != nil {
			t.Fatal(err)
		}
		p.spaces[name] = space
		keysets = append(keysets, Keyset{PublishKey: "pub-" + name, Space: space})
	}
	keysets[1].Access, keysets[1].SecretKey = p.manager, "sec-pam"
	if p.server, err = New(Config{Keysets: keysets, Blobs: blob.New(t.TempDir()), PubNub: switches.PubNub{HoldPoll: time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	all := map[string]access.Right{"c": access.Read | access.Write | access.Delete | access.Manage}
	for name, g := range map[string]access.Grant{
		"GOOD": {Channels: all, Groups: map[string]access.Right{"g": access.Manage}}, "NONE": {Channels: map[string]access.Right{"other": access.Write}},
		"OLD": {Issued: time.Now().Add(-2 * time.Hour), Channels: all}, "HIS": {Channels: all, UUID: "his"},
	} {
		g.TTL = time.Hour
		if g.Issued.IsZero() {
			g.Issued = time.Now()
		}
		token, err := p.manager.Issue(g)
		if err != nil {
			t.Fatal(err)
		}
		p.vars[name] = url.QueryEscape(token)
	}
	fill := func(keys, auth string) {
		take := func(name, pattern, method, path, body string) {
			t.Helper()
			got := p.send(method, strings.ReplaceAll(path, "$K", keys)+auth, body)
			m := regexp.MustCompile(pattern).FindStringSubmatch(got.body)
			if got.status >= 300 || m == nil {
				t.Fatalf("%s %s: %d %s", method, path, got.status, got.body)
			}
			if name != "" {
				p.vars[name] = m[1]
			}
		}
		take("M", `"([0-9]+)"`, "POST", "/publish/pub-$K/sub-$K/0/c/0?uuid=here", `{"n":1}`)
		take("A", `"actionTimetoken":"([0-9]+)"`, "POST", "/v1/message-actions/sub-$K/channel/c/message/$M?uuid=here", `{"type":"reaction","value":"smile"}`)
		take("", "OK", "GET", "/v1/channel-registration/sub-key/sub-$K/channel-group/g?add=c", "")
		take("", "OK", "GET", "/v2/presence/sub-key/sub-$K/channel/c/heartbeat?heartbeat=300&state=%7B%22c%22%3A%7B%22mood%22%3A1%7D%7D&uuid=here", "")
		take("B", `/_upload/([^"]+)"`, "POST", "/v1/files/sub-$K/channels/c/generate-upload-url?uuid=here", `{"name":"f.txt"}`)
		body, _ := form("first")
		if got := p.send("POST", "/_upload/$B", body); got.status != 204 {
			t.Fatalf("upload: %d %s", got.status, got.body)
		}
		take("F", `"id":"([^"]+)"`, "GET", "/v1/files/sub-$K/channels/c/files?uuid=here", "")
		take("B", `/_upload/([^"]+)"`, "POST", "/v1/files/sub-$K/channels/c/generate-upload-url?uuid=here", `{"name":"g.txt"}`)
	}
	fill("pam", "&auth=$GOOD")
	fill("open", "")
	return p
}

const boundary = "formboundary"

// form is the body of an upload.
func form(content string) (body, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.SetBoundary(boundary)
	part, _ := w.CreateFormFile("file", "f.txt")
	_, _ = part.Write([]byte(content))
	w.Close()
	return b.String(), w.FormDataContentType()
}

func (p *premises) send(method, path, body string) reply {
	p.t.Helper()
	for name, value := range p.vars {
		path = strings.ReplaceAll(path, "$"+name, value)
	}
	req := httptest.NewRequest(method, "http://h"+path, strings.NewReader(body))
	if strings.HasPrefix(path, "/_upload/") {
		req.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	}
	w := httptest.NewRecorder()
	p.server.ServeHTTP(w, req)
	return reply{w.Code, w.Body.String(), w.Header()}
}

// dump is all that a request could have changed.
func (p *premises) dump() string {
	p.t.Helper()
	out := map[string]any{"revoked": p.manager.Revoked(), "files": p.server.Saved()}
	for name, space := range p.spaces {
		snapshot := space.Snapshot(nil)
		snapshot.Last = 0 // a refusal has a timetoken of its own
		groups := map[string][]string{}
		for _, g := range space.Groups() {
			groups[g] = space.Group(g)
		}
		states := map[string]string{}
		for _, uuid := range []string{"here", "u"} {
			states[uuid] = string(space.State("c", uuid))
		}
		out[name] = []any{snapshot, space.Stats(), groups, states, space.HereNow(nil)}
	}
	p.server.uploads.mu.Lock()
	for id, f := range p.server.uploads.announced {
		out["announced "+id] = f.arriving
	}
	p.server.uploads.mu.Unlock()
	raw, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		p.t.Fatal(err)
	}
	return string(raw)
}

// change is a request that changes something, on the keyset $K.
type change struct{ name, method, path, body string }

func changes() []change {
	body, _ := form("second")
	return []change{
		{"publish by GET", "GET", "/publish/pub-$K/sub-$K/0/c/0/1?uuid=u", ""},
		{"publish by POST", "POST", "/publish/pub-$K/sub-$K/0/c/0?uuid=u", `{"a":1}`},
		{"signal", "GET", "/signal/pub-$K/sub-$K/0/c/0/1?uuid=u", ""},
		{"publish a file", "GET", "/v1/files/publish-file/pub-$K/sub-$K/0/c/0/%7B%7D?uuid=u", ""},
		{"subscribe", "GET", "/v2/subscribe/sub-$K/c/0?uuid=u", ""},
		{"subscribe with a cursor", "GET", "/v2/subscribe/sub-$K/c/0?tt=99999999999999999&uuid=u", ""},
		{"subscribe with a state", "GET", "/v2/subscribe/sub-$K/c/0?state=%7B%22c%22%3A%7B%22k%22%3A1%7D%7D&uuid=u", ""},
		{"heartbeat", "GET", "/v2/presence/sub-key/sub-$K/channel/c/heartbeat?uuid=u", ""},
		{"set state", "GET", "/v2/presence/sub-key/sub-$K/channel/c/uuid/u/data?state=%7B%22k%22%3A1%7D&uuid=u", ""},
		{"leave", "GET", "/v2/presence/sub-key/sub-$K/channel/c/leave?uuid=here", ""},
		{"add to a group", "GET", "/v1/channel-registration/sub-key/sub-$K/channel-group/g?add=d&uuid=u", ""},
		{"remove from a group", "GET", "/v1/channel-registration/sub-key/sub-$K/channel-group/g?remove=c&uuid=u", ""},
		{"delete a group", "GET", "/v1/channel-registration/sub-key/sub-$K/channel-group/g/remove?uuid=u", ""},
		{"delete history", "DELETE", "/v3/history/sub-key/sub-$K/channel/c?uuid=u", ""},
		{"add an action", "POST", "/v1/message-actions/sub-$K/channel/c/message/$M?uuid=u", `{"type":"reaction","value":"smile"}`},
		{"remove an action", "DELETE", "/v1/message-actions/sub-$K/channel/c/message/$M/action/$A?uuid=here", ""},
		{"announce a file", "POST", "/v1/files/sub-$K/channels/c/generate-upload-url?uuid=u", `{"name":"f"}`},
		{"delete a file", "DELETE", "/v1/files/sub-$K/channels/c/files/$F/f.txt?uuid=u", ""},
		{"upload", "POST", "/_upload/$B?uuid=u", body},
	}
}

// TestRefusedRequestsChangeNothing: whatever is wrong with a request that would change something, it changes nothing.
// That each of them does change something when nothing is wrong shows that the comparison sees it.
func TestRefusedRequestsChangeNothing(t *testing.T) {
	for _, c := range changes() {
		p := newPremises(t)
		before := p.dump()
		if got := p.send(c.method, strings.ReplaceAll(c.path, "$K", "open"), c.body); got.status >= 300 || p.dump() == before {
			t.Errorf("%s: %d %s, and nothing has changed", c.name, got.status, got.body)
		}
	}
	p := newPremises(t)
	before := p.dump()
	refused := func(name, method, path, body string) {
		t.Helper()
		got := p.send(method, path, body)
		if got.status < 400 || got.status >= 500 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if after := p.dump(); after != before {
			t.Errorf("%s: %d %s has changed something: %s", name, got.status, got.body, cmp.Diff(before, after))
			before = after
		}
	}
	for _, c := range changes() {
		open := strings.ReplaceAll(c.path, "$K", "open")
		upload := strings.HasPrefix(c.path, "/_upload/")
		for what, path := range map[string]string{
			"unknown subscribe key": strings.ReplaceAll(open, "sub-open", "sub-x"), "bad channel": strings.ReplaceAll(open, "/c/", "/a%0Ab/"),
			"long uuid": strings.ReplaceAll(open, "uuid=", "uuid="+strings.Repeat("u", maxID)), "long URI": open + "&pad=" + strings.Repeat("x", maxURI),
			"no token": strings.ReplaceAll(c.path, "$K", "pam"), "forged token": strings.ReplaceAll(c.path, "$K", "pam") + "&auth=abc",
			"expired token": strings.ReplaceAll(c.path, "$K", "pam") + "&auth=$OLD", "token without the right": strings.ReplaceAll(c.path, "$K", "pam") + "&auth=$NONE",
			"another's token": strings.ReplaceAll(c.path, "$K", "pam") + "&auth=$HIS", "wrong signature": strings.ReplaceAll(c.path, "$K", "pam") + fmt.Sprintf("&timestamp=%d&signature=v2.x", time.Now().Unix()),
			"old signature": strings.ReplaceAll(c.path, "$K", "pam") + "&timestamp=1&signature=v2.x",
		} {
			if path == open || upload && strings.Contains(what, "token") || upload && strings.Contains(what, "signature") || what == "bad channel" && !strings.Contains(path, "a%0A") {
				continue // says nothing about this one
			}
			refused(c.name+", "+what, c.method, path, c.body)
		}
		for _, method := range []string{"PUT", "PATCH", "HEAD"} {
			refused(c.name+" by "+method, method, open, c.body)
		}
		if c.body == "" || upload {
			continue
		}
		for what, body := range map[string]string{
			"empty": "", "half": c.body[:len(c.body)-1], "no JSON": "\x00\xff", "too large": `{"name":"` + strings.Repeat("x", 1<<20) + `"}`,
		} {
			refused(c.name+", body "+what, c.method, open, body)
		}
		if c.name != "publish by POST" {
			for _, body := range []string{"null", "1", `"x"`, "[]", "{}", `{"name":1,"type":1,"value":[]}`, `{"name":"","type":"","value":""}`, `{"name":"a/b"}`, `{"type":"x"}`} {
				refused(c.name+" with "+body, c.method, open, body)
			}
		}
	}
	over := func(n int) string { return strings.Repeat("x", n+1) }
	names := func(n int) string { return strings.TrimSuffix(strings.Repeat("n,", n), ",") }
	for _, c := range []change{
		{"unknown publish key", "GET", "/publish/pub-x/sub-open/0/c/0/1", ""},
		{"publish key of another", "GET", "/publish/pub-pam/sub-open/0/c/0/1", ""},
		{"no JSON", "GET", "/publish/pub-open/sub-open/0/c/0/%7B", ""},
		{"meta that is no JSON", "GET", "/publish/pub-open/sub-open/0/c/0/1?meta=%7B", ""},
		{"custom type", "GET", "/publish/pub-open/sub-open/0/c/0/1?custom_message_type=a%20b", ""},
		{"long custom type", "GET", "/publish/pub-open/sub-open/0/c/0/1?custom_message_type=" + over(50), ""},
		{"deep wildcard", "GET", "/publish/pub-open/sub-open/0/a.b.c.*/0/1", ""},
		{"long channel", "GET", "/publish/pub-open/sub-open/0/" + over(maxName) + "/0/1", ""},
		{"large signal", "GET", "/signal/pub-open/sub-open/0/c/0/%22" + over(maxSignal) + "%22", ""},
		{"cursor", "GET", "/v2/subscribe/sub-open/new/0?uuid=u&tt=x", ""},
		{"negative cursor", "GET", "/v2/subscribe/sub-open/new/0?uuid=u&tt=-1", ""},
		{"filter", "GET", "/v2/subscribe/sub-open/new/0?uuid=u&filter-expr=meta.", ""},
		{"wildcard", "GET", "/v2/subscribe/sub-open/new,a.b.c.*/0?uuid=u", ""},
		{"no channels", "GET", "/v2/subscribe/sub-open/,/0?uuid=u", ""},
		{"many groups", "GET", "/v2/subscribe/sub-open/new/0?uuid=u&channel-group=1,2,3,4,5,6,7,8,9,10,11", ""},
		{"bad group", "GET", "/v2/subscribe/sub-open/new/0?uuid=u&channel-group=" + over(maxID), ""},
		{"heartbeat of a bad group", "GET", "/v2/presence/sub-key/sub-open/channel/new/heartbeat?uuid=u&channel-group=a:b", ""},
		{"state that is no object", "GET", "/v2/presence/sub-key/sub-open/channel/c/uuid/u/data?state=1", ""},
		{"state null", "GET", "/v2/presence/sub-key/sub-open/channel/c/uuid/u/data?state=null", ""},
		{"no state", "GET", "/v2/presence/sub-key/sub-open/channel/c/uuid/u/data", ""},
		{"half a state", "GET", "/v2/presence/sub-key/sub-open/channel/c/uuid/u/data?state=%7B", ""},
		{"wildcard in a group", "GET", "/v1/channel-registration/sub-key/sub-open/channel-group/g?add=d,a.*&remove=c", ""},
		{"full group", "GET", "/v1/channel-registration/sub-key/sub-open/channel-group/g?remove=c&add=" + manyNames(pubsub.DefaultGroupSize), ""},
		{"group name", "GET", "/v1/channel-registration/sub-key/sub-open/channel-group/" + over(maxID) + "?add=d", ""},
		{"delete history up to nothing", "DELETE", "/v3/history/sub-key/sub-open/channel/c?end=x", ""},
		{"delete history from before", "DELETE", "/v3/history/sub-key/sub-open/channel/c?start=-1", ""},
		{"action on nothing", "POST", "/v1/message-actions/sub-open/channel/c/message/x?uuid=u", `{"type":"a","value":"b"}`},
		{"action again", "POST", "/v1/message-actions/sub-open/channel/c/message/$M?uuid=here", `{"type":"reaction","value":"smile"}`},
		{"long action", "POST", "/v1/message-actions/sub-open/channel/c/message/$M?uuid=u", `{"type":"a","value":"` + over(maxActionLen) + `"}`},
		{"another's action", "DELETE", "/v1/message-actions/sub-open/channel/c/message/$M/action/$A?uuid=u", ""},
		{"no action", "DELETE", "/v1/message-actions/sub-open/channel/c/message/$M/action/1?uuid=here", ""},
		{"file of another name", "DELETE", "/v1/files/sub-open/channels/c/files/$F/g.txt", ""},
		{"file elsewhere", "DELETE", "/v1/files/sub-open/channels/d/files/$F/f.txt", ""},
		{"upload to nowhere", "POST", "/_upload/x", ""},
		{"upload of nothing", "POST", "/_upload/$B", "--" + boundary + "--\r\n"},
		{"upload cut short", "POST", "/_upload/$B", "--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhalf"},
		{"grant unsigned", "POST", "/v3/pam/sub-pam/grant", `{"ttl":1,"permissions":{"resources":{"channels":{"c":1}}}}`},
		{"grant elsewhere", "POST", "/v3/pam/sub-open/grant", `{"ttl":1,"permissions":{"resources":{"channels":{"c":1}}}}`},
		{"revoke unsigned", "DELETE", "/v3/pam/sub-pam/grant/$GOOD", ""},
		{"revoke unsigned, with the token", "DELETE", "/v3/pam/sub-pam/grant/$GOOD?auth=$GOOD", ""},
		{"many names", "GET", "/v2/subscribe/sub-open/" + names(5) + ",a%0Ab/0?uuid=u", ""},
	} {
		refused(c.name, c.method, c.path, c.body)
	}
	big, _ := form(string(make([]byte, defaultMaxFile+1)))
	refused("large upload", "POST", "/_upload/$B", big)
	for _, path := range []string{"/v3/pam/sub-pam/grant/abc", "/v3/pam/sub-pam/grant/" + p.vars["OLD"]} {
		refused("signed, revoke "+path, "DELETE", signed(step{method: "DELETE", path: path, sign: "sec-pam"}), "")
	}
}

// manyNames are as many different names.
func manyNames(n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint("n", i)
	}
	return strings.Join(out, ",")
}
