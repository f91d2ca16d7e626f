package backend

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const affinityHeader = "X-Write-Affinity"

// affinity remembers until when reads must go to the primary database. The value is a Unix time in seconds, handed back
// exactly as it came.
type affinity struct {
	mu    sync.Mutex
	text  string
	until float64
}

// learn takes the value of a successful answer if it reaches further than the one we have.
func (a *affinity) learn(h http.Header) {
	text := h.Get(affinityHeader)
	if text == "" {
		return
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if v > a.until {
		a.text, a.until = text, v
	}
}

// apply puts the value into the header of a request while it lasts.
func (a *affinity) apply(h http.Header, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.text == "" {
		return
	}
	if a.until <= float64(now.UnixNano())/1e9 {
		a.text, a.until = "", 0
		return
	}
	h.Set(affinityHeader, a.text)
}
