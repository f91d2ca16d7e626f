package pubnub

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/blob"
	"github.com/blocksd/blocksd/sandbox/pubsub"
	"github.com/blocksd/blocksd/sandbox/switches"
)

func TestMain(m *testing.M) {
	if os.Getenv(idleVariable) != "" {
		os.Exit(idleServer())
	}
	goleak.VerifyTestMain(m)
}

type files struct{}

func (files) Locate(channel, id, name string) (string, bool) {
	return "/blob/x", channel == "c" && id == "f1" && name == "two ü.bin"
}

// face serves two keysets: open, and pam with an access manager.
func face(t testing.TB, hold time.Duration) (*httptest.Server, *access.Manager, *pubsub.Space) {
	t.Helper()
	return faceAt(t, hold, time.Now)
}

// faceAt is face with its own clock.
func faceAt(t testing.TB, hold time.Duration, now func() time.Time) (*httptest.Server, *access.Manager, *pubsub.Space) {
	t.Helper()
	manager, err := access.NewManager([]byte("s"), now)
	if err != nil {
		t.Fatal(err)
	}
	space := func(key string) *pubsub.Space {
		s, err := pubsub.New(pubsub.Config{SubscribeKey: key, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	open, pam := space("sub-open"), space("sub-pam")
	blobs := blob.New(t.TempDir())
	s, err := New(Config{Keysets: []Keyset{
		{PublishKey: "pub-open", Space: open}, {PublishKey: "pub-pam", Space: pam, Access: manager, SecretKey: "sec-pam"},
	}, Files: files{}, PubNub: switches.PubNub{HoldPoll: hold}, Blobs: blobs})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		open.Close()
		pam.Close()
		server.Client().CloseIdleConnections()
		server.Close()
	})
	return server, manager, open
}

type reply struct {
	status int
	body   string
	header http.Header
}

func fetch(t testing.TB, server *httptest.Server, method, path, body string, header ...string) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := *server.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply{res.StatusCode, string(got), res.Header}
}

var timetokens = regexp.MustCompile(`[0-9]{17}`)

