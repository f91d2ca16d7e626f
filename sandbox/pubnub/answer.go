package pubnub

import (
	"net/http"
	"strconv"

	"github.com/blocksd/blocksd/sandbox/access"
	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Limits of a request.
const (
	maxMessage = 32 << 10 // payload and channel name
	maxSignal  = 64       // payload
	maxURI     = 32 << 10
	maxName    = 2048 // channel name
	maxID      = 92   // user id, channel group
	maxGroups  = 10   // channel groups of one subscriber
)

var (
	jsonType   = []string{"application/json"}
	javascript = []string{`text/javascript; charset="UTF-8"`}
	noCache    = []string{"no-cache"}
	anyOrigin  = []string{"*"}
	methods    = []string{"GET, POST, DELETE, OPTIONS, PATCH"}
	headers    = []string{"Origin, X-Requested-With, Content-Type, Accept, Authorization, Blocks-Protocol-Version, X-Write-Affinity"}
)

// allowBrowsers lets pages of any origin read the answer.
func allowBrowsers(h http.Header) {
	h["Access-Control-Allow-Origin"] = anyOrigin
	h["Access-Control-Allow-Methods"] = methods
	h["Access-Control-Allow-Headers"] = headers
}

// answer sends a body. There is always a content type: an SDK looks at it even on errors.
func answer(w http.ResponseWriter, status int, body []byte) {
	answerAs(w, javascript, status, body)
}

// answerJSON is answer for the endpoints that call JSON by its name.
func answerJSON(w http.ResponseWriter, status int, body []byte) { answerAs(w, jsonType, status, body) }

func answerAs(w http.ResponseWriter, contentType []string, status int, body []byte) {
	if p, ok := w.(*padded); ok {
		body = append(append(append(make([]byte, 0, len(body)+len(p.callback)+2), p.callback...), '('), body...)
		body = append(body, ')')
	}
	h := w.Header()
	h["Content-Type"] = contentType
	h["Cache-Control"] = noCache
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is not our concern
}

func notFound(w http.ResponseWriter) {
	answer(w, http.StatusNotFound, []byte(`{"status":404,"error":true,"message":"Requested URI was not found"}`))
}

// badRequest answers in the form of the endpoints that answer with an object.
func badRequest(w http.ResponseWriter, message string) {
	b := pubsub.AppendString([]byte(`{"message":`), message)
	answer(w, http.StatusBadRequest, append(b, `,"error":true,"service":"Access Manager","status":400}`...))
}

// padded is the writer for a request that wants its answer as a call of a function (JSONP).
type padded struct {
	http.ResponseWriter
	callback string
}

// pad makes the answer a call of callback, if that is the name of a function; "0" stands for none.
func (q *request) pad(callback string) {
	if callback == "" || callback == "0" || len(callback) > 64 {
		return
	}
	for _, c := range []byte(callback) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.', c == '$':
		default:
			return
		}
	}
	q.w = &padded{q.w, callback}
}

// forbidden names what the sender has no right on; groups come with a colon before their names.
func forbidden(w http.ResponseWriter, channels, groups []string) {
	w.Header()["X-Pn-Cause"] = []string{"9999"}
	b := []byte(`{"message":"Forbidden","payload":{`)
	if len(channels) > 0 || len(groups) == 0 {
		b = appendStrings(append(b, `"channels":`...), channels)
	}
	if len(groups) > 0 {
		if len(channels) > 0 {
			b = append(b, ',')
		}
		b = append(b, `"channel-groups":`...)
		named := make([]string, len(groups))
		for i, g := range groups {
			named[i] = ":" + g
		}
		b = appendStrings(b, named)
	}
	answer(w, http.StatusForbidden, append(b, `},"error":true,"service":"Access Manager","status":403}`...))
}

func appendStrings(b []byte, texts []string) []byte {
	b = append(b, '[')
	for i, s := range texts {
		if i > 0 {
			b = append(b, ',')
		}
		b = pubsub.AppendString(b, s)
	}
	return append(b, ']')
}

// accessError answers in the form of the access manager's own operations.
func accessError(w http.ResponseWriter, status int, source string, e *access.RequestError, locationType string) {
	b := pubsub.AppendString([]byte(`{"error":{"message":`), e.Message)
	b = pubsub.AppendString(append(b, `,"source":`...), source)
	b = pubsub.AppendString(append(b, `,"details":[{"message":`...), e.Detail)
	b = pubsub.AppendString(append(b, `,"location":`...), e.Location)
	b = pubsub.AppendString(append(b, `,"locationType":`...), locationType)
	b = strconv.AppendInt(append(b, `}]},"service":"Access Manager","status":`...), int64(status), 10)
	answer(w, status, append(b, '}'))
}
