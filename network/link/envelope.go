package link

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/blocksd/blocksd/internal/jsonscan"
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
	answer, ok := jsonscan.Check(b)
	if !ok || !answer.IsObject() {
		return pollAnswer{}, errors.New("the answer is not one to a poll")
	}
	var a pollAnswer
	var messages jsonscan.Value
	var hasCursor bool
	for name, v := range answer.Members {
		switch string(name) {
		case "t":
			for name, v := range v.Members {
				switch string(name) {
				case "t":
					a.cursor, hasCursor = parseTimetoken(json.RawMessage(v))
				case "r":
					a.region = 0
					_ = json.Unmarshal(v, &a.region) // only handed back; 0 means unknown
				}
			}
		case "m":
			messages = v
		}
	}
	switch {
	case !messages.IsArray() && !messages.IsNull():
		return pollAnswer{}, errors.New("the answer is not one to a poll")
	case !hasCursor || a.cursor == 0:
		return pollAnswer{}, errors.New("the answer has no cursor")
	}
	n := 0
	for raw := range messages.Elements {
		n++
		m, ok, err := decodeEntry(raw)
		if err != nil && a.malformed == nil {
			a.malformed = fmt.Errorf("message %d: %w", n, err)
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
func decodeEntry(raw jsonscan.Value) (m Received, ok bool, err error) {
	if !raw.IsObject() {
		return Received{}, false, errors.New("the envelope is malformed")
	}
	var channel, publisher, timetoken, meta, body, kind jsonscan.Value
	for name, v := range raw.Members {
		switch string(name) {
		case "c":
			channel = v
		case "i":
			publisher = v
		case "p":
			for name, v := range v.Members {
				if string(name) == "t" {
					timetoken = v
				}
			}
		case "u":
			meta = v
		case "d":
			body = v
		case "e":
			kind = v
		}
	}
	switch string(kind) {
	case "", "0", "null", `"0"`:
	default:
		return Received{}, false, nil
	}
	tt, ok := parseTimetoken(json.RawMessage(timetoken))
	name := text(channel)
	switch {
	case name == "":
		return Received{}, false, errors.New("the envelope names no channel")
	case !ok || tt == 0:
		return Received{}, false, errors.New("the envelope has no timetoken")
	case len(body) == 0:
		return Received{}, false, errors.New("the envelope has no message")
	}
	// Copies: a message must not keep the whole answer in memory.
	m = Received{Channel: name, Timetoken: formatTimetoken(tt), Publisher: text(publisher), Body: bytes.Clone(body)}
	if !meta.IsNull() {
		m.Meta = bytes.Clone(meta)
	}
	return m, true, nil
}

// text returns the contents of a string, empty for every other value.
func text(v jsonscan.Value) string {
	if plain, ok := v.Plain(); ok {
		return string(plain)
	}
	var s string
	if v.IsText() {
		_ = json.Unmarshal(v, &s) // it was checked
	}
	return s
}
