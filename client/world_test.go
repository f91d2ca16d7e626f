package client_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/sandbox"
)

// testTimeout bounds every wait of a test.
const testTimeout = 20 * time.Second

const cardText = `{"identity":{"agentName":"NAME","displayName":"Test","description":"for tests","version":"1.0.0","provider":{"organization":"T"}},
"capabilities":{"taskKinds":["request","pipe"]},"tags":[{"id":"t","name":"T"}],
"io":{"inputs":[{"id":"request","contentType":"text/plain","required":false,"description":"text"},{"id":"file","contentType":"application/octet-stream","required":false,"description":"file"}],"outputs":[]},
"runtime":{"handler":"h","concurrency":16},"extensions":{"blocks":{"listing":"public","billingMode":"MODE"}}}`

// world is a sandbox with one agent and its provider, and a proxy between the consumer and PubNub that injects faults.
type world struct {
	t      testing.TB
	sb     *sandbox.Sandbox
	cdm    backend.CDM
	api    *backend.Client
	origin string // of the proxy

	mu   sync.Mutex
	hook func(w http.ResponseWriter, r *http.Request) bool
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t}
	sb := sandboxtest.Start(t, sandbox.Config{})
	w.sb = sb.Sandbox
	w.cdm, w.api = sb.Backend(nil)

	tr := &http.Transport{}
	proxy := &httputil.ReverseProxy{Transport: tr, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: w.sb.Addr()})
		r.Out.Host = r.In.Host
	}, ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		hook := w.hook
		w.mu.Unlock()
		if hook == nil || !hook(rw, r) {
			proxy.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		tr.CloseIdleConnections()
	})
	w.origin = strings.TrimPrefix(srv.URL, "http://")
	return w
}

// front passes the consumer's PubNub requests to hook first; hook returns true if it has answered.
func (w *world) front(hook func(rw http.ResponseWriter, r *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = hook
}

// options reach the sandbox, PubNub through the proxy.
func (w *world) options() client.Options {
	return client.Options{CDMURL: w.sb.CDMURL(), PubNubOrigin: w.origin, APIKey: w.sb.APIKey(), Getenv: noEnvironment}
}

func noEnvironment(string) string { return "" }

func (w *world) client() *client.Client {
	w.t.Helper()
	c, err := client.New(within(w.t), w.options())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
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
}

func (j *job) cancel() { j.once.Do(func() { close(j.canceled) }) }

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
	c, err := card.Parse([]byte(strings.NewReplacer("NAME", name, "MODE", string(mode)).Replace(cardText)))
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
	l, err := link.New(link.Config{Origin: w.sb.Addr(), Keys: w.cdm.Keyset(mode), UserID: instance})
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
				j := &job{t: w.t, link: l, session: session, start: msg.Start, ctx: ctx, canceled: make(chan struct{})}
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
