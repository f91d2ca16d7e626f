package link

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// StatusError is an answer of the network that is not a success.
type StatusError struct {
	Op, Channel string
	Status      int
	// Body is the answer as received. Stream set-up is always answered with 403 and reads it.
	Body []byte
	// RetryAfter is how long the network asks to wait, 0 when it does not.
	RetryAfter time.Duration
}

// Error contains of the body only its message member: a body may hold a token.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("%s on channel %s was answered with status %d", e.Op, e.Channel, e.Status)
	if e.Channel == "" {
		s = fmt.Sprintf("%s was answered with status %d", e.Op, e.Status)
	}
	if m := strings.TrimRight(answerMessage(e.Body), ". "); m != "" {
		s += ": " + wire.CutText(m, 200)
	}
	return s
}

// final reports whether sending the same request again cannot help.
func (e *StatusError) final() bool {
	switch e.Status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong:
		return true
	}
	return false
}

// answerMessage finds the text in the two forms of error bodies: {"message":"…"} and [0,"…","…"].
func answerMessage(body []byte) string {
	var o struct {
		Message json.RawMessage `json:"message"`
	}
	var s string
	if json.Unmarshal(body, &o) == nil {
		_ = json.Unmarshal(o.Message, &s)
		return s
	}
	var a []json.RawMessage
	if json.Unmarshal(body, &a) == nil && len(a) > 1 {
		_ = json.Unmarshal(a[1], &s)
	}
	return s
}
