package agent

// Outages of the whole network and of each endpoint by itself, with fifty running tasks.

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/fault"
	"github.com/blocksd/blocksd/sandbox/switches"
)

const (
	// ownEnd is the story of a task whose handler had its say; networkEnd that of one that the network gave up.
	ownEnd     = "running inline completed"
	networkEnd = "running failed the agent instance that ran the task was lost"
)

// TestOutageOfEverything: the network is unreachable, or silent, for shorter and longer than it waits for an instance.
func TestOutageOfEverything(t *testing.T) {
	for _, tc := range []struct {
		d       time.Duration
		failure failure
		allowed []string
	}{
		{25 * time.Second, unreachable, []string{ownEnd}},
		{60 * time.Second, unreachable, []string{ownEnd}},
		{10 * time.Minute, unreachable, []string{networkEnd}}, // the network has given up long before
		{25 * time.Second, hanging, []string{ownEnd}},
		{10 * time.Minute, hanging, []string{ownEnd, networkEnd}},
	} {
		t.Run(fmt.Sprintf("%v %d", tc.d, tc.failure), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, crowdOf{})
				c.road.set(tc.failure)
				time.Sleep(time.Second)
				c.work(c.tasks[:crowdSize/2]) // these end during the outage
				time.Sleep(tc.d - time.Second)
				c.road.set(none)
				c.work(c.tasks[crowdSize/2:]) // these after it
				c.judge(tc.allowed...)
				c.finish()
			})
		})
	}
}

// TestSilence: a network that goes silent while a poll is held, as behind a firewall that drops everything, shows in the status
// once it may have taken the agent for lost, not only when the poll ends minutes later; and the agent is online again with
// the first answer.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, crowdOf{})
		c.road.set(hanging)
		began := time.Now()
		c.until("the status says so", func() bool { return c.agent.Status().State == StateConnecting })
		if d := time.Since(began); d > wire.PresenceTimeout+15*time.Second {
			t.Errorf("the status said so after %v", d)
		}
		if why := c.agent.Status().Reason; !strings.HasSuffix(why, "; trying again.") {
			t.Errorf("the reason is %q", why)
		}
		c.road.set(none)
		began = time.Now()
		c.until("the agent is online", func() bool { return c.agent.Status().State == StateOnline })
		if d := time.Since(began); d > 15*time.Second {
			t.Errorf("it was online after %v", d)
		}
		for range 10 { // what was held in the silence is not waited for
			time.Sleep(time.Minute)
			if s := c.agent.Status(); s.State != StateOnline {
				t.Errorf("later it is %s: %s", s.State, s.Reason)
			}
		}
		c.work(c.tasks)
		c.judge(ownEnd, networkEnd)
		c.finish()
	})
}

// endpoints are all that an agent uses, each with what has it used while tasks run.
var endpoints = map[string]struct {
	rule fault.Rule
	of   crowdOf
	// use is called when the fault is in force; nil where the work of the tasks does it.
	use func(*crowd)
}{
	"subscribe":      {rule: fault.Rule{Endpoint: "subscribe", Held: true}},
	"publish":        {rule: fault.Rule{Endpoint: "publish"}},
	"heartbeat":      {rule: fault.Rule{Endpoint: "heartbeat"}},
	"state":          {rule: fault.Rule{Endpoint: "state"}},
	"time":           {rule: fault.Rule{Endpoint: "time"}},
	"history":        {rule: fault.Rule{Endpoint: "history"}, use: (*crowd).hiccup},
	"GetTask":        {rule: fault.Rule{Endpoint: "rpc", RPC: "GetTask"}, of: crowdOf{sandbox: sandbox.Config{Blocks: switches.Blocks{NoWriterRead: true}}}, use: (*crowd).hiccup},
	"files":          {rule: fault.Rule{Endpoint: "files"}, of: crowdOf{inputs: true}},
	"request-upload": {rule: fault.Rule{Endpoint: "request-upload"}, of: crowdOf{uploads: true}},
	"blob":           {rule: fault.Rule{Endpoint: "blob"}, of: crowdOf{uploads: true}},
	"confirm-upload": {rule: fault.Rule{Endpoint: "confirm-upload"}, of: crowdOf{uploads: true}},
	"refresh":        {rule: fault.Rule{Endpoint: "refresh"}, of: crowdOf{uploads: true}, use: func(c *crowd) { c.sb.ExpireTokens(false) }},
	"connect":        {rule: fault.Rule{Endpoint: "connect"}, use: (*crowd).revoke},
	"registry": {rule: fault.Rule{Endpoint: "registry"}, use: func(c *crowd) { // asked when connecting is refused for the billing mode
		card := c.agent.cfg.Card
		if c.agent.Status().BillingMode == wire.Free {
			card = paid(c.t, card)
		}
		if err := c.sb.Register(card); err != nil {
			c.t.Fatal(err)
		}
		c.revoke()
	}},
	"cdm": {rule: fault.Rule{Endpoint: "cdm"}, of: crowdOf{onMoved: func(hc *http.Client, url string) { // as the daemon does
		_, _ = backend.FetchCDM(context.Background(), hc, url)
	}}, use: func(c *crowd) {
		heal := c.fail(fault.Rule{Endpoint: "subscribe", Action: fault.Status, Status: http.StatusNotFound, Held: true})
		time.Sleep(10 * time.Second)
		heal()
	}},
}

