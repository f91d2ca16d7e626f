package link

import (
	"encoding/json"
	"strconv"
	"sync/atomic"
	"time"
)

// A timetoken is the network's time of a message: 17 digits, units of 100 ns since 1970. It travels as text, because as
// a JSON number it does not survive a float.

// parseTimetoken reads a timetoken from JSON, where it may be a string or a number. ok is false for anything else.
func parseTimetoken(raw json.RawMessage) (uint64, bool) {
	s := string(raw)
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	v, err := strconv.ParseUint(s, 10, 63) // the SDK takes it as a signed number
	return v, err == nil
}

func formatTimetoken(v uint64) string { return strconv.FormatUint(v, 10) }

func timetokenOf(t time.Time) uint64 {
	n := t.UnixNano() / 100
	if n < 0 {
		return 0
	}
	return uint64(n)
}

// newest is the largest timetoken seen from the network: a lower bound of its present time.
type newest struct{ v atomic.Uint64 }

func (n *newest) see(v uint64) {
	for {
		old := n.v.Load()
		if v <= old || n.v.CompareAndSwap(old, v) {
			return
		}
	}
}