// TestAnswers sends requests in order and compares the answers, in which every timetoken is written T.
func TestAnswers(t *testing.T) {
	server, manager, _ := face(t, 10*time.Millisecond)
	token, err := manager.Issue(access.Grant{Issued: time.Now(), TTL: time.Hour, Channels: map[string]access.Right{"c": access.Read, "w": access.Write}})
	if err != nil {
		t.Fatal(err)
	}
	expired, err := manager.Issue(access.Grant{Issued: time.Now().Add(-2 * time.Hour), TTL: time.Hour, Channels: map[string]access.Right{"c": access.Read}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"time", "GET", "/time/0?uuid=u", "", 200, `[T]`},
		{"publish", "GET", "/publish/pub-open/sub-open/0/ch%201%2F%C3%BC%2Cx/0/%22hello%20%2B%20%2F%22?uuid=u%2F1&meta=%7B%22k%22%3A%22v%20w%22%7D&store=1", "", 200, `[1,"Sent","T"]`},
		{"publish post", "POST", "/publish/pub-open/sub-open/0/c/0?uuid=u&custom_message_type=my-type", `{"n":12345678901234567890,"h":"<&>"}`, 200, `[1,"Sent","T"]`},
		{"not stored", "POST", "/publish/pub-open/sub-open/0/c/0?uuid=u&store=0", `1`, 200, `[1,"Sent","T"]`},
		{"signal", "GET", "/signal/pub-open/sub-open/0/c/0/%22s%22?uuid=u", "", 200, `[1,"Sent","T"]`},
		{"signal too large", "GET", "/signal/pub-open/sub-open/0/c/0/%22" + strings.Repeat("s", 63) + "%22?uuid=u", "", 400, `[0,"Signal size too large","T"]`},
		{"invalid json", "POST", "/publish/pub-open/sub-open/0/c/0", `{"a":`, 400, `[0,"Invalid JSON","T"]`},
		{"empty body", "POST", "/publish/pub-open/sub-open/0/c/0", ``, 400, `[0,"Invalid JSON","T"]`},
		{"invalid meta", "POST", "/publish/pub-open/sub-open/0/c/0?meta=%7B", `1`, 400, `[0,"Invalid JSON","T"]`},
		{"largest message", "POST", "/publish/pub-open/sub-open/0/big/0", `"` + strings.Repeat("x", 32768-5) + `"`, 200, `[1,"Sent","T"]`},
		{"message too large", "POST", "/publish/pub-open/sub-open/0/big/0", `"` + strings.Repeat("x", 32768-4) + `"`, 413, `[0,"Request Entity Too Large"]`},
		{"far too large", "POST", "/publish/pub-open/sub-open/0/big/0", `"` + strings.Repeat("x", 1<<20) + `"`, 413, `[0,"Request Entity Too Large"]`},
		{"uri too long", "GET", "/publish/pub-open/sub-open/0/big/0/%22" + strings.Repeat("x", 33000) + "%22", "", 414, `{"status":414,"service":"Balancer","error":true,"message":"Request URI Too Long"}`},
		{"publish key", "GET", "/publish/pub-x/sub-open/0/c/0/1", "", 400, `[0,"Invalid Key","T"]`},
		{"subscribe key", "GET", "/publish/pub-open/sub-x/0/c/0/1", "", 400, `{"message":"Invalid Subscribe Key","error":true,"service":"Access Manager","status":400}`},
		{"subscribe key of subscribe", "GET", "/v2/subscribe/sub-x/c/0?tt=0", "", 400, `{"message":"Invalid Subscribe Key","error":true,"service":"Access Manager","status":400}`},
		{"unknown path", "GET", "/v9/nothing", "", 404, `{"status":404,"error":true,"message":"Requested URI was not found"}`},

		{"history", "GET", "/v3/history/sub-key/sub-open/channel/c?max=100&include_meta=false&uuid=u", "", 200,
			`{"status":200,"error":false,"error_message":"","channels":{"c":[{"message":{"n":12345678901234567890,"h":"<&>"},"timetoken":"T"}]}}`},
		{"history in full", "GET", "/v3/history/sub-key/sub-open/channel/ch%201%2F%C3%BC%2Cx?max=100&include_meta=true&include_uuid=true&include_message_type=true&include_custom_message_type=true", "", 200,
			`{"status":200,"error":false,"error_message":"","channels":{"ch%201%2F%C3%BC%2Cx":[{"message":"hello + /","timetoken":"T","uuid":"u/1","message_type":null,"meta":{"k":"v w"}}]}}`},
		{"empty history", "GET", "/v3/history/sub-key/sub-open/channel/none", "", 200, `{"status":200,"error":false,"error_message":"","channels":{}}`},
		{"bad history", "GET", "/v3/history/sub-key/sub-open/channel/c?start=x", "", 400, `{"status":400,"error":true,"error_message":"Invalid Arguments: start","channels":{}}`},

		{"handshake", "GET", "/v2/subscribe/sub-open/c,c-pnpres/0?uuid=u&heartbeat=20", "", 200, `{"t":{"t":"T","r":1},"m":[]}`},
		{"handshake of groups only", "GET", "/v2/subscribe/sub-open/,/0?uuid=g&channel-group=g1%2Cg2&ee=", "", 200, `{"t":{"t":"T","r":1},"m":[]}`},
		{"handshake with an object", "GET", `/v2/subscribe/sub-open/c/0?uuid=u&t=%7B%22r%22%3A0%2C%22t%22%3A0%7D`, "", 200, `{"t":{"t":"T","r":1},"m":[]}`},
		{"replay", "GET", "/v2/subscribe/sub-open/c/0?tt=1000&tr=1&uuid=u", "", 200,
			`{"t":{"t":"T","r":1},"m":[{"a":"1","f":0,"i":"u","p":{"t":"T","r":1},"k":"sub-open","c":"c","cmt":"my-type","d":{"n":12345678901234567890,"h":"<&>"}},` +
				`{"a":"1","f":0,"i":"u","p":{"t":"T","r":1},"k":"sub-open","c":"c","d":1},{"a":"1","f":0,"i":"u","p":{"t":"T","r":1},"k":"sub-open","c":"c","e":1,"d":"s"}]}`},
		{"filtered", "GET", "/v2/subscribe/sub-open/ch%201%2F%C3%BC%2Cx,c/0?tt=1000&uuid=u&filter-expr=meta.k%20%3D%3D%20'v%20w'", "", 200,
			`{"t":{"t":"T","r":1},"m":[{"a":"1","f":0,"i":"u/1","p":{"t":"T","r":1},"k":"sub-open","c":"ch 1/ü,x","u":{"k":"v w"},"d":"hello + /","b":"ch 1/ü,x"}]}`},
		{"nothing comes", "GET", "/v2/subscribe/sub-open/quiet/0?tt=17000000000000000&uuid=u", "", 200, `{"t":{"t":"17000000000000000","r":1},"m":[]}`},
		{"bad filter", "GET", "/v2/subscribe/sub-open/c/0?tt=0&filter-expr=meta.", "", 400, `{"message":"Invalid filter expression: unexpected end","error":true,"service":"Access Manager","status":400}`},
		{"bad cursor", "GET", "/v2/subscribe/sub-open/c/0?tt=x", "", 400, `{"message":"Invalid timetoken","error":true,"service":"Access Manager","status":400}`},

		{"heartbeat", "GET", `/v2/presence/sub-key/sub-open/channel/p/heartbeat?heartbeat=300&uuid=a&state={"p":{"mood":"ok"}}`, "", 200, `{"status":200,"message":"OK","service":"Presence"}`},
		{"set state", "GET", "/v2/presence/sub-key/sub-open/channel/p/uuid/b/data?state=%7B%22n%22%3A1%7D&uuid=b", "", 200, `{"status":200,"message":"OK","payload":{"n":1},"service":"Presence"}`},
		{"get state", "GET", "/v2/presence/sub-key/sub-open/channel/p/uuid/a?channel-group=&uuid=x", "", 200, `{"status":200,"message":"OK","payload":{"mood":"ok"},"uuid":"a","channel":"p","service":"Presence"}`},
		{"get states", "GET", "/v2/presence/sub-key/sub-open/channel/p,q/uuid/a", "", 200, `{"status":200,"message":"OK","payload":{"channels":{"p":{"mood":"ok"},"q":{}}},"uuid":"a","service":"Presence"}`},
		{"bad state", "GET", "/v2/presence/sub-key/sub-open/channel/p/uuid/b/data?state=1", "", 400, `{"message":"Invalid JSON specified.","error":true,"service":"Access Manager","status":400}`},
		{"here now", "GET", "/v2/presence/sub_key/sub-open/channel/p?state=1", "", 200, `{"status":200,"message":"OK","service":"Presence","uuids":[{"uuid":"a","state":{"mood":"ok"}}],"occupancy":1}`},
		{"here now of several", "GET", "/v2/presence/sub-key/sub-open/channel/p,c", "", 200,
			`{"status":200,"message":"OK","payload":{"channels":{"c":{"uuids":["u"],"occupancy":1},"p":{"uuids":["a"],"occupancy":1}},"total_channels":2,"total_occupancy":2},"service":"Presence"}`},
		{"here now of groups", "GET", "/v2/presence/sub-key/sub-open/channel/,?channel-group=g", "", 200,
			`{"status":200,"message":"OK","payload":{"channels":{},"total_channels":0,"total_occupancy":0},"service":"Presence"}`},
		{"here now without uuids", "GET", "/v2/presence/sub-key/sub-open/channel/p?disable_uuids=1", "", 200, `{"status":200,"message":"OK","service":"Presence","occupancy":1}`},
		{"where now", "GET", "/v2/presence/sub-key/sub-open/uuid/a", "", 200, `{"status":200,"message":"OK","payload":{"channels":["p"]},"service":"Presence"}`},
		{"leave", "GET", "/v2/presence/sub_key/sub-open/channel/p/leave?uuid=a", "", 200, `{"status":200,"message":"OK","action":"leave","service":"Presence"}`},
		{"nobody left", "GET", "/v2/presence/sub-key/sub-open/channel/p", "", 200, `{"status":200,"message":"OK","service":"Presence","uuids":[],"occupancy":0}`},

		{"no token", "POST", "/publish/pub-pam/sub-pam/0/w/0", `1`, 403, `{"message":"Forbidden","payload":{"channels":["w"]},"error":true,"service":"Access Manager","status":403}`},
		{"wrong token", "POST", "/publish/pub-pam/sub-pam/0/w/0?auth=abc", `1`, 403, `{"message":"Forbidden","payload":{"channels":["w"]},"error":true,"service":"Access Manager","status":403}`},
		{"write", "POST", "/publish/pub-pam/sub-pam/0/w/0?auth=" + token, `1`, 200, `[1,"Sent","T"]`},
		{"no write", "POST", "/publish/pub-pam/sub-pam/0/c/0?auth=" + token, `1`, 403, `{"message":"Forbidden","payload":{"channels":["c"]},"error":true,"service":"Access Manager","status":403}`},
		{"read", "GET", "/v2/subscribe/sub-pam/c,c-pnpres/0?auth=" + token, ``, 200, `{"t":{"t":"T","r":1},"m":[]}`},
		{"no read", "GET", "/v2/subscribe/sub-pam/c,w,x/0?auth=" + token, ``, 403, `{"message":"Forbidden","payload":{"channels":["w","x"]},"error":true,"service":"Access Manager","status":403}`},
		{"no read of history", "GET", "/v3/history/sub-key/sub-pam/channel/w?auth=" + token, ``, 403, `{"message":"Forbidden","payload":{"channels":["w"]},"error":true,"service":"Access Manager","status":403}`},
		{"no presence", "GET", "/v2/presence/sub-key/sub-pam/channel/w/heartbeat?auth=" + token, ``, 403, `{"message":"Forbidden","payload":{"channels":["w"]},"error":true,"service":"Access Manager","status":403}`},
		{"no files", "GET", "/v1/files/sub-pam/channels/w/files/f1/x?auth=" + token, ``, 403, `{"message":"Forbidden","payload":{"channels":["w"]},"error":true,"service":"Access Manager","status":403}`},
		{"expired", "GET", "/v2/subscribe/sub-pam/c/0?auth=" + expired, ``, 403, `{"error":true,"status":403,"service":"Access Manager","message":"Token is expired"}`},
		{"all of a key", "GET", "/v2/presence/sub-key/sub-pam?auth=" + token, ``, 403, `{"message":"Forbidden","payload":{"channels":[]},"error":true,"service":"Access Manager","status":403}`},
		{"no file", "GET", "/v1/files/sub-open/channels/c/files/f2/x", ``, 404, `{"status":404,"error":true,"message":"Requested URI was not found"}`},
		{"options", "OPTIONS", "/v2/subscribe/sub-open/c/0", ``, 200, ``},
	}
	for _, tt := range tests {
		got := fetch(t, server, tt.method, tt.path, tt.body)
		body := got.body
		if !strings.Contains(tt.want, "17000000000000000") {
			body = timetokens.ReplaceAllStringFunc(body, func(s string) string {
				if strings.HasPrefix(s, "12345678901234567") {
					return s
				}
				return "T"
			})
		}
		if got.status != tt.status || body != tt.want {
			t.Errorf("%s: %d %s\nwant %d %s", tt.name, got.status, body, tt.status, tt.want)
		}
		if ct := got.header.Get("Content-Type"); ct != `text/javascript; charset="UTF-8"` {
			t.Errorf("%s: content type %q", tt.name, ct)
		}
		if got.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: browsers may not read it", tt.name)
		}
	}
}

