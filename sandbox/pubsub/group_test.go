package pubsub

import (
	"errors"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func TestGroupLimits(t *testing.T) {
	s := newSpace(t, func(c *Config) { c.GroupSize = 2 })
	if err := s.AddToGroup("g", []string{"a", "a", "b"}); err != nil {
		t.Error(err)
	}
	if err := s.AddToGroup("g", []string{"c"}); !errors.Is(err, ErrGroupFull) {
		t.Errorf("third channel: %v", err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, s.Group("g")); diff != "" {
		t.Error(diff)
	}
	s.RemoveFromGroup("g", []string{"a", "b"})
	if len(s.groups) != 0 {
		t.Errorf("%d groups left", len(s.groups))
	}
}

// TestHeldPollFollowsItsGroup: a poll that is being held hears the channels that its group has at the time of a
// message, whatever the order of changes and messages; and nothing of it is left behind.
func TestHeldPollFollowsItsGroup(t *testing.T) {
	channels := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		s, err := New(Config{SubscribeKey: "s"})
		if err != nil {
			t.Fatal(err)
		}
		p := s.Open(Subscription{Channels: []string{"a"}, Groups: []string{"g"}, UUID: "u", Cursor: s.Timetoken()})
		members := map[string]bool{}
		drain := func() {
			select {
			case <-p.Wake():
			default:
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				c := rapid.SampledFrom(channels).Draw(t, "channel")
				if err := s.AddToGroup("g", []string{c}); err != nil {
					t.Fatal(err)
				}
				members[c] = true
				drain()
			},
			"remove": func(t *rapid.T) {
				c := rapid.SampledFrom(channels).Draw(t, "channel")
				s.RemoveFromGroup("g", []string{c})
				delete(members, c)
				drain()
			},
			"delete": func(*rapid.T) {
				s.DeleteGroup("g")
				clear(members)
				drain()
			},
			"publish": func(t *rapid.T) {
				c := rapid.SampledFrom(channels).Draw(t, "channel")
				s.Publish(Publication{Channel: c, Body: []byte(`1`)})
				woken := false
				select {
				case <-p.Wake():
					woken = true
				default:
				}
				if want := c == "a" || members[c]; woken != want {
					t.Fatalf("message on %s with group %v: woken %v", c, members, woken)
				}
			},
			"": func(t *rapid.T) {
				if got := s.Group("g"); len(got) != len(members) {
					t.Fatalf("group %v, want %v", got, members)
				}
			},
		})
		p.Close(false)
		s.DeleteGroup("g")
		s.Forget(channels...)
		if st := s.Stats(); st != (Stats{}) || len(s.groups) != 0 {
			t.Fatalf("left behind: %+v, %d groups", st, len(s.groups))
		}
	})
}
