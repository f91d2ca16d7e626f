package pubnub

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// The Go SDK's defects in its subscribe loop, each of which is a reason for the loop in network/link.

// TestGoSDKReorders: one goroutine per message hands it to the listener, so that they overtake each other.
func TestGoSDKReorders(t *testing.T) {
	k := network(t)
	c := start(t, "go", k.open("reader"))
	c.subscribe(command{Channels: []string{"order"}})
	writer := k.open("writer")
	var connections sync.WaitGroup
	defer connections.Wait()
	for round := range 200 {
		// Several at once, so that they come in one answer; no more than the ring holds.
		for range 8 {
			connections.Go(func() {
				for i := range 10 {
					res, err := http.Get(fmt.Sprintf("http://%s/publish/%s/%s/0/order/0/%d?uuid=w", k.origin, writer.PublishKey, writer.SubscribeKey, i))
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
			})
		}
		last := ""
		for range 80 {
			e := c.next("message")
			if e.Timetoken < last {
				t.Logf("round %d: message %s came after %s", round, e.Timetoken, last)
				connections.Wait()
				http.DefaultClient.CloseIdleConnections()
				return
			}
			last = e.Timetoken
		}
	}
	t.Error("16,000 messages came in order: the SDK no longer has this defect")
}

// TestGoSDKMultipliesLoops: subscribe calls that follow each other at once start a loop each, and each message is
// delivered by each.
func TestGoSDKMultipliesLoops(t *testing.T) {
	k := network(t)
	for round := range 20 {
		c := start(t, "go", k.open(fmt.Sprintf("many-%d", round)))
		for i := range 10 {
			c.send(command{Op: "subscribe", Channels: []string{fmt.Sprintf("loop.%d.%d", round, i)}})
		}
		heard := false
		for limit := time.Now().Add(patience); !heard && time.Now().Before(limit); {
			publish(t, k, fmt.Sprintf("loop.%d.0", round), "once")
			select {
			case e := <-c.events:
				heard = e.Event == "message"
			case <-time.After(50 * time.Millisecond):
			}
		}
		if !heard {
			t.Fatalf("round %d: nothing was heard within %s", round, patience)
		}
		// All loops poll by now. What comes twice has the same timetoken.
		seen := map[string]int{}
		publish(t, k, fmt.Sprintf("loop.%d.0", round), "end")
		limit := time.After(quiet)
		for done := false; !done; {
			select {
			case e := <-c.events:
				if e.Event == "message" {
					if seen[e.Timetoken]++; seen[e.Timetoken] > 1 {
						t.Logf("round %d: message %s was delivered again", round, e.Timetoken)
						return
					}
				}
			case <-limit:
				done = true
			}
		}
	}
	t.Error("no message came twice: the SDK no longer has this defect")
}

// TestGoSDKReadsStatusFromText: an error that mentions 403 anywhere counts as one, also in the cursor of the request that
// a broken connection ended.
func TestGoSDKReadsStatusFromText(t *testing.T) {
	k := network(t)
	const accessDenied = 9
	for cursor, denied := range map[string]bool{"17000403000000001": true, "17000000000000001": false} {
		p := newProxy(t, k.origin)
		p.mu.Lock()
		p.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/v2/subscribe/") {
				return false
			}
			if r.URL.Query().Get("tt") == "" {
				status(200, `{"t":{"t":"`+cursor+`","r":1},"m":[]}`)(w, r)
			} else {
				cut(false)(w, r)
			}
			return true
		}
		p.mu.Unlock()
		cfg := k.open("reader")
		cfg.Origin = p.origin()
		c := start(t, "go", cfg)
		c.do(command{Op: "subscribe", Channels: []string{"c"}}, nil)
		e := c.until("status", func(e event) bool { return e.Category != "Connected" })
		if (e.Number == accessDenied) != denied {
			t.Errorf("a connection that broke at cursor %s: status %d %s, want access denied: %v", cursor, e.Number, e.Category, denied)
		}
	}
}

// TestGoSDKDiesOfFileEvent: a file event whose message is a text ends the whole process.
func TestGoSDKDiesOfFileEvent(t *testing.T) {
	k := network(t)
	c := start(t, "go", k.open("reader"))
	c.subscribe(command{Channels: []string{"files"}})
	file := url.PathEscape(`{"message":"plain","file":{"id":"1","name":"f.txt"}}`)
	if status, body := get(t, k.origin, fmt.Sprintf("/v1/files/publish-file/%s/%s/0/files/0/%s?uuid=w", k.openPublish, k.openSubscribe, file)); status != 200 {
		t.Fatal(body)
	}
	select {
	case <-c.gone:
	case <-time.After(patience):
		t.Error("the process lives: the SDK no longer has this defect")
	}
}
