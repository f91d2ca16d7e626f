package client

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// fedSession is a session that gets what the test takes, as from a feed.
func fedSession() *Session {
	s := new(Client).newSession(nil)
	s.taskID, s.feed = "t", new(feed)
	return s
}

// announcement is the event that announces streams.
func announcement(t *testing.T, timetoken int, ids ...string) Event {
	t.Helper()
	streams := map[string]any{}
	for _, id := range ids {
		streams[id] = map[string]string{"direction": "outbound", "format": "bytes", "affinity": "dedicated", "channel": "c", "token": "t"}
	}
	body, err := json.Marshal(map[string]any{"type": "progress", "taskId": "t", "streamEvent": "stream_started", "streams": streams})
	if err != nil {
		t.Fatal(err)
	}
	if found, dropped, ok := wire.DecodeStreamStarted(body); !ok || len(dropped) != 0 || len(found) != len(ids) {
		t.Fatalf("%s announces %v, %v", body, found, dropped)
	}
	return eventOf(body, fmt.Sprintf("%017d", timetoken))
}

// TestWaitersInLineMissNothing: many look for a stream before and after it is announced, and nothing comes behind it that would
// wake them again. All stand in line for the lock, which is handed on in that order once somebody has waited for a
// millisecond. So whoever gave it up between looking and waiting, or between telling and keeping, would have it back only
// when all others had had it.
func TestWaitersInLineMissNothing(t *testing.T) {
	const rounds, crowd = 20, 20
	starve := func() { time.Sleep(2 * time.Millisecond) } // what it leads to makes the test sharp, and not pass
	s := fedSession()
	for round := range rounds {
		id := fmt.Sprintf("s-%d", round)
		announced := announcement(t, round+1, id)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // bounds hangs
		var all sync.WaitGroup
		s.mu.Lock()
		for i := range crowd {
			if i == crowd/2 {
				starve()
				all.Go(func() { s.take(announced) })
				starve()
			}
			all.Go(func() {
				if err := waitFor(ctx, s, id, i%4 == 0); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		starve()
		s.mu.Unlock()
		s.mu.Lock() // the first in line wakes in vain, and from now on nobody overtakes
		starve()
		s.mu.Unlock()
		all.Wait()
		cancel()
		if t.Failed() {
			return
		}
	}
}

// waitFor waits for a stream, or for the event that announces it: what an event announces is there when the event is.
func waitFor(ctx context.Context, s *Session, id string, byEvent bool) error {
	if !byEvent {
		_, err := s.WaitStream(ctx, id)
		return err
	}
	for e, err := range s.Events(ctx) {
		if err != nil {
			return err
		}
		if strings.Contains(string(e.Raw), `"`+id+`"`) {
			s.mu.Lock()
			known := s.streams.byID[id]
			s.mu.Unlock()
			if known == nil {
				return fmt.Errorf("the event of %s is here, and the stream is not", id)
			}
			return nil
		}
	}
	return fmt.Errorf("no event announces %s", id)
}

// TestEventsComeWhileOneIsLookedAt: what comes while the body of the loop runs is the next event, though nothing comes after it.
func TestEventsComeWhileOneIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fedSession()
		s.take(announcement(t, 1, "s-1"))
		n := 1
		for e, err := range s.Events(t.Context()) {
			if id := fmt.Sprintf(`"s-%d"`, n); err != nil || !strings.Contains(string(e.Raw), id) {
				t.Fatalf("event %d: %s, %v", n, e.Raw, err)
			}
			if n++; n > 20 {
				return
			}
			s.take(announcement(t, n, fmt.Sprintf("s-%d", n)))
		}
	})
}
