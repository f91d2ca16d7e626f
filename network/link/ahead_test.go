package link_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/link"
)

// polls are the requests of a subscription behind its handshake.
func (n *network) polls() (all []string) {
	for _, r := range n.faults.requests("/v2/subscribe/") {
		if !strings.Contains(r, "tt=0&") {
			all = append(all, r)
		}
	}
	return all
}

// TestSubscribeAsksAhead: the next messages are asked for while those before are handed over, once, so that a handler who is
// slow misses less of what the network keeps; and who does not want that is not asked for.
func TestSubscribeAsksAhead(t *testing.T) {
	for _, ahead := range []bool{true, false} {
		n := newNetwork(t, func(s *setup) { s.ring = 10 })
		entered, leave := make(chan string), make(chan struct{})
		ctx, cancel := context.WithCancel(context.Background())
		connected, done := make(chan struct{}, 1), make(chan error, 1)
		go func() {
			done <- n.link().Subscribe(ctx, link.SubscribeConfig{
				Channels: []string{"c"}, Ahead: ahead,
				OnState: func(link.State, error) {
					select {
					case connected <- struct{}{}:
					default:
					}
				},
			}, func(m link.Received) {
				entered <- string(m.Body)
				<-leave
			})
		}()
		<-connected
		testutil.Eventually(t, patience, "it polls", func() bool { return len(n.polls()) == 1 })
		n.publish("c", "0")
		if got := <-entered; got != "0" {
			t.Errorf("got %s first", got)
		}
		// While the handler has the first message, one ring passes, then another one.
		want := 1
		if ahead {
			want = 2
			testutil.Eventually(t, patience, "it polls ahead", func() bool { return len(n.polls()) == 2 })
		}
		n.publish("c", "1")
		testutil.Eventually(t, patience, "what was asked for is answered", func() bool { return n.faults.polling() == 0 })
		for i := range 12 {
			n.publish("c", fmt.Sprint(2+i))
		}
		if got := len(n.polls()); got != want {
			t.Errorf("ahead %t: %d polls while the handler works, want %d", ahead, got, want)
		}
		leave <- struct{}{}
		next := <-entered
		if ahead && next != "1" || !ahead && next != "4" { // the ring holds ten
			t.Errorf("ahead %t: %s follows", ahead, next)
		}
		cancel()
		leave <- struct{}{}
		go func() {
			for {
				select {
				case <-entered:
					leave <- struct{}{}
				case <-t.Context().Done():
					return
				}
			}
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("the subscription does not end")
		}
	}
}

// TestAheadOnlyWhereMessagesAre: an answer without messages, or in another form than the network's, brings no poll before
// it has been looked at.
func TestAheadOnlyWhereMessagesAre(t *testing.T) {
	for body, want := range map[string]bool{
		`{"t":{"t":"17","r":1},"m":[{"a":"1"}]}`:         true,
		`{"t":{"t":"17","r":1},"m":[]}`:                  false,
		`{"t":{"t":"17","r":1},"m":[`:                    false,
		`{"t":{"t":"17","r":1}`:                          false,
		`{"t":{"t":17,"r":1},"m":[{`:                     false,
		`{"t":{"t":"0","r":1},"m":[{`:                    false,
		`{"t":{"t":"-1","r":1},"m":[{`:                   false,
		`{"t":{"t":"99999999999999999999","r":1},"m":[{`: false,
		`{"t":{"t":"17","r":"1"},"m":[{`:                 false,
		`{"m":[{"t":{"t":"17","r":1}}]}`:                 false,
		``:                                               false,
	} {
		if cursor, region, ok := link.NextPoll([]byte(body)); ok != want || ok && (cursor != 17 || region != 1) {
			t.Errorf("%s: %d, %d, %t", body, cursor, region, ok)
		}
	}
}

// FuzzNextPoll: whatever an answer begins with, a poll is sent ahead only with a cursor.
func FuzzNextPoll(f *testing.F) {
	f.Add([]byte(`{"t":{"t":"17","r":1},"m":[{"c":"a","d":1}]}`))
	f.Add([]byte(`{"t":{"t":"17","r":1},"m":[{}],"t":{"t":"18","r":2}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		cursor, _, ok := link.NextPoll(body[:min(len(body), 128)])
		if ok && cursor == 0 {
			t.Errorf("%q: no cursor", body)
		}
	})
}

// TestAheadIsForgotten: a poll that was sent ahead and refused is no more than a refused poll.
func TestAheadIsForgotten(t *testing.T) {
	n := newNetwork(t)
	ls := n.listen(n.link(), link.SubscribeConfig{Channels: []string{"c"}, Ahead: true, OnDenied: func(context.Context) error { return nil }})
	ls.until(link.Connected)
	var first atomic.Bool
	first.Store(true)
	n.faults.set(func(r *http.Request) (*http.Response, error, bool) {
		if strings.HasPrefix(pathOf(r), "/v2/subscribe/") && first.Swap(false) {
			return answer(403, `{}`), nil, false
		}
		return nil, nil, false
	})
	n.publish("c", "0")
	ls.expect(0, 1)
	ls.until(link.Denied)
	ls.until(link.Connected)
	n.publish("c", "1")
	ls.expect(1, 1)
}