func TestCompressedBodies(t *testing.T) {
	server, _, _ := face(t, 0)
	compress := func(w io.WriteCloser, buf *bytes.Buffer, text string) string {
		_, _ = io.WriteString(w, text)
		w.Close()
		return buf.String()
	}
	var z, g, bomb bytes.Buffer
	tests := []struct {
		encoding, body, want string
		status               int
	}{
		{"deflate", compress(zlib.NewWriter(&z), &z, `{"z":1}`), `[1,"Sent","T"]`, 200},
		{"gzip", compress(gzip.NewWriter(&g), &g, `{"g":1}`), `[1,"Sent","T"]`, 200},
		{"gzip", compress(gzip.NewWriter(&bomb), &bomb, `"`+strings.Repeat("x", 8<<20)+`"`), `[0,"Request Entity Too Large"]`, 413},
		{"deflate", `{"z":1}`, `[0,"Invalid JSON","T"]`, 400},
		{"br", `{"z":1}`, `[0,"Invalid JSON","T"]`, 400},
	}
	for _, tt := range tests {
		got := fetch(t, server, "POST", "/publish/pub-open/sub-open/0/c/0?uuid=u", tt.body, "Content-Encoding", tt.encoding)
		if body := timetokens.ReplaceAllString(got.body, "T"); got.status != tt.status || body != tt.want {
			t.Errorf("%s: %d %s", tt.encoding, got.status, body)
		}
	}
	got := fetch(t, server, "GET", "/v3/history/sub-key/sub-open/channel/c", "")
	if want := `[{"message":{"z":1},"timetoken":"T"},{"message":{"g":1},"timetoken":"T"}]`; !strings.Contains(timetokens.ReplaceAllString(got.body, "T"), want) {
		t.Errorf("stored %s", got.body)
	}
}

