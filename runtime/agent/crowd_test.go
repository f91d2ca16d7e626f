package agent

// Fifty running tasks by a virtual clock: the sandbox, the agent and the consumers are in one synctest bubble and talk
// over pipes in memory, so that ten minutes of silence take no time.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/fault"
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

// failure is what a road does to a request.
type failure int

const (
	none        failure = iota
	unreachable         // no connection; those that stand break
	hanging             // no answer
)

// road carries requests, or does not. Faults of single endpoints are the sandbox's: it knows them by name.
type road struct {
	next http.RoundTripper

	mu      sync.Mutex
	failure failure
	broken  chan struct{} // closes when connections that stand break
}

func (r *road) set(f failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = f
	if f == unreachable {
		close(r.broken)
		r.broken = make(chan struct{})
	}
}

var errGone = errors.New("connection refused")

func (r *road) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	what, broken := r.failure, r.broken
	r.mu.Unlock()
	switch what {
	case unreachable:
		return nil, errGone
	case hanging:
		<-req.Context().Done()
		return nil, req.Context().Err()
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
	if err != nil {
		return nil, errors.Join(errGone, err)
	}
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	return resp, nil
}

// crowd is an agent with fifty running tasks behind a road.
type crowd struct {
	t     *testing.T
	sb    *sandbox.Sandbox
	sizes []int // of the artifacts that each handler gives
	road  *road
	agent *Agent
	wire  http.RoundTripper
	cdm   backend.CDM
	stage *stage
	calls map[string]*call
	runs  map[string]int
	tasks []backend.SendResult
	// leave ends the agent, finish whatever has not ended.
	leave, finish func()
}

// crowdOf says how a crowd differs from the usual.
type crowdOf struct {
	sandbox sandbox.Config
	// inputs: each task brings a file; uploads: its handler gives a large artifact beside the small one.
	inputs, uploads bool
	// onMoved is called with what can be fetched anew.
	onMoved func(hc *http.Client, url string)
}

const crowdSize = 50

func newCrowd(t *testing.T, of crowdOf) *crowd {
	t.Helper()
	p := newPipes()
	of.sandbox.Listener = p
	sb := sandboxtest.Start(t, of.sandbox)
	var all sync.WaitGroup
	transport := &http.Transport{DialContext: p.dial}
	hc := &http.Client{Transport: transport}
	c := &crowd{t: t, sb: sb.Sandbox, sizes: []int{1}, wire: transport, stage: newStage(), calls: map[string]*call{}, runs: map[string]int{}}
	if of.uploads {
		c.sizes = append(c.sizes, wire.DefaultInlineLimit+1)
	}
	c.road = &road{next: transport, broken: make(chan struct{})}
	var consumerAPI *backend.Client
	c.cdm, consumerAPI = sb.Backend(hc)
	api, err := backend.New(backend.Config{BaseURL: c.cdm.BaseURL, HTTP: &http.Client{Transport: c.road}})
	if err != nil {
		t.Fatal(err)
	}
	card := cardOf(t, "worker", 2*crowdSize, "")
	if err := sb.Register(card); err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Card: card, Handler: "test", APIKey: sb.APIKey(), Backend: api, CDM: c.cdm, Origin: c.cdm.PubNubOrigin, Dispatcher: c.stage,
		Drain: time.Minute, transport: c.road, Timeouts: Timeouts{Clock: 10 * time.Second},
	}
	if of.onMoved != nil {
		cfg.OnMoved = func() { all.Go(func() { of.onMoved(hc, sb.CDMURL()) }) }
	}
	c.agent, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	serving, end := context.WithCancel(t.Context())
	left := make(chan struct{})
	all.Go(func() {
		defer close(left)
		if err := c.agent.Run(serving); err != nil {
			t.Error(err)
		}
	})
	c.until("the agent is online", func() bool { return c.agent.Status().State == StateOnline })
	consumer := consumerAPI.NewConsumer(sb.APIKey())
	for range crowdSize {
		r := backend.SendRequest{AgentName: "worker", BillingMode: wire.Free, Parts: []wire.Part{text("request", "hi")}}
		if of.inputs {
			r.UploadSessionID, err = consumer.UploadInput(t.Context(), backend.Upload{
				AgentName: "worker", PartID: "doc", FileName: "x.pdf", MIMEType: "application/pdf", Size: 1,
				Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			r.Parts = append(r.Parts, wire.Part{PartID: "doc", ContentType: "application/pdf"})
		}
		sent, err := consumer.SendMessage(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		c.tasks = append(c.tasks, sent)
		c.take()
	}
	synctest.Wait()
	c.leave = func() {
		end()
		<-left
	}
	c.finish = func() {
		c.leave()
		all.Wait()
		sb.Stop()
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
	c.t.Fatalf("it did not come about in an hour that %s: status %+v", what, c.agent.Status())
}

// work lets the handlers of some tasks read their input, give their artifacts, and end.
func (c *crowd) work(tasks []backend.SendResult) {
	for _, s := range tasks {
		call := c.calls[s.TaskID]
		go func() { call.result <- call.work(c.sizes) }()
	}
}

func (c *call) work(sizes []int) error {
	for i, p := range c.task.Parts {
		if p.File == nil {
			continue
		}
		in, err := c.port.Input(c.ctx, i)
		if err != nil {
			return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "no input: " + err.Error()}
		}
		if err := in.Body.Close(); err != nil {
			return err
		}
	}
	for _, size := range sizes {
		if err := c.port.Artifact(c.ctx, wire.Artifact{OutputID: "reply", Data: make([]byte, size)}); err != nil {
			return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "no artifact: " + err.Error()}
		}
	}
	return nil
}

// fail puts a fault into force until heal is called, which returns how often it was met.
func (c *crowd) fail(r fault.Rule) (heal func() (hits int)) {
	c.t.Helper()
	id, err := c.sb.Faults().Add(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return func() (hits int) {
		for _, r := range c.sb.Faults().Rules() {
			if r.ID == id {
				hits = r.Hits
			}
		}
		c.sb.Faults().Remove(id)
		return hits
	}
}

// hiccup breaks the subscription once.
func (c *crowd) hiccup() {
	heal := c.fail(fault.Rule{Endpoint: "subscribe", Action: fault.Drop, Held: true})
	c.until("the agent has noticed", func() bool { return c.agent.Status().State == StateConnecting })
	heal()
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
				words = append(words, strings.TrimSpace(string(e.State)+" "+e.Error))
			case e.Type == wire.EventArtifact:
				words = append(words, e.Artifact.Kind)
			}
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// judgeOwn is judge where nothing but the handlers' own outcomes may be.
func (c *crowd) judgeOwn() {
	c.t.Helper()
	c.judge("running" + []string{" inline", " inline file"}[len(c.sizes)-1] + " completed")
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
