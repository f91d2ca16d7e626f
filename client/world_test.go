package client_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
	"github.com/blocksd/blocksd/sandbox/fault"
)

// testTimeout bounds every wait of a test.
const testTimeout = 3 * time.Minute

const cardText = `{"identity":{"agentName":"NAME","displayName":"Test","description":"for tests","version":"1.0.0","provider":{"organization":"T"}},
"capabilities":{"taskKinds":["request","pipe"]},"tags":[{"id":"t","name":"T"}],
"io":{"inputs":[{"id":"request","contentType":"text/plain","required":false,"description":"text"},{"id":"file","contentType":"application/octet-stream","required":false,"description":"file"}],"outputs":[]},
"runtime":{"handler":"h","concurrency":16},"extensions":{"blocks":{"listing":"public","billingMode":"MODE"}}}`

// world is a sandbox with its providers. Whatever the consumer sends goes through a spy.
type world struct {
	t         testing.TB
	sb        *sandbox.Sandbox
	cdm       backend.CDM
	api       *backend.Client
	transport http.RoundTripper // the providers'
	spy       *spy
}

func newWorld(t testing.TB, configure ...func(*sandbox.Config)) *world {
	t.Helper()
	return worldOver(t, &http.Transport{}, sandbox.Config{}, configure...)
}

// newVirtualWorld is for a test in a bubble of testing/synctest: all connections are in memory.
func newVirtualWorld(t testing.TB, configure ...func(*sandbox.Config)) *world {
	t.Helper()
	pipes := sandboxtest.NewPipes()
	return worldOver(t, pipes.Transport(), sandbox.Config{Listener: pipes}, configure...)
}

func worldOver(t testing.TB, transport *http.Transport, cfg sandbox.Config, configure ...func(*sandbox.Config)) *world {
	t.Helper()
	for _, c := range configure {
		c(&cfg)
	}
	w := &world{t: t, transport: transport, spy: &spy{next: transport}}
	sb := sandboxtest.Start(t, cfg)
	w.sb = sb.Sandbox
	w.cdm, w.api = sb.Backend(&http.Client{Transport: transport})
	t.Cleanup(transport.CloseIdleConnections)
	return w
}

// front passes the consumer's requests to hook first; hook returns true if it has answered.
func (w *world) front(hook func(rw http.ResponseWriter, r *http.Request) bool) {
	w.spy.mu.Lock()
	defer w.spy.mu.Unlock()
	w.spy.hook = hook
}

// fault adds a rule to the sandbox and returns its id.
func (w *world) fault(r fault.Rule) string {
	w.t.Helper()
	id, err := w.sb.Faults().Add(r)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// options reach the sandbox.
func (w *world) options() client.Options {
	return client.Options{CDMURL: w.sb.CDMURL(), APIKey: w.sb.APIKey(), HTTP: &http.Client{Transport: w.spy}, Getenv: noEnvironment}
}

func noEnvironment(string) string { return "" }

func (w *world) client() *client.Client {
	w.t.Helper()
	return w.clientOf(w.options())
}

func (w *world) clientOf(o client.Options) *client.Client {
	w.t.Helper()
	c, err := client.New(within(w.t), o)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func (w *world) send(c *client.Client, m client.Message, o ...client.Option) *client.Session {
	w.t.Helper()
	s, err := c.Send(within(w.t), m, o...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) connect(c *client.Client, taskID string, o ...client.Option) *client.Session {
	w.t.Helper()
	s, err := c.Connect(within(w.t), taskID, o...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(s.Close)
	return s
}

// sent is a request of the consumer.
type sent struct {
	*http.Request
	path, body string
}

// bearer is the credential of a request to the Blocks API.
func (s sent) bearer() string {
	return strings.TrimPrefix(s.Header.Get("Authorization"), "Bearer ")
}

// params are those of an RPC call.
func (s sent) params(t testing.TB) map[string]any {
	t.Helper()
	var o struct{ Params map[string]any }
	if err := json.Unmarshal([]byte(s.body), &o); err != nil {
		t.Fatalf("%s: %v", s.body, err)
	}
	return o.Params
}

// spy remembers the requests that it carries, and may answer them itself.
type spy struct {
	next http.RoundTripper

	mu   sync.Mutex
	log  []sent
	hook func(rw http.ResponseWriter, r *http.Request) bool
	// cut says which answers break off at their end.
	cut func(r *http.Request) bool
}

func (s *spy) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	cut := s.cut != nil && s.cut(r)
	s.mu.Unlock()
	resp, err := s.answer(r)
	if err == nil && cut && resp.StatusCode/100 == 2 {
		all, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(all[:len(all)/3]), iotest.ErrReader(io.ErrUnexpectedEOF)))
	}
	return resp, err
}

func (s *spy) answer(r *http.Request) (resp *http.Response, err error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	s.mu.Lock()
	s.log = append(s.log, sent{r, cmp.Or(r.URL.Opaque, r.URL.Path), string(body)})
	hook := s.hook
	s.mu.Unlock()
	if hook != nil {
		defer func() {
			if p := recover(); p == http.ErrAbortHandler {
				resp, err = nil, errors.New("the connection was cut")
			} else if p != nil {
				panic(p)
			}
		}()
		rec := httptest.NewRecorder()
		if hook(rec, r) {
			return rec.Result(), nil
		}
	}
	return s.next.RoundTrip(r)
}

// find returns the requests whose path begins with prefix and whose body holds a text.
func (s *spy) find(prefix, contains string) (out []sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.log {
		if strings.HasPrefix(r.path, prefix) && strings.Contains(r.body, contains) {
			out = append(out, r)
		}
	}
	return out
}

func (s *spy) rpc(method string) []sent { return s.find("/api/v1/rpc", `"method":"`+method+`"`) }

func (s *spy) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}

