package agent

// What the tests have in common: a sandbox in this process, and a driver that plays the network on a keyset without
// access control, so that a test can send any control message and see all that an agent publishes.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// patience is how long a test waits for something that must happen. It bounds hangs: a machine may stand still for a while.
const patience = 3 * time.Minute

// network is a sandbox and a driver.
type network struct {
	t      testing.TB
	sb     *sandbox.Sandbox
	api    *backend.Client
	cdm    backend.CDM
	driver *link.Link
	since  string // timetoken before everything
}

// newNetwork starts a sandbox. With open, agents use the keyset without access control, on which the driver can play
// the network; else the sandbox itself dispatches.
func newNetwork(t testing.TB, open bool) *network {
	t.Helper()
	return newNetworkWith(t, open, sandbox.Config{})
}

func newNetworkWith(t testing.TB, open bool, cfg sandbox.Config) *network {
	t.Helper()
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	sb := sandboxtest.Start(t, cfg)
	hc := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(hc.CloseIdleConnections)
	n := &network{t: t, sb: sb.Sandbox}
	n.cdm, n.api = sb.Backend(hc)
	if open {
		n.cdm.Playground = sb.OpenKeys()
	}
	var err error
	if n.driver, err = link.New(link.Config{Origin: n.cdm.PubNubOrigin, Keys: n.cdm.Playground, UserID: "driver"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.driver.Close)
	if n.since, err = n.driver.Time(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// cardOf returns a valid card.
func cardOf(t testing.TB, name string, concurrency int, runtime string) card.Card {
	t.Helper()
	c, err := card.Parse(fmt.Appendf(nil, `{
		"identity": {"agentName": %q, "displayName": %q, "description": "For tests.", "version": "1.0.0", "provider": {"organization": "Tests"}},
		"capabilities": {"taskKinds": ["request", "pipe"]},
		"tags": [{"id": "test", "name": "Test"}],
		"io": {"inputs": [{"id": "request", "description": "Text.", "contentType": "text/plain", "required": true},
				{"id": "doc", "description": "A file.", "contentType": "application/pdf", "required": false}],
			"outputs": [{"id": "reply", "description": "Text.", "contentType": "text/plain", "guaranteed": false}]},
		"runtime": {"handler": "./handler", "concurrency": %d%s}
	}`, name, name, concurrency, runtime))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// served is an agent that runs.
type served struct {
	*Agent
	n      *network
	events *event.Bus
	// stop begins the drain; ended returns what Run returned.
	stop  context.CancelFunc
	ended func() error
}

// serve runs an agent until the test ends. change may adapt its configuration.
func (n *network) serve(c card.Card, d dispatch.Dispatcher, change func(*Config)) *served {
	n.t.Helper()
	if err := n.sb.Register(c); err != nil {
		n.t.Fatal(err)
	}
	// The grace outlasts a machine that stands still: when it is over a handler is not asked to end any more.
	cfg := Config{
		Card: c, Handler: "test", APIKey: n.sb.APIKey(), Backend: n.api, CDM: n.cdm, Origin: n.cdm.PubNubOrigin,
		Dispatcher: d, Drain: patience, CancelGrace: 3 * time.Second, Version: "test",
	}
	if change != nil {
		change(&cfg)
	}
	if cfg.Events == nil {
		cfg.Events = event.NewBus(event.Config{})
	}
	a, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	var result error
	go func() {
		result = a.Run(ctx)
		close(done)
	}()
	s := &served{Agent: a, n: n, events: cfg.Events, stop: stop, ended: func() error {
		select {
		case <-done:
		case <-time.After(2 * patience):
			n.t.Error("the agent does not end")
		}
		return result
	}}
	n.t.Cleanup(func() {
		stop()
		_ = s.ended()
	})
	return s
}

// await waits until the agent is in a state.
func (s *served) await(state string) {
	s.n.t.Helper()
	states := s.events.Follow(event.AgentState)
	defer states.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		status := s.Status()
		if status.State == state {
			return
		}
		if _, err := states.Next(ctx); err != nil {
			s.n.t.Fatalf("agent is %s (%s), not %s", status.State, status.Reason, state)
		}
	}
}

// channelName returns the agent's control channel.
func (s *served) channelName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.channel
}

// control sends a control message to this instance.
func (s *served) control(body string) {
	s.n.t.Helper()
	s.n.publish(s.channelName(), body, fmt.Sprintf(`{"instance":%q}`, s.cfg.InstanceID))
}

// broadcast sends a control message to all instances.
func (s *served) broadcast(body string) {
	s.n.t.Helper()
	s.n.publish(s.channelName(), body, `{"broadcast":"true"}`)
}

func (n *network) publish(channel, body, meta string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := n.driver.Publish(ctx, link.Message{Channel: channel, Body: []byte(body), Meta: []byte(meta)}); err != nil {
		n.t.Fatal(err)
	}
}

// startTask returns a StartTask with further members.
func startTask(id, more string) string {
	return fmt.Sprintf(`{"type":"StartTask","taskId":%q,"orgId":"org","ownerId":"me","requestParts":[{"partId":"request","text":"hi"}]%s}`, id, more)
}

// watch returns the events of a task as they come, from the beginning.
func (n *network) watch(id string) <-chan wire.Event {
	events := make(chan wire.Event, 1000)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		_ = n.driver.Subscribe(ctx, link.SubscribeConfig{Channels: []string{wire.TaskChannel("org", id)}, Cursor: n.since}, func(r link.Received) {
			if e, err := wire.DecodeEvent(r.Body); err == nil {
				events <- e
			}
		})
	})
	n.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return events
}

