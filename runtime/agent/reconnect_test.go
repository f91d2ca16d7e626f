package agent

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestPresenceIsSentAgain: a network that was out of reach may have forgotten the state of an instance, which gets no
// tasks without it; it learns it at once and not with the next heartbeat.
func TestPresenceIsSentAgain(t *testing.T) {
	n := newNetwork(t, true)
	f := n.fault()
	a := n.serve(cardOf(t, "worker", 4, ""), newStage(), func(c *Config) {
		n.through(f)(c)
		c.Timeouts.Heartbeat = time.Hour
	})
	a.await(StateOnline)
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		return isSubscribe(r) && refuse(w, http.StatusServiceUnavailable)
	})
	a.control(`{"type":"RetryTask","taskId":"none"}`) // ends the poll that is held
	a.await(StateConnecting)
	notified := make(chan struct{}, 10)
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/data") {
			notified <- struct{}{}
		}
		return false
	})
	a.await(StateOnline)
	select {
	case <-notified:
	case <-time.After(patience):
		t.Error("the state was not sent to the network again")
	}
}

// TestLatestReason: the status says what is wrong now, not what was first.
func TestLatestReason(t *testing.T) {
	n := newNetwork(t, true)
	f := n.fault()
	moved := make(chan struct{}, 1000)
	a := n.serve(cardOf(t, "worker", 4, ""), newStage(), func(c *Config) {
		n.through(f)(c)
		c.OnMoved = func() { moved <- struct{}{} }
	})
	a.await(StateOnline)
	says := func(text string) {
		t.Helper()
		eventually(t, "the status says "+text, func() bool {
			s := a.Status()
			return s.State == StateConnecting && strings.Contains(s.Reason, text)
		})
	}
	answering := func(subscribe, connect int) {
		f.set(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case isSubscribe(r):
				return refuse(w, subscribe)
			case strings.HasSuffix(r.URL.Path, "/connect"):
				return refuse(w, connect)
			}
			return false
		})
	}
	answering(http.StatusServiceUnavailable, http.StatusOK)
	a.control(`{"type":"RetryTask","taskId":"none"}`) // ends the poll that is held
	says("status 503")
	answering(http.StatusBadGateway, http.StatusOK)
	says("status 502")
	if len(moved) != 0 {
		t.Error("a network that has just failed is taken for one that has moved")
	}
	answering(http.StatusForbidden, http.StatusTeapot)
	says("connect agent worker: the network answered with status 418")
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		return isSubscribe(r) && refuse(w, http.StatusBadRequest)
	})
	says("status 400")
	select {
	case <-moved:
	case <-time.After(patience):
		t.Error("nobody learns that the network does not know the keys")
	}
	f.set(nil)
	a.await(StateOnline)
}
