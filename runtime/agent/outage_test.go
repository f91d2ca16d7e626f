package agent

// Outages with fifty running tasks, by a virtual clock: the sandbox, the agent and the consumers are in one synctest
// bubble and talk over pipes in memory, so that ten minutes of silence take no time.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// pipes is a listener whose connections are in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// trouble is what a road does to a request.
type trouble int

const (
	none     trouble = iota
	gone             // no connection; those that stand break
	hanging          // no answer
	lost             // carried out, but the answer is lost
	answered         // with a status
)

// road carries requests, or does not.
type road struct {
	next http.RoundTripper

	mu      sync.Mutex
	trouble trouble
	status  int
	hits    func(r *http.Request) bool
	broken  chan struct{} // closes when connections that stand break
}

func (r *road) set(t trouble, status int, hits func(*http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trouble, r.status, r.hits = t, status, hits
	if t == gone {
		close(r.broken)
		r.broken = make(chan struct{})
	}
}

var errGone = errors.New("connection refused")

func (r *road) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	what, status, broken := r.trouble, r.status, r.broken
	if what != none && !r.hits(req) {
		what = none
	}
	r.mu.Unlock()
	switch what {
	case gone:
		return nil, errGone
	case hanging:
		<-req.Context().Done()
		return nil, req.Context().Err()
	case answered:
		return &http.Response{
			StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
			Body: io.NopCloser(strings.NewReader(`{"status":"injected"}`)), Request: req,
		}, nil
	}
	// What stands breaks: the answer to come is an error.
	ctx, cancel := context.WithCancel(req.Context())
	stopped := make(chan struct{})
	go func() {
		select {
		case <-broken:
			cancel()
		case <-stopped:
		}
	}()
	resp, err := r.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		close(stopped)
		cancel()
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	close(stopped)
	cancel()
	if err != nil || what == lost {
		return nil, errors.Join(errGone, err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp, nil
}

// crowd is an agent with fifty running tasks behind a road.
type crowd struct {
	t      *testing.T
	road   *road
	agent  *Agent
	wire   http.RoundTripper
	cdm    backend.CDM
	stage  *stage
	calls  map[string]*call
	runs   map[string]int
	tasks  []backend.SendResult
	finish func()
}

const crowdSize = 50

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	p := newPipes()
	sb, err := sandbox.New(sandbox.Config{Listener: p, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = sb.Run(running) })
	transport := &http.Transport{DialContext: p.dial}
	hc := &http.Client{Transport: transport}
	c := &crowd{t: t, wire: transport, stage: newStage(), calls: map[string]*call{}, runs: map[string]int{}}
	c.road = &road{next: transport, broken: make(chan struct{})}
	if c.cdm, err = backend.FetchCDM(t.Context(), hc, sb.CDMURL()); err != nil {
		t.Fatal(err)
	}
	consumerAPI, err := backend.New(backend.Config{BaseURL: c.cdm.BaseURL, HTTP: hc})
	if err != nil {
		t.Fatal(err)
	}
	api, err := backend.New(backend.Config{BaseURL: c.cdm.BaseURL, HTTP: &http.Client{Transport: c.road}})
	if err != nil {
		t.Fatal(err)
	}
	card := cardOf(t, "worker", 2*crowdSize, "")
	if err := sb.Register(card); err != nil {
		t.Fatal(err)
	}
	c.agent, err = New(Config{
		Card: card, Handler: "test", APIKey: sb.APIKey(), Backend: api, CDM: c.cdm, Origin: c.cdm.PubNubOrigin, Dispatcher: c.stage,
		Drain: time.Minute, transport: c.road,
	})
	if err != nil {
		t.Fatal(err)
	}
	serving, end := context.WithCancel(t.Context())
	all.Go(func() {
		if err := c.agent.Run(serving); err != nil {
			t.Error(err)
		}
	})
	c.until("the agent is online", func() bool { return c.agent.Status().State == StateOnline })
	consumer := consumerAPI.NewConsumer(sb.APIKey())
	for range crowdSize {
		sent, err := consumer.SendMessage(t.Context(), backend.SendRequest{AgentName: "worker", BillingMode: wire.Free, Parts: []wire.Part{text("request", "hi")}})
		if err != nil {
			t.Fatal(err)
		}
		c.tasks = append(c.tasks, sent)
		c.take()
	}
	synctest.Wait()
	c.finish = func() {
		end()
		time.Sleep(2 * time.Minute) // virtual: the drain is over
		stop()
		all.Wait()
		transport.CloseIdleConnections()
	}
	return c
}

// take waits for the handler to be called.
func (c *crowd) take() {
	call := <-c.stage.calls
	c.calls[call.task.ID] = call
	c.runs[call.task.ID]++
}

// until waits by the virtual clock.
func (c *crowd) until(what string, is func() bool) {
	c.t.Helper()
	for range 3600 {
		if is() {
			return
		}
		time.Sleep(time.Second)
	}
	c.t.Fatalf("it did not come about in an hour that %s", what)
}

// work lets the handlers of some tasks give an artifact and end.
func (c *crowd) work(tasks []backend.SendResult) {
	for _, s := range tasks {
		call := c.calls[s.TaskID]
		go func() {
			err := call.port.Artifact(call.ctx, wire.Artifact{OutputID: "reply", Data: []byte("a")})
			if err != nil {
				err = &wire.TaskFailure{Kind: wire.HandlerError, Public: "no artifact"}
			}
			call.result <- err
		}()
	}
}

// stories returns what is stored about each task, as the network's consumers see it.
func (c *crowd) stories() []string {
	var out []string
	for _, s := range c.tasks {
		l, err := link.New(link.Config{Origin: c.cdm.PubNubOrigin, Keys: s.Keys, UserID: "reader", Transport: c.wire})
		if err != nil {
			c.t.Fatal(err)
		}
		l.SetToken(s.ReadToken)
		stored, err := l.History(c.t.Context(), s.Channel, "", "")
		l.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		var words []string
		for _, m := range stored {
			e, err := wire.DecodeEvent(m.Body)
			switch {
			case err != nil:
				c.t.Fatal(err)
			case e.Type == wire.EventTerminal, e.Type == wire.EventProgress:
				words = append(words, string(e.State))
			case e.Type == wire.EventArtifact:
				words = append(words, "artifact")
			}
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// judge waits until every task is over and then some, and holds the stories against what may be.
func (c *crowd) judge(allowed ...string) {
	c.t.Helper()
	c.until("every task is over and the agent is online", func() bool {
		s := c.agent.Status()
		return len(c.agent.Tasks()) == 0 && s.Counts.Outbox == 0 && s.State == StateOnline
	})
	time.Sleep(5 * time.Minute) // for whatever the network still does by itself
	for i, story := range c.stories() {
		ok := false
		for _, a := range allowed {
			ok = ok || a == story
		}
		if !ok {
			c.t.Errorf("task %d: %q is none of %q", i, story, allowed)
		}
	}
	select {
	case call := <-c.stage.calls:
		c.t.Errorf("task %s was executed again", call.task.ID)
		call.result <- nil
	default:
	}
}

func isAny(*http.Request) bool { return true }

// TestOutageOfEverything: the network is gone, or silent, for shorter and longer than it waits for an instance.
func TestOutageOfEverything(t *testing.T) {
	const own, network = "running artifact completed", "running failed"
	for _, tc := range []struct {
		d       time.Duration
		trouble trouble
		allowed []string
	}{
		{25 * time.Second, gone, []string{own}},
		{60 * time.Second, gone, []string{own}},
		{10 * time.Minute, gone, []string{network}}, // the network has given up long before
		{25 * time.Second, hanging, []string{own}},
		{10 * time.Minute, hanging, []string{own, network}},
	} {
		t.Run(fmt.Sprintf("%v %d", tc.d, tc.trouble), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t)
				c.road.set(tc.trouble, 0, isAny)
				time.Sleep(time.Second)
				c.work(c.tasks[:crowdSize/2]) // these end during the outage
				time.Sleep(tc.d - time.Second)
				c.road.set(none, 0, nil)
				c.work(c.tasks[crowdSize/2:]) // these after it
				c.judge(tc.allowed...)
				c.finish()
			})
		})
	}
}

