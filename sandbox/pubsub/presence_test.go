package pubsub

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// watcher is an observer that records what it is notified of.
type watcher struct{ lines []string }

func (w *watcher) Inspect(Publication) any { return "note" }
func (w *watcher) Published(m *Message, note any) {
	w.lines = append(w.lines, fmt.Sprintf("%v %s %s", note, m.Channel, m.Body()))
}
func (w *watcher) Polled(uuid string, channels []string) {
	w.lines = append(w.lines, fmt.Sprintf("polled %s %v", uuid, channels))
}
func (w *watcher) Presence(e PresenceEvent) {
	line := fmt.Sprintf("%s %s %s %s", presenceActions[e.Kind], e.Channel, e.UUID, e.State)
	if e.Polling {
		line += " polling"
	}
	w.lines = append(w.lines, line)
}

func (w *watcher) expect(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.lines); diff != "" {
		t.Error(diff)
	}
	w.lines = nil
}

func TestPresenceLife(t *testing.T) {
	now := time.Unix(1700000000, 0)
	w := &watcher{}
	s := newSpace(t, func(c *Config) { c.Now = func() time.Time { return now }; c.Observer = w })
	sub := Subscription{Channels: []string{"c", "c-pnpres"}, UUID: "u", Timeout: 20 * time.Second, Join: true}
	s.SetState([]string{"c"}, "u", []byte(`{"n":0}`)) // before anything else: kept, but makes nobody present
	w.expect(t)
	sub.Cursor = s.Handshake(sub)
	w.expect(t, `join c u {"n":0}`)
	now = now.Add(s.cfg.PresenceDelay)
	s.Announce()
	if got := payloads(look(t, s, sub.Cursor, "c-pnpres")); len(got) != 1 || got[0] != `{"action":"join","timestamp":1700000000,"uuid":"u","occupancy":1}` {
		t.Errorf("own join: %v", got)
	}
	w.lines = nil

	now = now.Add(19 * time.Second)
	s.Expire()
	s.Heartbeat([]string{"c"}, "u", 20*time.Second, map[string]json.RawMessage{"c": json.RawMessage(`{"n":1}`)})
	now = now.Add(19 * time.Second)
	s.Expire()
	w.expect(t, `state-change c u {"n":1}`)
	if diff := cmp.Diff(map[string][]Occupant{"c": {{"u", []byte(`{"n":1}`)}}}, s.HereNow([]string{"c", "d"})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"c"}, s.WhereNow("u")); diff != "" {
		t.Error(diff)
	}

	p := s.Open(sub) // a sign of life when it arrives and when it is answered, not in between
	now = now.Add(20 * time.Second)
	s.Expire()
	w.expect(t, `polled u [c c-pnpres]`, `timeout c u {"n":1}`)
	s.Heartbeat([]string{"c"}, "u", 20*time.Second, nil)
	w.expect(t, `join c u  polling`)
	p.Close(true)

	s.Leave([]string{"c"}, "u")
	s.SetState([]string{"c"}, "u", []byte(`{"n":2}`)) // may follow a leave
	w.expect(t, `leave c u `)
	if got := s.HereNow(nil); len(got["c"]) != 0 {
		t.Errorf("present after leave: %v", got)
	}
	now = now.Add(DefaultPresenceTimeout)
	s.Expire()
	w.expect(t)
	if st := s.Stats(); st.Members != 0 {
		t.Errorf("%d members left", st.Members)
	}
}

func TestShorterTimeoutCounts(t *testing.T) {
	now := time.Unix(1700000000, 0)
	w := &watcher{}
	s := newSpace(t, func(c *Config) { c.Now = func() time.Time { return now }; c.Observer = w })
	s.Heartbeat([]string{"c"}, "u", 0, nil)
	s.Heartbeat([]string{"c"}, "u", 5*time.Second, nil)
	w.lines = nil
	now = now.Add(5 * time.Second)
	s.Expire()
	w.expect(t, "timeout c u ")
}