func TestFileIsARedirect(t *testing.T) {
	server, _, _ := face(t, 0)
	got := fetch(t, server, "GET", "/v1/files/sub-open/channels/c/files/f1/two%20%C3%BC.bin", "")
	if got.status != 307 || got.header.Get("Location") != server.URL+"/blob/x" || got.body != "" {
		t.Errorf("%d to %q with %q", got.status, got.header.Get("Location"), got.body)
	}
}

func TestHeldPollGetsTheNextMessage(t *testing.T) {
	server, _, space := face(t, 0)
	cursor := timetokens.FindString(fetch(t, server, "GET", "/v2/subscribe/sub-open/c/0?uuid=u", "").body)
	got := make(chan string, 2)
	for range 2 {
		go func() {
			got <- fetch(t, server, "GET", "/v2/subscribe/sub-open/c/0?uuid=u&tt="+cursor, "").body
		}()
	}
	// One of the two is superseded and answered empty, with the same cursor; the other is held.
	if body := <-got; body != `{"t":{"t":"`+cursor+`","r":1},"m":[]}` {
		t.Errorf("superseded poll got %s", body)
	}
	space.Publish(pubsub.Publication{Channel: "c", Body: []byte(`"now"`)})
	if body := <-got; !strings.Contains(body, `"d":"now"`) {
		t.Errorf("held poll got %s", body)
	}
}

