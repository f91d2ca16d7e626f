package link_test

// These tests run the SDK's own subscribe loop beside ours, on the same faults. They are the reasons for having our own;
// if one of them fails because the SDK has become better, the decision can be taken back.

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pubnub "github.com/pubnub/go/v7"

	"github.com/blocksd/blocksd/network/link"
)

// sdk is a client of the SDK that subscribes through its own faults.
func (n *network) sdk(t *testing.T, channel string) (*faults, *pubnub.Listener) {
	f := &faults{next: n.faults.next}
	c := pubnub.NewConfigWithUserId("sdk")
	c.Origin, c.Secure = n.origin, false
	c.PublishKey, c.SubscribeKey = keys.PublishKey, keys.SubscribeKey
	c.MaxWorkers = 0
	c.SuppressLeaveEvents = true
	pn := pubnub.NewPubNub(c)
	pn.SetClient(&http.Client{Transport: f})
	pn.SetSubscribeClient(&http.Client{Transport: f})
	ls := pubnub.NewListener()
	ls.Status = make(chan *pubnub.PNStatus, 100)
	ls.Message = make(chan *pubnub.PNMessage, 10_000)
	pn.AddListener(ls)
	t.Cleanup(func() { link.DestroySDK(pn) })
	pn.Subscribe().Channels([]string{channel}).Execute()
	awaitStatus(t, ls, pubnub.PNConnectedCategory)
	return f, ls
}

func awaitStatus(t *testing.T, ls *pubnub.Listener, want pubnub.StatusCategory) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-ls.Status:
			if s.Category == want {
				return
			}
		case <-deadline:
			t.Fatalf("the SDK never reported status %v", want)
		}
	}
}

func TestSDKStaysDeadAfterOne503(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.hold = 20 * time.Millisecond })
	once := func() fault {
		var left atomic.Int32
		left.Store(1)
		return func(r *http.Request) (*http.Response, error, bool) {
			if strings.Contains(pathOf(r), "/v2/subscribe/") && left.Add(-1) >= 0 {
				return answer(503, `{"status":503}`), nil, false
			}
			return nil, nil, false
		}
	}
	f, theirs := n.sdk(t, "c")
	ours := n.listen(n.link(), link.SubscribeConfig{Channels: []string{"c"}})
	ours.until(link.Connected)
	f.set(once())
	n.faults.set(once())
	awaitStatus(t, theirs, pubnub.PNDisconnectedUnexpectedlyCategory)
	ours.until(link.Lost)
	ours.until(link.Connected)
	polls := len(f.requests("/v2/subscribe/"))
	for i := range 20 { // each one is a round trip of ours, so that the SDK had time for as many
		n.publish("c", fmt.Sprint(i))
		ours.expect(i, 1)
	}
	if now := len(f.requests("/v2/subscribe/")); now != polls || len(theirs.Message) > 0 {
		t.Errorf("the SDK's loop has recovered from a 503 (%d polls, then %d; %d messages): our own loop may be given up", polls, now, len(theirs.Message))
	}
}

func TestSDKReordersMessages(t *testing.T) {
	n := newNetwork(t, func(s *setup) { s.ring = 5000 })
	_, theirs := n.sdk(t, "c")
	ours := n.listen(n.link(), link.SubscribeConfig{Channels: []string{"c"}})
	ours.until(link.Connected)
	const count = 2000
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for i := range count {
			n.publish("c", fmt.Sprint(i))
		}
	})
	ours.expect(0, count)
	publishing.Wait()
	inversions, last := 0, -1
	deadline := time.After(patience)
	for got := range count {
		select {
		case m := <-theirs.Message:
			v, err := strconv.Atoi(fmt.Sprint(m.Message))
			if err != nil {
				t.Fatal(err)
			}
			if v < last {
				inversions++
			}
			last = v
		case <-deadline:
			t.Logf("the SDK delivered only %d of %d messages", got, count)
			return
		}
	}
	t.Logf("%d messages, all in order through our loop; the SDK's delivered %d before an older one", count, inversions)
}