// TestOutageOfOneEndpoint: each endpoint alone fails in each way for half a minute, one after the other; in each of these
// outages some tasks end, and some after the last.
func TestOutageOfOneEndpoint(t *testing.T) {
	faults := []fault.Rule{
		{Action: fault.Status, Status: http.StatusInternalServerError}, {Action: fault.Status, Status: http.StatusTooManyRequests},
		{Action: fault.Hang}, {Action: fault.Cut},
	}
	for name, e := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, e.of)
				const share = crowdSize / 5
				for i, f := range faults {
					rule := e.rule
					rule.Action, rule.Status = f.Action, f.Status
					heal := c.fail(rule)
					if e.use != nil {
						e.use(c)
					}
					c.work(c.tasks[i*share : (i+1)*share])
					time.Sleep(30 * time.Second)
					if heal() == 0 {
						t.Errorf("the agent did not use the endpoint while it failed with %s %d", f.Action, f.Status)
					}
					time.Sleep(20 * time.Second) // healthy for longer than presence counts
				}
				c.work(c.tasks[len(faults)*share:])
				c.judgeOwn()
				c.finish()
			})
		})
	}
	for _, f := range faults { // the one that is used at the end only
		t.Run(fmt.Sprintf("leave %s %d", f.Action, f.Status), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, crowdOf{})
				f.Endpoint = "leave"
				heal := c.fail(f)
				c.work(c.tasks)
				c.judgeOwn()
				c.leave()
				if heal() == 0 {
					t.Error("the agent did not announce that it leaves")
				}
				c.finish()
			})
		})
	}
}

// revoke takes back the token of the control channel, as an administrator of the network can.
func (c *crowd) revoke() {
	c.t.Helper()
	c.agent.mu.Lock()
	s := c.agent.conn.session
	c.agent.mu.Unlock()
	if err := c.sb.RevokeToken(s.link.Token()); err != nil {
		c.t.Fatal(err)
	}
}

// TestOutageByRevocation: the network takes the token of the control channel back, once and again, and for a while there
// is no new one.
func TestOutageByRevocation(t *testing.T) {
	for _, connect := range []bool{true, false} {
		t.Run(fmt.Sprint("connect works ", connect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, crowdOf{})
				heal := func() int { return 1 }
				if !connect {
					heal = c.fail(fault.Rule{Endpoint: "connect", Action: fault.Status, Status: http.StatusServiceUnavailable})
				}
				c.sb.Faults().Record(true, 100_000)
				c.revoke()
				c.work(c.tasks[:crowdSize/2])
				time.Sleep(30 * time.Second)
				if heal() == 0 {
					t.Error("nobody asked for a new token")
				}
				c.until("the agent is online", func() bool { return c.agent.Status().State == StateOnline })
				c.revoke()
				c.work(c.tasks[crowdSize/2:])
				c.judgeOwn()
				connects := 0
				for _, r := range c.sb.Faults().Requests(0) {
					if r.Endpoint == "connect" && r.Status == http.StatusCreated {
						connects++
					}
				}
				if connects < 2 {
					t.Errorf("the agent connected %d times for a new token", connects)
				}
				c.finish()
			})
		})
	}
}

// TestOutageByDenial: the subscription or the presence is refused, and for a while a new token too.
func TestOutageByDenial(t *testing.T) {
	for _, endpoint := range []string{"subscribe", "heartbeat", "state", fault.SidePubNub} {
		t.Run(endpoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, crowdOf{})
				heal := c.fail(fault.Rule{Endpoint: endpoint, Channel: "agent.*", Action: fault.Status, Status: http.StatusForbidden, Held: true})
				c.work(c.tasks[:crowdSize/2])
				time.Sleep(30 * time.Second)
				if heal() == 0 {
					t.Error("nothing was refused")
				}
				c.work(c.tasks[crowdSize/2:])
				c.judgeOwn()
				c.finish()
			})
		})
	}
}

// TestUncertaintyIsCleared: after the connection was lost each task asks the network once whether it goes on, and not before
// each further event.
func TestUncertaintyIsCleared(t *testing.T) {
	for name, outage := range map[string]func(*crowd){
		"the subscription broke": (*crowd).hiccup,
		"longer than presence counts": func(c *crowd) {
			c.road.set(unreachable)
			time.Sleep(25 * time.Second)
			c.road.set(none)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t, crowdOf{})
				outage(c)
				c.until("the agent is online", func() bool { return c.agent.Status().State == StateOnline })
				time.Sleep(time.Minute) // the network knows that it is there
				c.sb.Faults().Record(true, 100_000)
				call := c.calls[c.tasks[0].TaskID]
				const events = 20
				for range events {
					if err := call.port.Artifact(call.ctx, wire.Artifact{OutputID: "reply", Data: []byte("a")}); err != nil {
						t.Error(err)
					}
				}
				asked := 0
				for _, r := range c.sb.Faults().Requests(0) {
					if r.Endpoint == "history" {
						asked++
					}
				}
				if asked != 1 {
					t.Errorf("with %d events the network was asked %d times", events, asked)
				}
				for _, call := range c.calls {
					call.result <- nil
				}
				c.judge("running completed", "running"+strings.Repeat(" inline", events)+" completed")
				c.finish()
			})
		})
	}
}