// fuzzed is a server for fuzzing: it holds nothing, and both kinds of keysets have everything.
func fuzzed(f *testing.F) *Server {
	f.Helper()
	manager, err := access.NewManager([]byte("s"), time.Now)
	if err != nil {
		f.Fatal(err)
	}
	var keysets []Keyset
	for _, name := range []string{"open", "pam"} {
		space, err := pubsub.New(pubsub.Config{SubscribeKey: "sub-" + name, History: switches.History{HistoryBytes: 1 << 20}})
		if err != nil {
			f.Fatal(err)
		}
		keysets = append(keysets, Keyset{PublishKey: "pub-" + name, Space: space})
	}
	keysets[1].Access, keysets[1].SecretKey, keysets[1].AnySignature = manager, "sec", true
	s, err := New(Config{Keysets: keysets, Blobs: blob.New(f.TempDir()), PubNub: switches.PubNub{HoldPoll: time.Nanosecond}})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// FuzzRequest: any request gets an answer with a content type.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/v2/subscribe/sub-open/a,b%2C,,c-pnpres/0?tt=1&filter-expr=%22", "")
	f.Add("POST", "/publish/pub-open/sub-open/0/c/0?meta=%7B%7D", "{}")
	f.Add("GET", "/v2/presence/sub_key/sub-open/channel/%2C/uuid/%/data?state={}&state;=%zz", "")
	f.Add("GET", "/v3/history/sub-key/sub-open/channel/c?start=-1&max=99999999999999999999", "")
	f.Add("GET", "/v3/history-with-actions/sub-key/sub-open/channel/c?max=1", "")
	f.Add("GET", "/v3/history/sub-key/sub-open/message-counts/c,d?channelsTimetoken=1,", "")
	f.Add("DELETE", "/v3/history/sub-key/sub-open/channel/c?start=9223372036854775807&end=9223372036854775807", "")
	f.Add("GET", "/v2/history/sub-key/sub-open/channel/c?reverse=true&start=1&end=9223372036854775807&callback=x", "")
	f.Add("GET", "/v1/channel-registration/sub-key/sub-open/channel-group/g?add=a,b,-pnpres&remove=a", "")
	f.Add("POST", "/v1/message-actions/sub-open/channel/c/message/1", `{"type":"a","value":"b"}`)
	f.Add("DELETE", "/v1/message-actions/sub-open/channel/c/message/1/action/2", "")
	f.Add("POST", "/v1/files/sub-open/channels/c/generate-upload-url", `{"name":"x"}`)
	f.Add("GET", "/v1/files/sub-open/channels/c/files?limit=0&next=1", "")
	f.Add("POST", "/_upload/x", "--\r\n")
	f.Add("POST", "/v3/pam/sub-pam/grant?signature=v2.x", `{"ttl":1,"permissions":{"patterns":{"channels":{"(":1}}}}`)
	f.Add("DELETE", "/v3/pam/sub-pam/grant/p0F2AkF0Gm?signature=v2.x", "")
	s := fuzzed(f)
	f.Fuzz(func(t *testing.T, method, target, body string) {
		req, err := http.NewRequest(method, "http://h"+target, strings.NewReader(body))
		if err != nil {
			return
		}
		serve(t, s, req)
	})
}

