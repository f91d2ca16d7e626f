package fault

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/blocksd/blocksd/sandbox/route"
)

// The sides of the server.
const (
	SidePubNub = route.PubNub
	SideBlocks = route.Blocks
)

// maxBody is how much of a body is looked at and remembered.
const maxBody = 64 << 10

// facts is what rules compare with a request. The body is read when a rule needs it.
type facts struct {
	r            *http.Request
	route        route.Route // with every key and credential of the request
	method, path string
	uuid         string

	read bool
	body []byte
	cut  bool // the body is longer than what was read
}

// look reads the facts off a request.
func (j *Injector) look(r *http.Request) *facts {
	f := &facts{r: r, route: j.routes.Look(r.URL), method: r.Method, path: r.URL.Path}
	query := r.URL.Query() // lenient enough: what it cannot read it leaves out
	f.uuid = query.Get("uuid")
	for _, name := range [...]string{"auth", "signature"} {
		if v := query.Get(name); v != "" {
			f.route.Keys = append(f.route.Keys, v)
		}
	}
	if scheme, credential, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		f.route.Keys = append(f.route.Keys, strings.TrimSpace(credential))
	}
	return f
}

// content reads the body, up to maxBody, and puts it back for the handler.
func (f *facts) content() []byte {
	if f.read || f.r.Body == nil {
		return f.body
	}
	f.read = true
	body, err := io.ReadAll(io.LimitReader(f.r.Body, maxBody+1))
	rest := f.r.Body
	var again io.Reader = io.MultiReader(bytes.NewReader(body), rest)
	if err != nil { // the handler gets it at the same byte
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
	if f.route.Endpoint == "publish" && f.method == http.MethodGet {
		if seg := strings.SplitN(f.path, "/", 8); len(seg) == 8 {
			return seg[7]
		}
	}
	return string(f.content())
}

// rpc is the method of a call, "" for anything else.
func (f *facts) rpc() string {
	if f.route.Endpoint != "rpc" {
		return ""
	}
	var call struct {
		Method string `json:"method"`
	}
	_ = json.Unmarshal(f.content(), &call) // anything else has no method
	return call.Method
}