// next returns the next event.
func next(t testing.TB, events <-chan wire.Event) wire.Event {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(patience):
		t.Fatal("no further event came")
		panic("unreachable")
	}
}

// terminal waits for the terminal event of a task.
func (n *network) terminal(id string) wire.Event {
	n.t.Helper()
	events := n.watch(id)
	for {
		if e := next(n.t, events); e.Type == wire.EventTerminal {
			return e
		}
	}
}

// story returns all that was published about a task, in short form.
func (n *network) story(id string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stored, err := n.driver.History(ctx, wire.TaskChannel("org", id), "", "")
	if err != nil {
		n.t.Fatal(err)
	}
	var words []string
	for _, s := range stored {
		e, err := wire.DecodeEvent(s.Body)
		if err != nil {
			n.t.Fatal(err)
		}
		var meta struct{ AgentName, TaskID, ProtocolVersion string }
		if err := json.Unmarshal(s.Meta, &meta); err != nil || meta.TaskID != id || meta.AgentName == "" || meta.ProtocolVersion == "" {
			n.t.Errorf("metadata of an event of task %s: %s, %v", id, s.Meta, err)
		}
		switch {
		case e.Type == wire.EventProgress && e.Message != "":
			words = append(words, "status:"+e.Message)
		case e.Type == wire.EventArtifact:
			data, err := e.Artifact.Inline()
			words = append(words, fmt.Sprintf("artifact:%s", data))
			if err != nil {
				n.t.Error(err)
			}
		default:
			word := string(e.State)
			for _, detail := range []string{e.Error, e.Reason} {
				if detail != "" {
					word += ":" + detail
				}
			}
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// present returns what the network knows of an instance: its state, and whether it is there.
func (n *network) present(channel, instance string) (state wire.PresenceState, there bool) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	url := fmt.Sprintf("http://%s/v2/presence/sub-key/%s/channel/%s?state=1&uuid=driver", n.cdm.PubNubOrigin, n.cdm.Playground.SubscribeKey, channel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	var answer struct {
		UUIDs []struct {
			UUID  string
			State wire.PresenceState
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		n.t.Fatalf("%v: %s", err, body)
	}
	for _, u := range answer.UUIDs {
		if u.UUID == instance {
			return u.State, true
		}
	}
	return wire.PresenceState{}, false
}

// eventually waits for something of the network that cannot be subscribed to.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	testutil.Eventually(t, patience, what, is)
}

// stage is a handler whose tasks a test directs one by one.
type stage struct {
	*FuncDispatcher
	calls chan *call
}

// call is one task on the stage.
type call struct {
	ctx    context.Context
	task   *wire.Task
	port   dispatch.TaskPort
	result chan error // what the handler returns
}

func newStage() *stage {
	s := &stage{calls: make(chan *call, 1000)}
	s.FuncDispatcher = NewFuncDispatcher(func(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
		c := &call{ctx, task, port, make(chan error, 1)}
		s.calls <- c
		return <-c.result
	})
	return s
}

// next returns the next task.
func (s *stage) next(t testing.TB) *call {
	t.Helper()
	select {
	case c := <-s.calls:
		return c
	case <-time.After(patience):
		t.Fatal("the handler was not called")
		panic("unreachable")
	}
}

// none fails the test if a handler was called.
func (s *stage) none(t testing.TB) {
	t.Helper()
	select {
	case c := <-s.calls:
		t.Errorf("the handler was called for task %s", c.task.ID)
		c.result <- nil
	default:
	}
}

// asked waits until the task was asked to end, and returns why.
func (c *call) asked(t testing.TB) dispatch.CancelReason {
	t.Helper()
	select {
	case <-c.ctx.Done():
	case <-time.After(patience):
		t.Fatal("the handler was not notified")
	}
	var canceled *Canceled
	if !errors.As(context.Cause(c.ctx), &canceled) {
		t.Fatalf("the call was ended without asking: %v", context.Cause(c.ctx))
	}
	return canceled.Reason
}

func echo(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
	return port.Artifact(ctx, wire.Artifact{OutputID: "reply", MIMEType: "text/plain", Data: []byte(*task.Parts[0].Text)})
}
