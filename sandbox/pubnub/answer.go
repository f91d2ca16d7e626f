package pubnub

import (
	"net/http"
	"strconv"

	"github.com/blocksd/blocksd/sandbox/pubsub"
)

// Limits of a request.
const (
	maxMessage = 32 << 10 // payload and channel name
	maxSignal  = 64       // payload
	maxURI     = 32 << 10
	maxName    = 2048 // channel name
)

var (
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
	h := w.Header()
	h["Content-Type"] = javascript
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

func forbidden(w http.ResponseWriter, channels []string) {
	w.Header()["X-Pn-Cause"] = []string{"9999"}
	b := append([]byte(`{"message":"Forbidden","payload":{"channels":`), appendStrings(nil, channels)...)
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
