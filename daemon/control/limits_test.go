package control

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

func TestShares(t *testing.T) {
	o := operators{uid: 7}
	c := counts{operators: 3, each: 2, others: 3}
	for _, tt := range []struct {
		name string
		peer Peer
		want bool
	}{
		{"a user", Peer{UID: 5}, true}, {"again", Peer{UID: 5}, true}, {"too often", Peer{UID: 5}, false},
		{"another user", Peer{UID: 6}, true}, {"one too many of them all", Peer{UID: 8}, false},
		{"root", Peer{}, true}, {"the daemon", Peer{UID: 7}, true}, {"root again", Peer{}, true}, {"operators, too often", Peer{UID: 7}, false},
		{"a handler as root", Peer{Handler: true}, false},
	} {
		if got := c.take(shareOf(tt.peer, o)); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
	c.give(shareOf(Peer{UID: 5}, o))
	if !c.take(shareOf(Peer{Handler: true}, o)) {
		t.Error("what was given back is not there")
	}
}

// TestNobodyClosesTheSocket: with as many connections as a caller likes the operators still have theirs. Here the caller is
// a handler, because another user cannot be had everywhere.
func TestNobodyClosesTheSocket(t *testing.T) {
	var handler atomic.Bool
	path := serveOwned(t, &fakeDaemon{}, uint32(os.Getuid()), func(int) bool { return handler.Load() })
	handler.Store(true)
	held := 0
	for range 4 * userConnections {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(3 * time.Minute))
		if _, err := c.Read(make([]byte, 9)); err == nil { // the server speaks first: its settings
			held++
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("neither let in nor closed")
		}
	}
	if held > userConnections {
		t.Errorf("%d connections were let in", held)
	}
	handler.Store(false)
	if _, err := dial(t, path).Status(t.Context()); err != nil {
		t.Errorf("an operator is kept out: %v", err)
	}
}

func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	var r refusals
	now := time.Unix(1000, 0)
	for i, want := range []bool{true, false, false, true, false} {
		if i == 3 {
			now = now.Add(refusalPause)
		}
		log, unsaid := r.say(now)
		if log != want || log && i == 3 && unsaid != 2 {
			t.Errorf("refusal %d: %t, %d", i, log, unsaid)
		}
	}
}
