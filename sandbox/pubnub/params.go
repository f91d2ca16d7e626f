package pubnub

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// validChannel refuses what cannot be a name. The characters that PubNub advises against are let through, because its
// SDKs are tested with them.
func validChannel(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for i := 0; i < len(name); i++ {
		if name[i] < ' ' {
			return false
		}
	}
	return true
}

func validGroup(name string) bool {
	return name != "" && len(name) <= maxID && validChannel(name) && !strings.ContainsAny(name, ",:*/")
}

func validGroups(q *request, groups []string) bool {
	count := 0
	for _, name := range groups {
		base := strings.TrimSuffix(name, "-pnpres")
		if !validGroup(base) {
			badRequest(q.w, "Invalid Channel Group")
			return false
		}
		if base == name {
			count++
		}
	}
	if count > maxGroups {
		badRequest(q.w, "Too many channel groups")
		return false
	}
	return true
}

// groups reads the names of channel groups, of which presence groups end in -pnpres.
func (q *request) groups() []string {
	var out []string
	for _, name := range strings.Split(q.query.get("channel-group"), ",") {
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}

// states reads an object of states by channel; what is none is ignored.
func states(text string) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &m) != nil {
		return nil
	}
	return m
}

// maxTimeout is the longest presence time-out that is accepted; a client that asks for more gets the default.
const maxTimeout = 24 * time.Hour

// timeout is the presence time-out that a client asks for; zero means the default.
func timeout(q *request) time.Duration {
	n, err := strconv.Atoi(q.query.get("heartbeat"))
	if err != nil || n <= 0 || n > int(maxTimeout/time.Second) {
		return 0
	}
	return time.Duration(n) * time.Second
}

// numbers reads parameters that are numbers without a sign; bad is the name of one that is not.
func numbers(q *request, names ...string) (values []int64, bad string) {
	values = make([]int64, len(names))
	for i, name := range names {
		text := q.query.get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return nil, name
		}
		values[i] = n
	}
	return values, ""
}

func parseTimetoken(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n >= 0
}

// encodeName escapes a channel as the names in an answer are by default.
func encodeName(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func list(text string) []string {
	var out []string
	for _, name := range strings.Split(text, ",") {
		if name != "" {
			out = append(out, name)
		}
	}
	return out
}
