// Package fault injects faults: in front of both faces of the server it can delay, refuse, drop, hang or cut off any
// request, lose, duplicate or reorder messages on their way to a subscriber, and record requests. Without rules it lets
// everything through unchanged.
package fault

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/blocksd/blocksd/sandbox/route"
)

// Action is what happens to a request or a message.
type Action string

// The actions. Those from Gap on concern messages: of a publish, or of the answers to a subscriber.
const (
	// None only delays the request.
	None Action = ""
	// Status answers with a status and a body; the request is not handled.
	Status Action = "status"
	// Drop closes the connection; the request is not handled.
	Drop Action = "drop"
	// Lose handles the request and closes the connection instead of answering.
	Lose Action = "lose"
	// Hang never answers: until the client gives up or the rule is removed, then the connection is closed.
	Hang Action = "hang"
	// Cut handles the request and closes the connection in the middle of the answer's body.
	Cut Action = "cut"
	// Gap loses a message: a publish is answered as if it were sent, a subscriber does not see it although it is
	// stored.
	Gap Action = "gap"
	// Duplicate sends a message twice.
	Duplicate Action = "duplicate"
	// Reorder gives a subscriber a message after the one that follows it.
	Reorder Action = "reorder"
)

// actions says which exist, and which concern messages.
var actions = map[Action]bool{
	None: false, Status: false, Drop: false, Lose: false, Hang: false, Cut: false, Gap: true, Duplicate: true, Reorder: true,
}

// Duration is a time.Duration that is a string like "1.5s" in JSON.
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("a duration must be a string like \"1.5s\", not %s", b)
	}
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return fmt.Errorf("a duration must be a string like \"1.5s\", not %q", text)
	}
	*d = Duration(v)
	return nil
}

// Rule is one fault. Empty members match everything.
type Rule struct {
	// ID is given by the injector.
	ID string `json:"id,omitempty"`

	// Endpoint is one of the table, or a whole side: pubnub or blocks.
	Endpoint string `json:"endpoint,omitempty"`
	// Method of the request; Path is a prefix of its path.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	// Channel is one that the request names, or the one of the message; a * at its end matches anything.
	Channel string `json:"channel,omitempty"`
	// Key is a publish or subscribe key, an API key, a JWT or a token that the request carries.
	Key string `json:"key,omitempty"`
	// UUID of the PubNub client.
	UUID string `json:"uuid,omitempty"`
	// RPC is the method of a call.
	RPC string `json:"rpc,omitempty"`
	// Contains is a text in the body of the request, or in the message.
	Contains string `json:"contains,omitempty"`
	// Skip lets the first ones through; of the others the last of every Every is hit, 0 for all; Times is how many are hit at
	// most, 0 for all.
	Skip  int `json:"skip,omitempty"`
	Every int `json:"every,omitempty"`
	Times int `json:"times,omitempty"`

	Action Action `json:"action,omitempty"`
	// Delay comes before the request is handled, DelayAnswer after it.
	Delay       Duration `json:"delay,omitempty"`
	DelayAnswer Duration `json:"delayAnswer,omitempty"`
	// Status, Body, ContentType and Headers of the answer of the action status.
	Status      int               `json:"status,omitempty"`
	Body        string            `json:"body,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	// CutAfter is how many bytes of the body the action cut lets through; 0 is half of them.
	CutAfter int `json:"cutAfter,omitempty"`
	// Held lets the rule hit polls, too, that were being held when it was made.
	Held bool `json:"held,omitempty"`

	// Hits is how often the rule has been applied.
	Hits int `json:"hits"`
}

// maxDelay bounds delays.
const maxDelay = 10 * time.Minute

// check reports what is wrong with a rule, and fills in what is implied.
func (r *Rule) check(endpoints []string) error {
	if r.Action == None && r.Status != 0 {
		r.Action = Status
	}
	messages, known := actions[r.Action]
	switch {
	case !known:
		return fmt.Errorf("the action %q is unknown: use status, drop, lose, hang, cut, gap, duplicate or reorder", r.Action)
	case r.Action == None && r.Delay == 0 && r.DelayAnswer == 0:
		return fmt.Errorf("the rule does nothing: give an action, a status or a delay")
	case r.Endpoint != "" && r.Endpoint != route.PubNub && r.Endpoint != route.Blocks && !slices.Contains(endpoints, r.Endpoint):
		return fmt.Errorf("the endpoint %q is unknown: use pubnub, blocks or one of %s", r.Endpoint, strings.Join(endpoints, ", "))
	case r.Action == Status && (r.Status < 200 || r.Status > 599):
		return fmt.Errorf("the status must be from 200 to 599, not %d", r.Status)
	case r.Skip < 0 || r.Every < 0 || r.Times < 0 || r.CutAfter < 0:
		return fmt.Errorf("skip, every, times and cutAfter must not be negative")
	case time.Duration(r.Delay) > maxDelay || time.Duration(r.DelayAnswer) > maxDelay:
		return fmt.Errorf("a delay is at most %s", maxDelay)
	case messages && r.Endpoint == "":
		r.Endpoint = "subscribe"
	case messages && r.Endpoint != "subscribe" && (r.Endpoint != "publish" || r.Action == Reorder):
		return fmt.Errorf("the action %s is for the endpoint subscribe%s", r.Action, map[bool]string{true: "", false: " or publish"}[r.Action == Reorder])
	}
	if r.Action == Status && r.ContentType == "" {
		r.ContentType = "application/json"
	}
	return nil
}

// onMessages says that the rule concerns what subscribers are sent.
func (r *Rule) onMessages() bool { return actions[r.Action] && r.Endpoint == "subscribe" }

// matchChannel compares a channel with a pattern.
func matchChannel(pattern, channel string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(channel, prefix)
	}
	return pattern == channel
}

// matches reports whether the rule is for a request.
func (r *Rule) matches(q *facts) bool {
	switch {
	case r.Endpoint != "" && r.Endpoint != q.route.Endpoint && r.Endpoint != q.route.Side,
		r.Method != "" && !strings.EqualFold(r.Method, q.method),
		r.Path != "" && !strings.HasPrefix(q.path, r.Path),
		r.Key != "" && !slices.Contains(q.route.Keys, r.Key),
		r.UUID != "" && r.UUID != q.uuid,
		r.RPC != "" && r.RPC != q.rpc():
		return false
	}
	if r.onMessages() { // channel and text are those of the message
		return true
	}
	if r.Channel != "" && !slices.ContainsFunc(q.route.Channels, func(c string) bool { return matchChannel(r.Channel, c) }) {
		return false
	}
	return r.Contains == "" || strings.Contains(q.text(), r.Contains)
}
