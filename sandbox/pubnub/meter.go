package pubnub

import (
	"net/http"
	"sync"
	"time"
)

// meter bounds what clients may publish. Its zero value bounds nothing.
type meter struct {
	rate  int // publications to one channel in one second, 0 for any number
	quota int // publications of one keyset in all, 0 for any number

	mu     sync.Mutex // guards all below
	second int64      // of counts
	counts map[channelKey]int
	totals map[string]int // by subscribe key
}

// channelKey is a channel of a keyset.
type channelKey struct{ subscribeKey, channel string }

// take counts a publication, or answers that it is one too many; one that is refused does not count.
func (m *meter) take(w http.ResponseWriter, p channelKey, now time.Time) bool {
	if m.rate <= 0 && m.quota <= 0 {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if second := now.Unix(); m.counts == nil || second != m.second {
		m.second, m.counts = second, map[channelKey]int{}
	}
	if m.totals == nil {
		m.totals = map[string]int{}
	}
	switch {
	case m.quota > 0 && m.totals[p.subscribeKey] >= m.quota:
		answer(w, http.StatusPaymentRequired, []byte(`{"status":402,"error":true,"message":"Payment Required"}`))
		return false
	case m.rate > 0 && m.counts[p] >= m.rate:
		w.Header()["Retry-After"] = []string{"1"} // the next second is a new one
		answer(w, http.StatusTooManyRequests, []byte(`{"status":429,"error":true,"message":"Too Many Requests"}`))
		return false
	}
	m.totals[p.subscribeKey]++
	m.counts[p]++
	return true
}
