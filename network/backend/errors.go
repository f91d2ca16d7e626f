package backend

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/blocksd/blocksd/network/wire"
)

// Codes in error bodies that change what a client does.
const (
	codeForcedOffline  = "AGENT_FORCED_OFFLINE"
	codeKeyInvalid     = "API_KEY_INVALID"
	codeRefreshInvalid = "REFRESH_TOKEN_INVALID"
	codeBillingMode    = "BillingModeMismatch"
)

// ErrNotFound means that the registry shows no such agent to this caller.
var ErrNotFound = errors.New("not found")

// Error is a request to the API that did not succeed.
type Error struct {
	Op     string // what was attempted, as "connect"
	Object string // on what, as "agent echo"
	Status int    // 0: no answer
	// Code is the machine-readable reason, may be empty; Message the network's text.
	Code, Message string
	err           error // why there is no answer
	// advice replaces what we would say to do about it.
	advice string
}

func (e *Error) Error() string {
	s := e.Op
	if e.Object != "" {
		s += " " + e.Object
	}
	switch {
	case e.Status == 0:
		s += ": no answer"
		if e.err != nil {
			s += ": " + e.err.Error()
		}
	case e.Status/100 != 2:
		s += fmt.Sprintf(": the network answered with status %d", e.Status)
		if e.Code != "" {
			s += " (" + wire.CutText(e.Code, 64) + ")"
		}
	}
	if e.Message != "" {
		s += ": " + wire.CutText(strings.TrimRight(e.Message, ". "), 300)
	}
	if hint := e.hint(); hint != "" {
		s += ": " + hint
	}
	return s
}

// hint says what to do about it, where we know.
func (e *Error) hint() string {
	switch {
	case e.advice != "":
		return e.advice
	case e.Code == codeForcedOffline:
		return "an administrator must enable the agent again"
	case e.Code == codeKeyInvalid:
		return "use a valid API key"
	case e.Status == http.StatusUnauthorized:
		return "use a valid API key or token"
	case e.Status == http.StatusForbidden:
		return "use an API key that may do this"
	case errors.Is(e.err, context.Canceled):
		return ""
	case e.Status == 0:
		return "check the address and the connection"
	case e.Temporary():
		return "try again later"
	}
	return ""
}

func (e *Error) Unwrap() error { return e.err }

// Final reports whether trying again is useless until an operator acts: the agent was taken offline, or the API key is
// invalid.
func (e *Error) Final() bool { return e.Code == codeForcedOffline || e.Code == codeKeyInvalid }

// WrongBillingMode reports whether the agent is registered with another billing mode than the one given.
func (e *Error) WrongBillingMode() bool { return e.Code == codeBillingMode }

// Temporary reports whether the same request may succeed later: no answer, 408, 429 or 5xx.
func (e *Error) Temporary() bool {
	return e.Status == 0 || e.Status == http.StatusRequestTimeout || e.Status == http.StatusTooManyRequests || e.Status >= 500
}

// answerError reads the error bodies of the API: {"code","error"}, {"message"}, and the same nested in "error" or "data".
func answerError(a apiCall, status int, body []byte) *Error {
	e := &Error{Op: a.op, Object: a.object, Status: status}
	e.Code, e.Message = errorTexts(body, 3)
	return e
}

// errorTexts reads code and text of an error body, so many objects deep.
func errorTexts(body []byte, depth int) (code, message string) {
	var o map[string]json.RawMessage
	if depth == 0 || json.Unmarshal(body, &o) != nil {
		return "", ""
	}
	text := func(key string) (s string) {
		_ = json.Unmarshal(o[key], &s) // anything else than text is ignored
		return s
	}
	code, message = text("code"), cmp.Or(text("error"), text("message"))
	for _, nested := range []string{"error", "data"} {
		c, m := errorTexts(o[nested], depth-1)
		code, message = cmp.Or(code, c), cmp.Or(message, m)
	}
	return code, message
}