// TestOutageOfOneEndpoint: each endpoint alone fails in each way for half a minute.
func TestOutageOfOneEndpoint(t *testing.T) {
	endpoints := map[string]func(*http.Request) bool{
		"subscribe": isSubscribe,
		"publish":   isPublish,
		"presence":  func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v2/presence/") },
		"history":   func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v3/history/") },
		"time":      func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/time/") },
		"backend":   func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/") },
	}
	for name, hits := range endpoints {
		for _, tc := range []struct {
			name    string
			trouble trouble
			status  int
		}{{"500", answered, 500}, {"429", answered, 429}, {"hanging", hanging, 0}, {"cut", lost, 0}} {
			t.Run(name+" "+tc.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := newCrowd(t)
					c.road.set(tc.trouble, tc.status, hits)
					time.Sleep(time.Second)
					c.work(c.tasks[:crowdSize/2])
					time.Sleep(30 * time.Second)
					c.road.set(none, 0, nil)
					c.work(c.tasks[crowdSize/2:])
					c.judge("running artifact completed")
					c.finish()
				})
			})
		}
	}
}

// TestOutageByDenial: the subscription is refused, and for a while a new token too.
func TestOutageByDenial(t *testing.T) {
	for name, hits := range map[string]func(*http.Request) bool{
		"subscribe":            isSubscribe,
		"presence":             func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/v2/presence/") },
		"revoked for all uses": func(r *http.Request) bool { return isSubscribe(r) || strings.HasPrefix(r.URL.Path, "/v2/presence/") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrowd(t)
				c.road.set(gone, 0, isSubscribe) // the poll that is held would not see it
				c.road.set(answered, http.StatusForbidden, hits)
				c.work(c.tasks[:crowdSize/2])
				time.Sleep(30 * time.Second)
				c.road.set(none, 0, nil)
				c.work(c.tasks[crowdSize/2:])
				c.judge("running artifact completed")
				c.finish()
			})
		})
	}
}
