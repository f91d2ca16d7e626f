package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/sandbox/api"
	"github.com/blocksd/blocksd/sandbox/pubnub"
	"github.com/blocksd/blocksd/sandbox/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// routes are those of the real faces.
var routes = route.Join(api.Routes, pubnub.Routes, api.Serves)

// patience bounds what a test waits for.
const patience = 3 * time.Minute

// stand is a server behind an injector that answers with what it was asked, and holds polls.
type stand struct {
	*Injector
	t       *testing.T
	url     string
	client  *http.Client
	handled atomic.Int64
	holding chan struct{} // a poll is being held
	release chan string   // what it answers
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{Injector: New(routes), t: t, holding: make(chan struct{}, 16), release: make(chan string)}
	srv := httptest.NewServer(s.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v2/subscribe/") {
			s.holding <- struct{}{}
			select {
			case body := <-s.release:
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				w.WriteHeader(http.StatusOK)
				_, _ = io.WriteString(w, body)
			case <-r.Context().Done():
			}
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.handled.Add(1)
		_, _ = fmt.Fprintf(w, "%s %s %s", r.Method, r.URL.Path, body)
	})))
	transport := &http.Transport{DisableKeepAlives: true} // or a dropped GET is sent again
	s.url, s.client = srv.URL, &http.Client{Transport: transport, Timeout: patience}
	t.Cleanup(func() {
		s.Injector.Close()
		srv.CloseClientConnections()
		srv.Close()
		transport.CloseIdleConnections()
	})
	return s
}

func (s *stand) do(method, path, body string) (int, string, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer bk_1")
	res, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return res.StatusCode, string(got), err
}