// job is a task as the provider sees it.
type job struct {
	t        testing.TB
	link     *link.Link
	session  *backend.AgentSession
	start    *wire.StartTask
	ctx      context.Context // ends with the test
	canceled chan struct{}   // closed by a cancel, or at the end of the test
	once     sync.Once
	running  *sync.WaitGroup // of the provider
}

func (j *job) cancel() { j.once.Do(func() { close(j.canceled) }) }

// await waits for ch, or for the end of the test.
func (j *job) await(ch <-chan struct{}) {
	select {
	case <-ch:
	case <-j.ctx.Done():
	}
}

func (j *job) channel() string { return wire.TaskChannel(j.start.Task.OrgID, j.start.Task.ID) }

func (j *job) publish(body []byte) {
	m := link.Message{Channel: j.channel(), Token: j.start.WriteToken, Meta: wire.EventMeta("echo", j.start.Task.ID, ""), Body: body, Store: true}
	if _, err := j.link.Publish(j.ctx, m); err != nil && j.ctx.Err() == nil {
		j.t.Errorf("provider: %v", err)
	}
}

func (j *job) artifact(name, content string) {
	b, err := wire.ArtifactEvent(j.channel(), j.start.Task.ID, "out", wire.InlineRef(wire.Artifact{FileName: name, Data: []byte(content)}))
	if err != nil {
		j.t.Error(err)
		return
	}
	j.publish(b)
}

func (j *job) upload(name, content string) {
	_, err := j.session.UploadOutput(j.ctx, backend.Upload{
		TaskID: j.start.Task.ID, OutputID: "out", FileName: name, Size: int64(len(content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	})
	if err != nil {
		j.t.Errorf("provider: %v", err)
	}
}

func (j *job) end(state wire.TaskState) {
	j.publish(wire.TerminalEvent(j.start.Task.ID, wire.Terminal{State: state}))
}

// provide serves an agent: for each task it publishes running, then calls work.
func (w *world) provide(name string, mode wire.BillingMode, work func(j *job)) {
	w.t.Helper()
	w.provideCard(cardText, name, mode, work)
}

func (w *world) provideCard(text, name string, mode wire.BillingMode, work func(j *job)) {
	w.t.Helper()
	c, err := card.Parse([]byte(strings.NewReplacer("NAME", name, "MODE", string(mode)).Replace(text)))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.sb.Register(c); err != nil {
		w.t.Fatal(err)
	}
	instance := "AG-" + name + "-1"
	session := w.api.NewAgentSession(w.sb.APIKey(), backend.ConnectRequest{AgentName: name, InstanceID: instance, BillingMode: mode, ExpectedInstances: 1, Concurrency: 16})
	grant, err := session.Connect(within(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := link.New(link.Config{Origin: w.sb.Addr(), Keys: w.cdm.Keyset(mode), UserID: instance, Transport: w.transport})
	if err != nil {
		w.t.Fatal(err)
	}
	l.SetToken(grant.PAMToken)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	p := l.NewPresence(grant.ControlChannel, wire.PresenceTimeout, wire.HeartbeatInterval)
	jobs := map[string]*job{}
	running.Go(func() { _ = p.Run(ctx) })
	running.Go(func() {
		_ = l.Subscribe(ctx, link.SubscribeConfig{
			Channels: []string{grant.ControlChannel}, Filter: wire.ControlFilter(instance), Heartbeat: wire.PresenceTimeout,
			OnState: func(s link.State, _ error) {
				if s == link.Connected {
					p.Set(fmt.Appendf(nil, `{"instanceId":%q,"activeTasks":0,"concurrency":16,"startedAt":1,"activeStreams":0}`, instance))
				}
			},
		}, func(m link.Received) {
			msg, err := wire.DecodeControl(m.Body, m.Meta)
			if err != nil {
				w.t.Errorf("provider: %v", err)
				return
			}
			switch msg.Type {
			case wire.TypeStartTask:
				j := &job{t: w.t, link: l, session: session, start: msg.Start, ctx: ctx, canceled: make(chan struct{}), running: &running}
				running.Go(func() { <-ctx.Done(); j.cancel() })
				jobs[msg.TaskID] = j
				running.Go(func() {
					j.publish(wire.RunningEvent(j.start.Task.ID))
					work(j)
					p.Resync() // frees the slot
				})
			case wire.TypeCancelTask:
				jobs[msg.TaskID].cancel()
			}
		})
	})
	w.t.Cleanup(func() {
		stop()
		running.Wait()
		l.Close()
	})
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

func text(s string) []client.Part { return []client.Part{client.Text("request", s)} }
