package pubsub

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestStoredMessagesEnd(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s := newSpace(t, func(c *Config) { c.Now = func() time.Time { return now } })
	for i, ttl := range []time.Duration{0, time.Hour, 2 * time.Hour} {
		s.Publish(Publication{Channel: "c", Body: fmt.Append(nil, i), Store: true, TTL: ttl})
	}
	left := func() (out []string) {
		for _, m := range s.History(HistoryQuery{Channel: "c", Max: 100}) {
			out = append(out, string(m.Body))
		}
		return out
	}
	now = now.Add(time.Hour + time.Microsecond)
	if diff := cmp.Diff([]string{"0", "2"}, left()); diff != "" || s.Count("c", 1) != 2 {
		t.Errorf("after an hour: %s; %d counted", diff, s.Count("c", 1))
	}
	now = now.Add(time.Hour + time.Microsecond)
	s.Expire() // removes them
	if diff := cmp.Diff([]string{"0"}, left()); diff != "" || s.ttls != 0 {
		t.Errorf("after two: %s; %d with an end", diff, s.ttls)
	}
}

// TestActionsAreBounded: actions count for the memory of a space as messages do, and go with their message.
func TestActionsAreBounded(t *testing.T) {
	const limit = 64 << 10
	s := newSpace(t, func(c *Config) { c.HistoryBytes = limit })
	for i := range 2000 {
		tt, _ := s.Publish(Publication{Channel: "c", Body: []byte(`1`), Store: true})
		if _, err := s.AddAction("c", Action{Type: "t", Value: fmt.Sprint(i), UUID: "u", MessageTimetoken: tt}); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.Bytes > limit {
		t.Errorf("%+v", st)
	}
	found, more := s.Actions("c", 0, 0, 1)
	if len(found) != 1 || !more || found[0].Value != "1999" {
		t.Errorf("newest action %+v, more %v", found, more)
	}
	s.DeleteHistory("c", 0, 0)
	if found, _ := s.Actions("c", 0, 0, 10); len(found) != 0 {
		t.Errorf("actions of deleted messages: %+v", found)
	}
	s.Forget("c")
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("left behind: %+v", st)
	}
}