func (s *stand) add(r Rule) string {
	s.t.Helper()
	id, err := s.Add(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// hits says whether a request is hit by the rule.
func (s *stand) hit(method, path, body string) bool {
	s.t.Helper()
	status, got, err := s.do(method, path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return status == 418 && got == "tea"
}

func TestMatching(t *testing.T) {
	const (
		publish   = "/publish/pub/sub/0/u.o.t/0?uuid=me&auth=tok"
		subscribe = "/v2/presence/sub-key/sub/channel/a,b/heartbeat?uuid=me"
	)
	tests := []struct {
		name         string
		rule         Rule
		method, path string
		body         string
		want         bool
	}{
		{"all", Rule{}, "GET", "/time/0", "", true},
		{"endpoint", Rule{Endpoint: "time"}, "GET", "/time/0", "", true},
		{"other endpoint", Rule{Endpoint: "publish"}, "GET", "/time/0", "", false},
		{"side", Rule{Endpoint: SidePubNub}, "GET", "/time/0", "", true},
		{"other side", Rule{Endpoint: SideBlocks}, "GET", "/time/0", "", false},
		{"blocks side", Rule{Endpoint: SideBlocks}, "GET", "/api/v1/orgs", "", true},
		{"method", Rule{Method: "post"}, "POST", publish, "{}", true},
		{"other method", Rule{Method: "GET"}, "POST", publish, "{}", false},
		{"path", Rule{Path: "/api/v1/agents/"}, "GET", "/api/v1/agents/echo/grants", "", true},
		{"channel", Rule{Channel: "u.o.t"}, "POST", publish, "{}", true},
		{"channels", Rule{Channel: "u.*", Endpoint: "publish"}, "POST", publish, "{}", true},
		{"one of many", Rule{Channel: "b"}, "GET", subscribe, "", true},
		{"heartbeat", Rule{Endpoint: "heartbeat"}, "GET", subscribe, "", true},
		{"other channel", Rule{Channel: "u.o"}, "POST", publish, "{}", false},
		{"publish key", Rule{Key: "pub"}, "POST", publish, "{}", true},
		{"subscribe key", Rule{Key: "sub"}, "GET", subscribe, "", true},
		{"token", Rule{Key: "tok"}, "POST", publish, "{}", true},
		{"API key", Rule{Key: "bk_1"}, "GET", "/api/v1/orgs", "", true},
		{"other key", Rule{Key: "bk_2"}, "GET", "/api/v1/orgs", "", false},
		{"uuid", Rule{UUID: "me"}, "GET", subscribe, "", true},
		{"call", Rule{RPC: "GetTask"}, "POST", "/api/v1/rpc", `{"method": "GetTask"}`, true},
		{"other call", Rule{RPC: "GetTask"}, "POST", "/api/v1/rpc", `{"method": "CancelTask"}`, false},
		{"text", Rule{Contains: `"terminal"`}, "POST", publish, `{"type":"terminal"}`, true},
		{"text in the path", Rule{Contains: `"terminal"`}, "GET", "/publish/pub/sub/0/c/0/%22terminal%22", "", true},
		{"no text", Rule{Contains: `"terminal"`}, "POST", publish, `{}`, false},
		{"history", Rule{Endpoint: "history", Channel: "c"}, "GET", "/v3/history/sub-key/sub/channel/c", "", true},
		{"old history", Rule{Endpoint: "history", Channel: "c"}, "GET", "/v2/history/sub-key/sub/channel/c", "", true},
		{"file", Rule{Endpoint: "files", Channel: "c"}, "GET", "/v1/files/sub/channels/c/files/i/n", "", true},
		{"state", Rule{Endpoint: "state", Channel: "c"}, "GET", "/v2/presence/sub-key/sub/channel/c/uuid/me/data", "", true},
		{"here now", Rule{Endpoint: "here-now", Channel: "c"}, "GET", "/v2/presence/sub-key/sub/channel/c", "", true},
		{"where now", Rule{Endpoint: "where-now"}, "GET", "/v2/presence/sub-key/sub/uuid/me", "", true},
		{"grant", Rule{Endpoint: "grant", Key: "sub"}, "POST", "/v3/pam/sub/grant", "", true},
		{"blob", Rule{Endpoint: "blob"}, "GET", "/blob/x", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStand(t)
			tt.rule.Status, tt.rule.Body = 418, "tea"
			s.add(tt.rule)
			if got := s.hit(tt.method, tt.path, tt.body); got != tt.want {
				t.Errorf("hit %v, want %v", got, tt.want)
			}
			// Looking at a body leaves it for the handler.
			s.Clear()
			if _, got, err := s.do(tt.method, tt.path, tt.body); err != nil || !strings.HasSuffix(got, " "+tt.body) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestSkipAndTimes(t *testing.T) {
	s := newStand(t)
	s.add(Rule{Endpoint: "time", Status: 418, Body: "tea", Skip: 1, Times: 2})
	var got []bool
	for range 5 {
		got = append(got, s.hit("GET", "/time/0", ""))
	}
	if want := []bool{false, true, true, false, false}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if rules := s.Rules(); rules[0].Hits != 2 {
		t.Errorf("%+v", rules)
	}
}

// TestEvery: a part of all is hit, the same ones each time.
func TestEvery(t *testing.T) {
	s := newStand(t)
	s.add(Rule{Endpoint: "time", Status: 418, Body: "tea", Skip: 1, Every: 3, Times: 2})
	var got []int
	for i := range 12 {
		if s.hit("GET", "/time/0", "") {
			got = append(got, i)
		}
	}
	if want := []int{3, 6}; !slices.Equal(got, want) {
		t.Errorf("hit %v, want %v", got, want)
	}
}

func TestRefusedRules(t *testing.T) {
	for _, r := range []Rule{
		{}, {Action: "explode"}, {Action: Drop, Endpoint: "nowhere"}, {Status: 99}, {Action: Drop, Skip: -1}, {Action: Drop, Every: -1}, {Delay: Duration(time.Hour)},
		{Action: Reorder, Endpoint: "publish"}, {Action: Gap, Endpoint: "rpc"},
	} {
		if id, err := New(routes).Add(r); err == nil {
			t.Errorf("%+v was taken as %s", r, id)
		}
	}
}

func TestLostAnswers(t *testing.T) {
	for _, tt := range []struct {
		action  Action
		handled int64
	}{{Drop, 0}, {Lose, 1}, {Cut, 1}} {
		t.Run(string(tt.action), func(t *testing.T) {
			s := newStand(t)
			s.add(Rule{Action: tt.action, CutAfter: 3})
			status, body, err := s.do("GET", "/time/0", "")
			if err == nil {
				t.Errorf("answered %d %q", status, body)
			}
			if tt.action == Cut && (body != "GET" || !errors.Is(err, io.ErrUnexpectedEOF)) {
				t.Errorf("body %q, %v", body, err)
			}
			if n := s.handled.Load(); n != tt.handled {
				t.Errorf("handled %d times, want %d", n, tt.handled)
			}
		})
	}
}

func TestHangEndsWithTheRule(t *testing.T) {
	s := newStand(t)
	id := s.add(Rule{Endpoint: "time", Action: Hang})
	done := make(chan error, 1)
	go func() {
		_, _, err := s.do("GET", "/time/0", "")
		done <- err
	}()
	testutil.Eventually(t, patience, "the request comes", func() bool { return s.Rules()[0].Hits > 0 })
	select {
	case err := <-done:
		t.Fatalf("answered: %v", err)
	default:
	}
	if !s.Remove(id) || s.Remove(id) {
		t.Error("remove")
	}
	if err := <-done; err == nil {
		t.Error("the hanging request was answered")
	}
}

func TestDelays(t *testing.T) {
	s := newStand(t)
	s.add(Rule{Endpoint: "time", Delay: Duration(30 * time.Millisecond), DelayAnswer: Duration(30 * time.Millisecond)})
	begin := time.Now()
	if _, body, err := s.do("GET", "/time/0", ""); err != nil || body != "GET /time/0 " {
		t.Errorf("%q, %v", body, err)
	}
	if took := time.Since(begin); took < 60*time.Millisecond {
		t.Errorf("took %s", took)
	}
}

func TestPublishGapAndDuplicate(t *testing.T) {
	s := newStand(t)
	s.add(Rule{Endpoint: "publish", Action: Gap, Times: 1})
	s.add(Rule{Endpoint: "publish", Action: Duplicate, Times: 1})
	status, body, err := s.do("POST", "/publish/p/s/0/c/0", "1")
	if err != nil || status != 200 || !strings.HasPrefix(body, `[1,"Sent","`) || s.handled.Load() != 0 {
		t.Errorf("%d %s, %v, handled %d times", status, body, err, s.handled.Load())
	}
	_, body, err = s.do("POST", "/publish/p/s/0/c/0", "2")
	if err != nil || body != "POST /publish/p/s/0/c/0 2" || s.handled.Load() != 2 {
		t.Errorf("%s, %v, handled %d times", body, err, s.handled.Load())
	}
}

// poll starts a poll and waits until it is held.
func (s *stand) poll() <-chan string {
	s.t.Helper()
	out := make(chan string, 1)
	go func() {
		_, body, err := s.do("GET", "/v2/subscribe/sub/c/0?tt=1&uuid=me", "")
		if err != nil {
			body = "error"
		}
		out <- body
	}()
	select {
	case <-s.holding:
	case <-time.After(patience):
		s.t.Fatal("no poll")
	}
	return out
}

func answerOf(texts ...string) string {
	var ms []string
	for _, x := range texts {
		ms = append(ms, `{"c":"c","d":"`+x+`"}`)
	}
	return `{"t":{"t":"2","r":1},"m":[` + strings.Join(ms, ",") + `]}`
}

func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		rule Rule
		in   [][]string
		want [][]string
	}{
		{"gap", Rule{Action: Gap, Times: 1}, [][]string{{"1"}, {"2", "3"}}, [][]string{{}, {"2", "3"}}},
		{"gap by text", Rule{Action: Gap, Contains: `"2"`}, [][]string{{"1", "2", "3"}}, [][]string{{"1", "3"}}},
		{"duplicate", Rule{Action: Duplicate, Skip: 1, Times: 1}, [][]string{{"1", "2", "3"}}, [][]string{{"1", "2", "2", "3"}}},
		{"reorder", Rule{Action: Reorder, Times: 1}, [][]string{{"1"}, {"2"}, {"3"}}, [][]string{{}, {"2", "1"}, {"3"}}},
		{"reorder in one answer", Rule{Action: Reorder, Times: 1}, [][]string{{"1", "2", "3"}}, [][]string{{"2", "1", "3"}}},
		{"other channel", Rule{Action: Gap, Channel: "d"}, [][]string{{"1"}}, [][]string{{"1"}}},
		{"other subscriber", Rule{Action: Gap, UUID: "you"}, [][]string{{"1"}}, [][]string{{"1"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStand(t)
			for i, in := range tt.in {
				out := s.poll()
				if i == 0 {
					s.add(tt.rule) // the poll has been held since before
				}
				s.release <- answerOf(in...)
				if got, want := <-out, answerOf(tt.want[i]...); got != want {
					t.Errorf("answer %s, want %s", got, want)
				}
			}
		})
	}
}

func TestOutageCutsHeldPolls(t *testing.T) {
	s := newStand(t)
	out := s.poll()
	id, err := s.Outage(SidePubNub)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-out; got != "error" {
		t.Errorf("a held poll was answered: %s", got)
	}
	if _, _, err := s.do("GET", "/time/0", ""); err == nil {
		t.Error("the side is up")
	}
	if _, _, err := s.do("GET", "/api/v1/orgs", ""); err != nil {
		t.Errorf("the other side is down: %v", err)
	}
	s.Remove(id)
	if _, _, err := s.do("GET", "/time/0", ""); err != nil {
		t.Errorf("the side stays down: %v", err)
	}
}

// reading does something when it is read.
type reading func()

func (r reading) Read([]byte) (int, error) {
	r()
	return 0, io.EOF
}

// An outage that begins after the rules were looked at for a poll, and before it is held, cuts it too.
func TestOutageCutsPollsThatArrive(t *testing.T) {
	j := New(routes)
	j.Record(true, 1) // which reads the body in between
	body := reading(func() {
		if _, err := j.Outage(SidePubNub); err != nil {
			t.Error(err)
		}
	})
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/v2/subscribe/sub/c/0?tt=1", body)
	h := j.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Context().Err() == nil {
			t.Error("the poll is held on")
		}
	}))
	defer func() {
		if cause := recover(); cause != http.ErrAbortHandler {
			t.Errorf("the poll ended with %v", cause)
		}
	}()
	h.ServeHTTP(httptest.NewRecorder(), r)
}

func TestRecording(t *testing.T) {
	s := newStand(t)
	if _, _, err := s.do("GET", "/time/0", ""); err != nil {
		t.Fatal(err)
	}
	if len(s.Requests(0)) != 0 {
		t.Error("requests are recorded although nobody asked for it")
	}
	s.Record(true, 3)
	id := s.add(Rule{Endpoint: "time", Status: 503})
	for _, x := range []struct{ method, path, body string }{
		{"GET", "/one", ""},
		{"POST", "/api/v1/rpc", `{"method":"GetTask"}`},
		{"POST", "/publish/p/s/0/c/0?auth=secret-token&uuid=me", "\xff\x00"},
		{"GET", "/time/0?signature=s", ""},
	} {
		if _, _, err := s.do(x.method, x.path, x.body); err != nil {
			t.Fatal(err)
		}
	}
	s.Record(false, 0)
	if _, _, err := s.do("GET", "/time/0", ""); err != nil {
		t.Fatal(err)
	}
	got := s.Requests(0)
	raw, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Seq != 2 || got[0].RPC != "GetTask" || got[0].Body != `{"method":"GetTask"}` || got[0].Status != 200 || got[0].Credential == "" {
		t.Errorf("%s", raw)
	}
	if strings.Contains(string(raw), "secret-token") || strings.Contains(string(raw), "bk_1") {
		t.Errorf("secrets: %s", raw)
	}
	if got[1].UUID != "me" || got[1].Path != "/publish/p/s/0/c/0?auth=***&uuid=me" || string(got[1].Binary) != "\xff\x00" || got[2].Fault != id || got[2].Status != 503 {
		t.Errorf("%s", raw)
	}
	if n := len(s.Requests(3)); n != 1 {
		t.Errorf("%d requests after the third", n)
	}
}

func TestLongBodiesReachTheHandler(t *testing.T) {
	s := newStand(t)
	s.Record(true, 0)
	long := strings.Repeat("x", maxBody+10)
	if _, got, err := s.do("POST", "/a", long); err != nil || got != "POST /a "+long {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if r := s.Requests(0)[0]; len(r.Body) != maxBody || !r.Truncated {
		t.Errorf("%d bytes, %v", len(r.Body), r.Truncated)
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("GET", "/v2/subscribe/sub/a,b/0?tt=1", "")
	f.Add("POST", "/publish/p/s/0/%00%zz/0?auth=%", "{")
	f.Add("GET", "/v2/presence/sub-key/s/channel/c", "")
	f.Fuzz(func(t *testing.T, method, target, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://h/", strings.NewReader(body))
		if err != nil {
			t.Skip()
		}
		if u, err := req.URL.Parse(target); err == nil {
			req.URL = u
		}
		j := New(routes)
		j.Record(true, 10)
		for _, r := range []Rule{{Endpoint: "publish", Status: 500, Channel: "x*"}, {RPC: "GetTask", Status: 500}, {Contains: "x", Status: 500}, {Action: Gap}} {
			if _, err := j.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		w := httptest.NewRecorder()
		j.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got, err := io.ReadAll(r.Body)
			if err != nil || string(got) != body {
				t.Errorf("body %q, %v", got, err)
			}
			_, _ = io.WriteString(w, `{"t":{},"m":[{}]}`)
		})).ServeHTTP(w, req)
	})
}
