package fault

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// The sides of the server.
const (
	SidePubNub = "pubnub"
	SideBlocks = "blocks"
)

// blocksPaths are the endpoints of the Blocks side.
var blocksPaths = map[string]string{
	"/api/v1/cdm": "cdm", "/api/v1/rpc": "rpc", "/api/v1/registry/agents": "registry", "/api/v1/auth/agent/connect": "connect",
	"/api/v1/auth/agent/refresh": "refresh", "/api/v1/auth/agent/consumer-token": "consumer-token",
	"/api/v1/auth/task-read-token": "task-read-token", "/api/v1/auth/anon-task-read-token": "anon-task-read-token",
	"/api/v1/files/request-upload": "request-upload", "/api/v1/files/confirm-upload": "confirm-upload",
}

// pubnubEndpoints are those of the PubNub side.
var pubnubEndpoints = []string{
	"time", "publish", "signal", "subscribe", "heartbeat", "leave", "state", "here-now", "where-now", "history", "actions", "groups", "files", "grant",
}

// Endpoints lists the names that a rule may use.
func Endpoints() []string {
	out := slices.Clone(pubnubEndpoints)
	for _, name := range blocksPaths {
		out = append(out, name)
	}
	out = append(out, "blob")
	slices.Sort(out)
	return out
}

// maxBody is how much of a body is looked at and remembered.
const maxBody = 64 << 10

// facts is what rules look at of a request. The body is read when somebody asks for it.
type facts struct {
	r                            *http.Request
	side, endpoint, method, path string
	channels                     []string
	keys                         []string // every key and credential of the request
	uuid                         string

	read bool
	body []byte
	cut  bool // the body is longer than what was read
}

// look reads the facts off a request.
func look(r *http.Request) *facts {
	f := &facts{r: r, method: r.Method, path: r.URL.Path, side: SideBlocks}
	query := r.URL.Query() // lenient enough: what it cannot read it leaves out
	f.uuid = query.Get("uuid")
	for _, name := range [...]string{"auth", "signature"} {
		if v := query.Get(name); v != "" {
			f.keys = append(f.keys, v)
		}
	}
	if scheme, credential, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		f.keys = append(f.keys, strings.TrimSpace(credential))
	}
	switch {
	case strings.HasPrefix(f.path, "/blob/"):
		f.endpoint = "blob"
		return f
	case strings.HasPrefix(f.path, "/api/"), strings.HasPrefix(f.path, "/agents/"), strings.HasPrefix(f.path, "/invite/"):
		f.endpoint = blocksPaths[f.path]
		return f
	}
	f.side = SidePubNub
	seg := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	at := func(i int) string {
		if i < len(seg) {
			if s, err := url.PathUnescape(seg[i]); err == nil {
				return s
			}
			return seg[i]
		}
		return ""
	}
	names := func(i int) {
		if i < len(seg) {
			for _, name := range strings.Split(seg[i], ",") {
				if s, err := url.PathUnescape(name); err == nil && s != "" {
					f.channels = append(f.channels, s)
				}
			}
		}
	}
	switch {
	case at(0) == "publish" || at(0) == "signal":
		f.endpoint = at(0)
		f.keys = append(f.keys, at(1), at(2))
		names(4)
	case at(1) == "subscribe":
		f.endpoint = "subscribe"
		f.keys = append(f.keys, at(2))
		names(3)
	case at(1) == "presence":
		f.keys = append(f.keys, at(3))
		names(5)
		switch last := seg[len(seg)-1]; {
		case last == "heartbeat" || last == "leave":
			f.endpoint = last
		case last == "data":
			f.endpoint = "state"
		case at(4) == "uuid":
			f.endpoint, f.channels = "where-now", nil
		default:
			f.endpoint = "here-now"
		}
	case strings.Contains(at(1), "history"):
		f.endpoint = "history"
		f.keys = append(f.keys, at(3))
		names(5)
	case at(1) == "message-actions":
		f.endpoint = "actions"
		f.keys = append(f.keys, at(2))
		names(4)
	case at(1) == "channel-registration":
		f.endpoint = "groups"
		f.keys = append(f.keys, at(3))
	case at(1) == "files":
		f.endpoint = "files"
		f.keys = append(f.keys, at(2))
		names(4)
	case at(1) == "pam" || at(1) == "auth":
		f.endpoint = "grant"
		f.keys = append(f.keys, at(2))
	case at(0) == "time":
		f.endpoint = "time"
	}
	return f
}

// content reads the body, as far as it is looked at, and puts it back for whoever handles the request.
func (f *facts) content() []byte {
	if f.read || f.r.Body == nil {
		return f.body
	}
	f.read = true
	body, err := io.ReadAll(io.LimitReader(f.r.Body, maxBody+1))
	rest := f.r.Body
	var again io.Reader = io.MultiReader(bytes.NewReader(body), rest)
	if err != nil { // the handler meets it at the same place
		again = io.MultiReader(bytes.NewReader(body), failing{err})
	}
	f.r.Body = struct {
		io.Reader
		io.Closer
	}{again, rest}
	f.cut = len(body) > maxBody
	f.body = body[:min(len(body), maxBody)]
	return f.body
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// text is the body, or the message in the path of a publish.
func (f *facts) text() string {
	if f.endpoint == "publish" && f.method == http.MethodGet {
		if seg := strings.SplitN(f.path, "/", 8); len(seg) == 8 {
			return seg[7]
		}
	}
	return string(f.content())
}

// rpc is the method of a call, "" for anything else.
func (f *facts) rpc() string {
	if f.endpoint != "rpc" {
		return ""
	}
	var call struct {
		Method string `json:"method"`
	}
	_ = json.Unmarshal(f.content(), &call) // what is no call has no method
	return call.Method
}
