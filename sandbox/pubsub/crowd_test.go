package pubsub

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestIntervalPresence: up to the limit every change is announced; above it there is one event per interval, with all the
// changes, and when the crowd is gone single events again.
func TestIntervalPresence(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s := newSpace(t, func(c *Config) {
		c.Now = func() time.Time { return now }
		c.AnnounceMax, c.PresenceInterval = 2, 10*time.Second
	})
	cursor := s.Handshake(Subscription{Channels: []string{"c-pnpres"}})
	announced := func() []string {
		a := look(t, s, cursor, "c-pnpres")
		cursor = number(a.T.T)
		var out []string
		for _, d := range payloads(a) {
			out = append(out, regexp.MustCompile(`,"timestamp":[0-9]+`).ReplaceAllString(d, ""))
		}
		return out
	}
	expect := func(step string, want ...string) {
		t.Helper()
		now = now.Add(s.cfg.PresenceDelay)
		s.Expire()
		if diff := cmp.Diff(want, announced()); diff != "" {
			t.Errorf("%s: %s", step, diff)
		}
	}
	join := func(uuid string) { s.Heartbeat([]string{"c"}, uuid, 0, nil) }
	join("a")
	join("b")
	expect("few", `{"action":"join","uuid":"a","occupancy":1}`, `{"action":"join","uuid":"b","occupancy":2}`)
	join("d")
	join("c")
	s.SetState([]string{"c"}, "c", []byte(`{}`))
	expect("many, too early")
	now = now.Add(10 * time.Second)
	expect("many", `{"action":"interval","occupancy":4,"join":["c","d"]}`)
	s.Leave([]string{"c"}, "a")
	s.Leave([]string{"c"}, "b")
	join("e")
	s.Leave([]string{"c"}, "e")
	expect("fewer, too early")
	now = now.Add(10 * time.Second)
	expect("fewer", `{"action":"interval","occupancy":2,"join":["e"],"leave":["a","b","e"]}`)
	s.Leave([]string{"c"}, "c")
	expect("few again", `{"action":"leave","uuid":"c","occupancy":1}`)
	now = now.Add(10 * time.Second)
	expect("nothing more")
	for i := range 2000 {
		join(fmt.Sprintf("somebody-with-a-long-name-%d", i))
	}
	now = now.Add(s.cfg.PresenceDelay)
	s.Announce() // the first of them is the second member
	cursor = s.Timetoken()
	now = now.Add(10 * time.Second)
	expect("too many to name", `{"action":"interval","occupancy":2001,"here_now_refresh":true}`)
	now = now.Add(DefaultPresenceTimeout)
	cursor = s.Timetoken()
	expect("all time out", `{"action":"interval","occupancy":0,"here_now_refresh":true}`)
	if st := s.Stats(); st.Members != 0 || len(s.crowds) != 0 {
		t.Errorf("left: %+v, %d crowds", st, len(s.crowds))
	}
}

func TestPresenceThroughWildcard(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s := newSpace(t, func(c *Config) { c.Now = func() time.Time { return now } })
	cursor := s.Handshake(Subscription{Channels: []string{"a.*-pnpres"}})
	s.Heartbeat([]string{"a.b", "b.a"}, "u", 0, nil)
	now = now.Add(s.cfg.PresenceDelay)
	s.Announce()
	a := look(t, s, cursor, "a.*-pnpres", "other")
	if len(a.M) != 1 || a.M[0].C != "a.*-pnpres" || a.M[0].B != "a.*-pnpres" {
		t.Errorf("%+v", a)
	}
}
