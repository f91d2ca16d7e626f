package pubnub

import (
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pubnub "github.com/pubnub/go/v7"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/switches"
)

// member is one of many clients in the driver of the Go SDK.
type member struct {
	pn *pubnub.PubNub

	mu   sync.Mutex // guards seen
	seen map[string]int
}

// gather starts count clients that subscribe to channels, or to a channel each, and returns when all are connected. Few
// do so at a time: on a busy machine a thousand at once would run into time-outs.
func (d *sdkDriver) gather(c command) {
	channels := c.names(c.Channels)
	var connected sync.WaitGroup
	turns := make(chan struct{}, 16)
	for i := range c.Count {
		turns <- struct{}{}
		name := fmt.Sprint(c.Name, ".", i)
		cfg := pubnub.NewConfigWithUserId(pubnub.UserId(name))
		cfg.Origin, cfg.Secure = d.pn.Config.Origin, false
		cfg.PublishKey, cfg.SubscribeKey = d.pn.Config.PublishKey, d.pn.Config.SubscribeKey
		cfg.NonSubscribeRequestTimeout, cfg.ConnectTimeout, cfg.MaxWorkers = d.pn.Config.NonSubscribeRequestTimeout, d.pn.Config.ConnectTimeout, 0
		m := &member{pn: pubnub.NewPubNub(cfg), seen: map[string]int{}}
		d.crowd = append(d.crowd, m)
		listener := pubnub.NewListener()
		m.pn.AddListener(listener)
		connected.Add(1)
		ready := sync.OnceFunc(func() { <-turns; connected.Done() })
		go func() {
			for {
				select {
				case s := <-listener.Status:
					if s.Category == pubnub.PNConnectedCategory {
						ready()
					} else {
						fmt.Fprintln(os.Stderr, name, "is told", s.Category)
					}
				case e := <-listener.Message:
					m.mu.Lock()
					m.seen[fmt.Sprint(e.Channel, " ", e.Message)]++
					m.mu.Unlock()
				case <-listener.Presence:
				case <-listener.Signal:
				case <-listener.File:
				case <-listener.MessageActionsEvent:
				}
			}
		}()
		own := channels
		if len(own) == 0 {
			own = []string{name}
		}
		m.pn.Subscribe().Channels(own).Execute()
	}
	connected.Wait()
}

