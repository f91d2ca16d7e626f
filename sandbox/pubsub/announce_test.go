package pubsub

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPresenceComesLater: an event comes a moment after its cause, so who subscribes in between sees it; and it says how
// it was then.
func TestPresenceComesLater(t *testing.T) {
	now := time.Unix(1700000000, 0)
	s := newSpace(t, func(c *Config) { c.Now = func() time.Time { return now }; c.PresenceDelay = 70 * time.Millisecond })
	s.Heartbeat([]string{"c"}, "u", 0, nil) // beside the handshake, and before it
	cursor := s.Handshake(Subscription{Channels: []string{"c", "c-pnpres"}, UUID: "u", Join: true})
	other := s.Handshake(Subscription{Channels: []string{"c-pnpres"}, UUID: "w", Join: true})
	now = now.Add(60 * time.Millisecond)
	s.Heartbeat([]string{"c"}, "v", 0, nil)
	if next := s.Announce(); next != 10*time.Millisecond {
		t.Errorf("the first event is due in %s", next)
	}
	if got := payloads(look(t, s, cursor, "c-pnpres")); len(got) != 0 {
		t.Errorf("too early: %v", got)
	}
	now = now.Add(10 * time.Millisecond)
	if next := s.Announce(); next != 60*time.Millisecond {
		t.Errorf("the second event is due in %s", next)
	}
	for _, since := range []int64{cursor, other} {
		got := payloads(look(t, s, since, "c-pnpres"))
		if len(got) != 1 || got[0] != `{"action":"join","timestamp":1700000000,"uuid":"u","occupancy":1}` {
			t.Errorf("seen after %d: %v", since, got)
		}
	}
	now = now.Add(-time.Hour) // the clock is set back: nothing waits for an hour
	if next := s.Announce(); next != idle {
		t.Errorf("an event is left, due in %s", next)
	}
	if got := payloads(look(t, s, cursor, "c-pnpres")); len(got) != 2 || !strings.Contains(got[1], `"uuid":"v","occupancy":2`) {
		t.Errorf("in the end: %v", got)
	}
}

// A channel that is forgotten has no news any more.
func TestForgetTakesPendingEvents(t *testing.T) {
	s := newSpace(t, nil)
	p := s.Open(Subscription{Channels: []string{"c-pnpres"}, Cursor: 1})
	defer p.Close(false)
	s.Heartbeat([]string{"c", "d"}, "u", 0, nil)
	s.Forget("c")
	if len(s.pending) != 1 || s.pending[0].topic.name != "d" {
		t.Errorf("pending: %v", s.pending)
	}
}

// TestRun: the space publishes events by itself, with every clock.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpace(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		p := s.Open(Subscription{Channels: []string{"c-pnpres"}, Cursor: 1})
		for _, wait := range []time.Duration{0, 30 * time.Millisecond, 3 * time.Hour} {
			time.Sleep(wait)
			synctest.Wait()
			began := time.Now()
			s.Heartbeat([]string{"c"}, "u", 0, nil)
			s.Leave([]string{"c"}, "u")
			<-p.Wake()
			if took := time.Since(began); took != s.cfg.PresenceDelay {
				t.Errorf("after %s: the events came after %s", wait, took)
			}
			synctest.Wait()
			select {
			case <-p.Wake():
			default:
			}
		}
		if b, ok := p.Next(); !ok || len(b.Deliveries) != 6 {
			t.Errorf("%d events", len(b.Deliveries))
		}
		p.Close(true)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
