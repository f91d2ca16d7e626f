package pubnub

import (
	"net/http"

	"github.com/blocksd/blocksd/sandbox/access"
)

// file answers a download with a redirect: SDKs read the Location and crash on a plain 200. The place that it names
// needs no token and has no query, because an SDK rewrites queries.
func (s *Server) file(q *request) {
	k := s.keyset(q, q.seg[2])
	if k == nil {
		return
	}
	channel := unescape(q.seg[4])
	if !k.permit(q, access.Read, channel) {
		return
	}
	path, ok := "", false
	if s.files != nil {
		path, ok = s.files.Locate(channel, unescape(q.seg[6]), unescape(q.seg[7]))
	}
	if !ok {
		notFound(q.w)
		return
	}
	h := q.w.Header()
	h.Set("Location", "http://"+q.r.Host+path)
	h.Set("Cache-Control", "public, max-age=3600, immutable")
	h.Set("Content-Length", "0")
	h["Content-Type"] = javascript
	q.w.WriteHeader(http.StatusTemporaryRedirect)
}
