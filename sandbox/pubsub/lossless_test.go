package pubsub

import (
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestLossless: a channel, and a wildcard over it, can be caught up with from the beginning, page by page; the bound of
// the memory still holds, and what it takes away is in no ring.
func TestLossless(t *testing.T) {
	const all = 25
	var want []string
	for i := range all {
		want = append(want, strconv.Itoa(i))
	}
	read := func(t *testing.T, s *Space, channel string) (got []string) {
		t.Helper()
		cursor := int64(1000)
		for {
			a := look(t, s, cursor, channel)
			if len(a.M) > 10 {
				t.Fatalf("%d messages in an answer", len(a.M))
			}
			if len(a.M) == 0 {
				return got
			}
			got = append(got, payloads(a)...)
			cursor, _ = strconv.ParseInt(a.T.T, 10, 64)
		}
	}
	fill := func(s *Space) {
		look(t, s, 1000, "a.*") // the wildcard has a ring from here on
		for i := range all {
			s.Publish(Publication{Channel: "a.b", Body: []byte(strconv.Itoa(i))})
		}
	}
	s := newSpace(t, func(c *Config) { c.RingSize, c.Lossless = 10, true })
	fill(s)
	for _, channel := range []string{"a.b", "a.*"} {
		if diff := cmp.Diff(want, read(t, s, channel)); diff != "" {
			t.Errorf("%s: %s", channel, diff)
		}
	}
	one := newSpace(t, nil)
	one.put("a.b", "0")
	bounded := newSpace(t, func(c *Config) { c.RingSize, c.Lossless, c.HistoryBytes = 10, true, 12*one.Stats().Bytes })
	fill(bounded)
	for _, channel := range []string{"a.b", "a.*"} {
		got := read(t, bounded, channel)
		if diff := cmp.Diff(want[all-len(got):], got); diff != "" || len(got) <= 10 || len(got) > 13 {
			t.Errorf("bounded, %s: %d messages %s", channel, len(got), diff)
		}
	}
	if n := len(bounded.patterns["a.*"].ring); n > 13 {
		t.Errorf("the wildcard holds on to %d messages", n)
	}
}
