package link

import (
	"encoding/json"
	"errors"
	"fmt"
)

// maxPoll bounds the answer to one poll. A hundred messages of the network's own can each be larger than what a
// publisher may send, and an answer that is refused for its size would be given again and again.
const maxPoll = 32 << 20

// Received is one message of a subscription.
type Received struct {
	Channel, Timetoken string
	// Publisher is the user id of the sender, empty if the network does not say.
	Publisher string
	Body      json.RawMessage
	Meta      json.RawMessage // nil for none
}

// pollAnswer is a decoded answer to a poll.
type pollAnswer struct {
	cursor  uint64
	region  int64
	entries []Received
	// skipped counts entries that are not messages or cannot be read; malformed holds the first reason of the latter.
	skipped   int
	malformed error
}

// decodePoll reads an answer to a poll. An error means that it has no cursor, so that nothing of it may be used.
// Entries that cannot be read are left out: one bad message must not stop those behind it.
func decodePoll(b []byte) (pollAnswer, error) {
	var o struct {
		T struct {
			T json.RawMessage `json:"t"`
			R json.RawMessage `json:"r"`
		} `json:"t"`
		M []json.RawMessage `json:"m"`
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return pollAnswer{}, errors.New("the answer is not one to a poll")
	}
	cursor, ok := parseTimetoken(o.T.T)
	if !ok || cursor == 0 {
		return pollAnswer{}, errors.New("the answer has no cursor")
	}
	a := pollAnswer{cursor: cursor}
	_ = json.Unmarshal(o.T.R, &a.region) // only handed back; 0 means unknown
	for i, raw := range o.M {
		m, ok, err := decodeEntry(raw)
		if err != nil && a.malformed == nil {
			a.malformed = fmt.Errorf("message %d of %d: %w", i+1, len(o.M), err)
		}
		if !ok {
			a.skipped++
			continue
		}
		a.entries = append(a.entries, m)
	}
	return a, nil
}

// decodeEntry reads one envelope. ok is false for what is not an ordinary message: signals, actions, files and the like
// have a type other than 0.
func decodeEntry(raw json.RawMessage) (m Received, ok bool, err error) {
	var o struct {
		C string `json:"c"`
		I any    `json:"i"`
		P struct {
			T json.RawMessage `json:"t"`
		} `json:"p"`
		U json.RawMessage `json:"u"`
		D json.RawMessage `json:"d"`
		E json.RawMessage `json:"e"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return Received{}, false, errors.New("the envelope is malformed")
	}
	switch string(o.E) {
	case "", "0", "null", `"0"`:
	default:
		return Received{}, false, nil
	}
	tt, ok := parseTimetoken(o.P.T)
	switch {
	case o.C == "":
		return Received{}, false, errors.New("the envelope names no channel")
	case !ok || tt == 0:
		return Received{}, false, errors.New("the envelope has no timetoken")
	case len(o.D) == 0:
		return Received{}, false, errors.New("the envelope has no message")
	}
	m = Received{Channel: o.C, Timetoken: formatTimetoken(tt), Body: o.D}
	m.Publisher, _ = o.I.(string)
	if u := string(o.U); u != "" && u != "null" {
		m.Meta = o.U
	}
	return m, true, nil
}