// FuzzBytes: whatever a client sends, if it is a request at all it gets an answer.
func FuzzBytes(f *testing.F) {
	f.Add([]byte("GET http://h/time/0 HTTP/1.1\r\nHost: h\r\n\r\n"))
	f.Add([]byte("POST /publish/pub-open/sub-open/0/c/0 HTTP/1.1\r\nHost: h\r\nContent-Encoding: deflate\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nx\x9cK\r\n0\r\n\r\n"))
	f.Add([]byte("POST /_upload/x HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 5\r\n\r\n--b--"))
	s := fuzzed(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		serve(t, s, req)
	})
}

func serve(t *testing.T, s *Server, req *http.Request) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, req)
	if w.Code != http.StatusNoContent && w.Header().Get("Content-Type") == "" || w.Code == 0 {
		t.Errorf("%s %s: %d without a content type", req.Method, req.URL, w.Code)
	}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/javascript") && w.Body.Len() > 0 && w.Body.Bytes()[w.Body.Len()-1] != ')' && !json.Valid(w.Body.Bytes()) {
		t.Errorf("%s %s: answer is not JSON: %s", req.Method, req.URL, w.Body)
	}
}

// FuzzEnvelope: whatever is taken by publish comes out of subscribe and history as the SDKs' models want it: strict
// types, no missing members. A broken answer would stop every subscriber of the channel.
func FuzzEnvelope(f *testing.F) {
	f.Add("c", "u", `{"a":1}`, `{"k":"v"}`, "chat", "7", `{"t":1}`, uint8(0))
	f.Add("a.b-pnpres", "", `"x"`, "", "", "-1", "", uint8(1))
	f.Add("\xff\u2028", "\"", `"\ud800"`, "[]", "a_-", "", `{"t":"2"}`, uint8(2))
	s := fuzzed(f)
	f.Fuzz(func(t *testing.T, channel, uuid, body, meta, custom, seqn, ortt string, kind uint8) {
		path := [...]string{"/publish/pub-open/sub-open/0/", "/signal/pub-open/sub-open/0/", "/v1/files/publish-file/pub-open/sub-open/0/"}[kind%3]
		esc := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
		get := func(target string) *httptest.ResponseRecorder {
			req, err := http.NewRequest("GET", "http://h"+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			return w
		}
		w := get(path + esc(channel) + "/0/" + esc(body) + "?uuid=" + esc(uuid) + "&meta=" + esc(meta) + "&custom_message_type=" + esc(custom) + "&seqn=" + esc(seqn) + "&ortt=" + esc(ortt))
		var sent []any
		if err := json.Unmarshal(w.Body.Bytes(), &sent); w.Code == 200 && (err != nil || len(sent) != 3) {
			t.Fatalf("publish answered %s", w.Body)
		}
		if w.Code != 200 {
			return
		}
		since, _ := strconv.ParseInt(sent[2].(string), 10, 64)
		w = get("/v2/subscribe/sub-open/" + esc(channel) + "/0?tt=" + strconv.FormatInt(since-1, 10))
		if w.Code != 200 {
			t.Fatalf("subscribe answered %d %s", w.Code, w.Body)
		}
		var a struct {
			T struct {
				T string
				R int8
			}
			M []struct {
				A, I, K, C, B, CMT string
				F, S, E            *int
				P, O               *struct {
					T string
					R int8
				}
				D json.RawMessage
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
			t.Fatalf("subscribe answered %s: %v", w.Body, err)
		}
		if len(a.M) != 1 {
			t.Fatalf("%d messages in %s", len(a.M), w.Body)
		}
		m := a.M[0]
		if a.T.T != sent[2] || m.P == nil || m.P.T != sent[2] || m.F == nil || m.K != "sub-open" || m.D == nil || utf8.ValidString(channel) && m.C != channel || m.O != nil && m.O.T == "" {
			t.Errorf("answer %s", w.Body)
		}
		w = get("/v3/history/sub-key/sub-open/channel/" + esc(channel) + "?max=1&include_uuid=true&include_meta=true&include_message_type=true&include_custom_message_type=true")
		var h struct {
			Channels map[string][]struct {
				Message             json.RawMessage
				Timetoken, UUID     *string
				Message_type        *int
				Custom_message_type string
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &h); err != nil {
			t.Fatalf("history answered %s: %v", w.Body, err)
		}
		for _, list := range h.Channels {
			for _, m := range list {
				if m.Timetoken == nil || m.UUID == nil || m.Message == nil {
					t.Errorf("history %s", w.Body)
				}
			}
		}
	})
}
