package pubnub

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	routing "github.com/blocksd/blocksd/sandbox/route"
)

// Routes reads the paths of this side.
var Routes = routing.Table{Endpoints: routing.Names(table, func(r route) string { return r.endpoint }), Look: look}

// route is one row of what the server answers.
type route struct {
	// endpoint is the name that faults have for it.
	endpoint string
	// about says whether a path is about this; serves, which of those requests are answered. The first row counts.
	about  func(seg []string) bool
	serves func(q *request) bool
	serve  func(s *Server, q *request)
	// keys and channels are segments of the path; secret is the first that must not be logged. 0 for none.
	keys             []int
	channels, secret int
}

// table is in the order in which it is searched.
var table = []route{
	{
		endpoint: "publish", about: first("publish"), serves: servesPublish, serve: (*Server).publish,
		keys: []int{1, 2}, channels: 4, secret: 6, // a message may hold anything
	},
	{
		endpoint: "signal", about: first("signal"), serves: servesPublish, serve: (*Server).publish,
		keys: []int{1, 2}, channels: 4, secret: 6,
	},
	{
		endpoint: "subscribe", about: second("subscribe"), serves: func(q *request) bool { return q.get() && q.is("v2", "subscribe", "*", "*", "*") },
		serve: (*Server).subscribe, keys: []int{2}, channels: 3,
	},
	presenceRoute("heartbeat", func(seg []string) bool { return seg[len(seg)-1] == "heartbeat" }, 5),
	presenceRoute("leave", func(seg []string) bool { return seg[len(seg)-1] == "leave" }, 5),
	presenceRoute("state", func(seg []string) bool { return seg[len(seg)-1] == "data" }, 5),
	presenceRoute("where-now", func(seg []string) bool { return at(seg, 4) == "uuid" }, 0),
	presenceRoute("here-now", func([]string) bool { return true }, 5),
	{
		endpoint: "history", about: func(seg []string) bool { return strings.Contains(at(seg, 1), "history") },
		serves: func(q *request) bool {
			return len(q.seg) == 6 && (q.seg[1] == "history" || q.seg[1] == "history-with-actions") && isSubKey(q.seg[2])
		},
		serve: (*Server).histories, keys: []int{3}, channels: 5,
	},
	{
		endpoint: "actions", about: second("message-actions"),
		serves: func(q *request) bool { return len(q.seg) >= 5 && q.seg[0] == "v1" && q.seg[3] == "channel" },
		serve:  (*Server).actions, keys: []int{2}, channels: 4,
	},
	{
		endpoint: "groups", about: second("channel-registration"),
		serves: func(q *request) bool { return len(q.seg) >= 5 && q.seg[0] == "v1" && q.get() },
		serve:  (*Server).registration, keys: []int{3},
	},
	{
		endpoint: "files", about: func(seg []string) bool { return at(seg, 1) == "files" && at(seg, 2) == "publish-file" },
		serves: func(q *request) bool {
			return (q.get() && len(q.seg) >= 9 || q.post() && len(q.seg) >= 8) && q.seg[0] == "v1" && q.seg[5] == "0"
		},
		serve: (*Server).publishFile, keys: []int{3, 4}, channels: 6, secret: 8,
	},
	filesRoute((*Server).announceFile, func(q *request) bool {
		return q.post() && q.is("v1", "files", "*", "channels", "*", "generate-upload-url")
	}),
	filesRoute((*Server).listFiles, func(q *request) bool { return q.get() && q.is("v1", "files", "*", "channels", "*", "files") }),
	filesRoute((*Server).file, func(q *request) bool {
		return (q.get() || q.r.Method == http.MethodDelete) && q.is("v1", "files", "*", "channels", "*", "files", "*", "*")
	}),
	{
		endpoint: "grant", about: func(seg []string) bool { return at(seg, 1) == "pam" || at(seg, 1) == "auth" },
		serves: func(q *request) bool {
			return len(q.seg) >= 4 && q.seg[0] == "v3" && q.seg[1] == "pam" && q.seg[3] == "grant"
		},
		serve: (*Server).grants, keys: []int{2}, secret: 4, // a token that is revoked
	},
	{endpoint: "time", about: first("time"), serves: func(q *request) bool { return q.get() && q.is("time", "0") }, serve: (*Server).time},
	// The upload and download of a file of a plain keyset: the path is all that one needs to use it.
	{about: first(uploadPath), serves: func(q *request) bool { return q.post() && len(q.seg) == 2 }, serve: (*Server).receiveFile, secret: 1},
	{about: first(downloadPath), serves: func(q *request) bool { return q.get() && len(q.seg) == 3 }, serve: (*Server).sendFile, secret: 1},
}

func presenceRoute(endpoint string, about func(seg []string) bool, channels int) route {
	return route{
		endpoint: endpoint, about: func(seg []string) bool { return at(seg, 1) == "presence" && about(seg) },
		serves: func(q *request) bool { return q.get() && len(q.seg) >= 4 && q.seg[0] == "v2" && isSubKey(q.seg[2]) },
		serve:  (*Server).presence, keys: []int{3}, channels: channels,
	}
}

func filesRoute(serve func(*Server, *request), serves func(q *request) bool) route {
	return route{endpoint: "files", about: second("files"), serves: serves, serve: serve, keys: []int{2}, channels: 4}
}

func servesPublish(q *request) bool {
	return (q.get() && len(q.seg) >= 7 || q.post() && len(q.seg) == 6) && q.seg[3] == "0"
}

func isSubKey(segment string) bool { return segment == "sub-key" || segment == "sub_key" }

func first(name string) func(seg []string) bool {
	return func(seg []string) bool { return at(seg, 0) == name }
}

func second(name string) func(seg []string) bool {
	return func(seg []string) bool { return at(seg, 1) == name }
}

// at returns a segment, or "" where the path is shorter.
func at(seg []string, i int) string {
	if i >= len(seg) {
		return ""
	}
	return seg[i]
}

// look says what a path is about, whether or not a request for it is answered.
func look(u *url.URL) routing.Route {
	out := routing.Route{Side: routing.PubNub}
	seg := split(u.EscapedPath())
	i := slices.IndexFunc(table, func(r route) bool { return r.about(seg) })
	if i < 0 {
		return out
	}
	r := table[i]
	out.Endpoint, out.Secret = r.endpoint, r.secret
	for _, i := range r.keys {
		out.Keys = append(out.Keys, unescape(at(seg, i)))
	}
	if r.channels > 0 && r.channels < len(seg) {
		for _, name := range strings.Split(seg[r.channels], ",") {
			if s := unescape(name); s != "" {
				out.Channels = append(out.Channels, s)
			}
		}
	}
	return out
}