// volley has every client of the crowd publish one message on each channel, all at the same time.
func (d *sdkDriver) volley(c command) error {
	errs := make(chan error, len(d.crowd)) // room for all: nobody waits when one has failed
	for i, m := range d.crowd {
		go func() {
			for _, channel := range c.names(c.Channels) {
				if _, _, err := m.pn.Publish().Channel(channel).Message(fmt.Sprint(c.Message, " ", c.Name, ".", i)).Execute(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range d.crowd {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// tally says for each client of the crowd how many messages it heard, and how many deliveries that took.
func (d *sdkDriver) tally() (out [][2]int) {
	for _, m := range d.crowd {
		m.mu.Lock()
		all := 0
		for _, n := range m.seen {
			all += n
		}
		out = append(out, [2]int{len(m.seen), all})
		m.mu.Unlock()
	}
	return out
}

// inside runs a sandbox in this process, so that the race detector watches it. stop ends it and may be called once.
func inside(t *testing.T, cfg sandbox.Config) (s *sandbox.Sandbox, k keys, stop func()) {
	t.Helper()
	n := sandboxtest.Start(t, cfg)
	return n.Sandbox, keysOf(n.Environ()), n.Stop
}

// gathered starts a crowd of each SDK, all at once.
func gathered(t *testing.T, k keys, crowd map[string]int, channels []string) map[string]*client {
	t.Helper()
	clients, answers := map[string]*client{}, map[string]<-chan answer{}
	for sdk, n := range crowd {
		clients[sdk] = start(t, sdk, k.open("head-"+sdk))
		answers[sdk] = clients[sdk].send(command{Op: "gather", Count: n, Name: sdk, Channels: channels})
	}
	for sdk, a := range answers {
		clients[sdk].within(4*patience, "gather", a)
	}
	return clients
}

// within waits for the answer of what many clients do.
func (c *client) within(limit time.Duration, what string, answered <-chan answer) {
	c.t.Helper()
	select {
	case a := <-answered:
		if !a.OK {
			c.t.Fatalf("%s: %s: %s", c.name, what, a.Error)
		}
	case <-time.After(limit):
		c.t.Fatalf("%s: no answer to %s within %s", c.name, what, limit)
	}
}

// TestIdlePolls: six hundred clients of the three SDKs wait, each on a channel of its own, for messages that do not come.
// Every poll is answered empty with the cursor that it brought, and nothing is left of them in the end. The hold is short,
// but not so short that a slow machine has no time for anything else.
func TestIdlePolls(t *testing.T) {
	crowd := map[string]int{"go": 200, "javascript": 350, "python": 50}
	const total, rounds = 600, 2
	before := runtime.NumGoroutine()
	s, k, stop := inside(t, sandbox.Config{PubNub: switches.PubNub{HoldPoll: 4 * time.Second}})
	s.Faults().Record(true, 100_000)
	clients := gathered(t, k, crowd, nil)
	cursors := map[string][]string{}
	after := int64(0)
	system.Eventually(t, 4*patience, fmt.Sprintf("each of %d clients polls %d times", total, rounds), func() bool {
		time.Sleep(200 * time.Millisecond) // the machine has better things to do than to be asked
		for _, r := range s.Faults().Requests(after) {
			after = r.Seq
			u, err := url.Parse(r.Path)
			if err != nil || r.Endpoint != "subscribe" {
				continue
			}
			if tt := u.Query().Get("tt"); tt != "" && tt != "0" {
				cursors[r.UUID] = append(cursors[r.UUID], tt)
			}
		}
		done := 0
		for _, c := range cursors {
			if len(c) >= rounds {
				done++
			}
		}
		return done == total
	})
	for uuid, c := range cursors {
		if distinct := slices.Compact(c); len(distinct) != 1 {
			t.Errorf("%s: the cursor moved without a message: %v", uuid, distinct)
		}
	}
	for _, c := range clients {
		var tally [][2]int
		c.do(command{Op: "tally"}, &tally)
		for i, n := range tally {
			if n[1] != 0 {
				t.Errorf("%s.%d heard %d messages", c.name, i, n[1])
			}
		}
		c.kill()
	}
	for _, r := range s.Faults().Requests(0) {
		if r.Endpoint == "subscribe" && r.Status != 200 && r.Status != 0 {
			t.Errorf("poll answered %d: %s", r.Status, strings.SplitN(r.Path, "?", 2)[0])
			break
		}
	}
	stop()
	system.Eventually(t, patience, fmt.Sprintf("no more goroutines than the %d before", before), func() bool { return runtime.NumGoroutine() <= before })
}

// TestCrowd: fifty clients of the three SDKs publish at the same time on ten channels and listen to all of them: every
// message comes to everyone exactly once.
func TestCrowd(t *testing.T) {
	crowd := map[string]int{"go": 20, "javascript": 20, "python": 10}
	const members, rounds = 50, 4
	var channels []string
	for i := range 10 {
		channels = append(channels, fmt.Sprint("crowd.", i))
	}
	_, k, _ := inside(t, sandbox.Config{})
	clients := gathered(t, k, crowd, channels)
	for round := range rounds {
		// A round is half of what a channel's ring holds: nobody can fall behind it.
		answers := map[*client]<-chan answer{}
		for sdk, c := range clients {
			answers[c] = c.send(command{Op: "volley", Channels: channels, Name: sdk, Message: fmt.Sprint("round ", round)})
		}
		for c, a := range answers {
			c.within(4*patience, "volley", a)
		}
		want := (round + 1) * members * len(channels)
		for sdk, c := range clients {
			var tally [][2]int
			system.Eventually(t, patience, fmt.Sprintf("every client of %s hears %d messages", sdk, want), func() bool {
				c.do(command{Op: "tally"}, &tally)
				return len(tally) == crowd[sdk] && !slices.ContainsFunc(tally, func(n [2]int) bool { return n[0] < want })
			})
			for i, n := range tally {
				if n != [2]int{want, want} {
					t.Errorf("%s.%d: %d messages came in %d deliveries, want %d of each", sdk, i, n[0], n[1], want)
				}
			}
		}
	}
}
