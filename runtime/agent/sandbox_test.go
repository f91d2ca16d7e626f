package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// Here the sandbox itself dispatches, with its access control, and a consumer submits.

// submit sends a task and returns its events as they come.
func (n *network) submit(c *backend.Consumer, agent string, parts ...wire.Part) (id string, events <-chan wire.Event) {
	n.t.Helper()
	return n.send(c, backend.SendRequest{AgentName: agent, BillingMode: wire.Free, Parts: parts})
}

func (n *network) send(c *backend.Consumer, r backend.SendRequest) (id string, events <-chan wire.Event) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sent, err := c.SendMessage(ctx, r)
	if err != nil {
		n.t.Fatal(err)
	}
	return sent.TaskID, n.follow(sent)
}

// follow returns the events of a submitted task as they come.
func (n *network) follow(sent backend.SendResult) <-chan wire.Event {
	n.t.Helper()
	reader, err := link.New(link.Config{Origin: n.cdm.PubNubOrigin, Keys: sent.Keys, UserID: "reader-" + sent.TaskID})
	if err != nil {
		n.t.Fatal(err)
	}
	reader.SetToken(sent.ReadToken)
	seen := make(chan wire.Event, 100)
	following, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		_ = reader.Subscribe(following, link.SubscribeConfig{Channels: []string{sent.Channel}, Cursor: n.since}, func(r link.Received) {
			if e, err := wire.DecodeEvent(r.Body); err == nil {
				seen <- e
			}
		})
	})
	n.t.Cleanup(func() {
		stop()
		running.Wait()
		reader.Close()
	})
	return seen
}

// ending waits for the terminal event and returns what came before it in short form.
func ending(t testing.TB, events <-chan wire.Event) (before string, last wire.Event) {
	t.Helper()
	var words []string
	for {
		e := next(t, events)
		switch {
		case e.Type == wire.EventTerminal:
			return strings.Join(words, " "), e
		case e.Type == wire.EventArtifact:
			words = append(words, "artifact:"+e.Artifact.Kind)
		case e.Type == wire.EventProgress && e.Message != "":
			words = append(words, "status:"+e.Message)
		case e.Type == wire.EventProgress:
			words = append(words, string(e.State))
		}
	}
}

func text(id, s string) wire.Part { return wire.Part{PartID: id, ContentType: "text/plain", Text: &s} }

func TestThroughTheNetwork(t *testing.T) {
	n := newNetwork(t, false)
	a := n.serve(cardOf(t, "worker", 4, ""), NewFuncDispatcher(echo), nil)
	a.await(StateOnline)
	c := n.api.NewConsumer(n.sb.APIKey())
	var all []<-chan wire.Event
	for range 40 { // ten times what it takes at once
		_, events := n.submit(c, "worker", text("request", "hi"))
		all = append(all, events)
	}
	for i, events := range all {
		before, last := ending(t, events)
		if before != "running artifact:inline" || last.State != wire.Completed {
			t.Errorf("task %d: %s, then %s %s", i, before, last.State, last.Error)
		}
	}
	if got := a.Status().Counts; got.Accepted != 40 || got.Completed != 40 || got.Refused != 0 {
		t.Errorf("counts %+v", got)
	}
}

func TestConsumerCancels(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(cardOf(t, "worker", 4, ""), st, nil)
	a.await(StateOnline)
	c := n.api.NewConsumer(n.sb.APIKey())
	id, events := n.submit(c, "worker", text("request", "hi"))
	running := st.next(t)
	if e := next(t, events); e.State != wire.Running { // the first event of the provider
		for e.Type != wire.EventProgress {
			e = next(t, events)
		}
	}
	if err := c.CancelTask(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if reason := running.asked(t); reason != dispatch.CancelUser {
		t.Errorf("reason %v", reason)
	}
	running.result <- errors.New("canceled")
	if _, last := ending(t, events); last.State != wire.Canceled {
		t.Errorf("%s %s", last.State, last.Error)
	}
}

// TestArtifactSizes: an artifact travels inside its event up to the limit, and above it through the network's storage;
// the order of what the task publishes is kept.
func TestArtifactSizes(t *testing.T) {
	n := newNetwork(t, false)
	sizes := []int{0, 1, wire.DefaultInlineLimit, wire.DefaultInlineLimit + 1, 100_000}
	a := n.serve(cardOf(t, "worker", 4, ""), NewFuncDispatcher(func(ctx context.Context, _ *wire.Task, port dispatch.TaskPort) error {
		for _, size := range sizes {
			if err := port.Artifact(ctx, wire.Artifact{OutputID: "reply", FileName: fmt.Sprint(size, ".bin"), Data: bytes.Repeat([]byte("x"), size)}); err != nil {
				return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: err.Error()}
			}
		}
		return nil
	}), nil)
	a.await(StateOnline)
	_, events := n.submit(n.api.NewConsumer(n.sb.APIKey()), "worker", text("request", "hi"))
	before, last := ending(t, events)
	if diff := cmp.Diff("running artifact:inline artifact:inline artifact:inline artifact:file artifact:file", before); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
}

// TestLargeArtifact: an artifact that is not in memory is uploaded from where it is; a failed attempt reads it again.
func TestLargeArtifact(t *testing.T) {
	n := newNetwork(t, false)
	f := n.fault()
	var failed atomic.Int32
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Path == "/api/v1/files/request-upload" && failed.Add(1) <= 2 && refuse(w, http.StatusServiceUnavailable)
	})
	const size = 3 << 20
	var opened atomic.Int32
	var warned atomic.Int32
	a := n.serve(cardOf(t, "worker", 4, ""), NewFuncDispatcher(func(ctx context.Context, _ *wire.Task, port dispatch.TaskPort) error {
		large := wire.Artifact{OutputID: "surprise", FileName: "a \"b\"\r\nc.bin", Size: size, Open: func() (io.ReadCloser, error) {
			opened.Add(1)
			return io.NopCloser(io.LimitReader(zeros{}, size)), nil
		}}
		if err := port.Artifact(ctx, large); err != nil {
			return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: err.Error()}
		}
		large.Size = wire.MaxArtifactBytes + 1
		if port.Artifact(ctx, large) == nil {
			return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "more than the limit was taken"}
		}
		return nil
	}), func(c *Config) {
		n.through(f)(c)
		c.Log = slog.New(&counter{Handler: slog.DiscardHandler, text: "does not declare", count: &warned})
	})
	a.await(StateOnline)
	_, events := n.submit(n.api.NewConsumer(n.sb.APIKey()), "worker", text("request", "hi"))
	if before, last := ending(t, events); before != "running artifact:file" || last.State != wire.Completed {
		t.Errorf("%s, then %s %s", before, last.State, last.Error)
	}
	if opened.Load() != 1 || failed.Load() != 3 {
		t.Errorf("opened %d times, requested %d times", opened.Load(), failed.Load())
	}
	if warned.Load() != 1 {
		t.Errorf("%d warnings of an output that the card does not declare", warned.Load())
	}
}

// zeros is a file without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestInputs: a handler reads a file that came inline and one from the network's storage.
func TestInputs(t *testing.T) {
	n := newNetwork(t, false)
	large := strings.Repeat("large ", 10_000)
	got := make(chan string, 2)
	c := cardOf(t, "worker", 4, "")
	a := n.serve(c, NewFuncDispatcher(func(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
		for i, p := range task.Parts {
			if p.File == nil {
				if _, err := port.Input(ctx, i); err == nil {
					return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "a part without a file was opened"}
				}
				continue
			}
			in, err := port.Input(ctx, i)
			if err != nil {
				return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: err.Error()}
			}
			data, err := io.ReadAll(in.Body)
			if err := errors.Join(err, in.Body.Close()); err != nil {
				return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: err.Error()}
			}
			got <- fmt.Sprint(in.Name, " ", in.Size, " ", string(data))
		}
		if _, err := port.Input(ctx, len(task.Parts)); err == nil {
			return &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "a part beyond the last was opened"}
		}
		return nil
	}), nil)
	a.await(StateOnline)
	consumer := n.api.NewConsumer(n.sb.APIKey())
	small := wire.InlineRef(wire.Artifact{FileName: "small.txt", MIMEType: "text/plain", Data: []byte("small")})
	_, events := n.submit(consumer, "worker", text("request", "hi"), wire.Part{PartID: "request", ContentType: "text/plain", File: &small})
	if _, last := ending(t, events); last.State != wire.Completed {
		t.Fatalf("%s %s", last.State, last.Error)
	}
	if s := <-got; s != "small.txt 5 small" {
		t.Errorf("got %s", s)
	}

	session, err := consumer.UploadInput(t.Context(), backend.Upload{
		AgentName: "worker", PartID: "doc", FileName: "large.pdf", MIMEType: "application/pdf", Size: int64(len(large)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(large)), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	_, events = n.send(consumer, backend.SendRequest{
		AgentName: "worker", BillingMode: wire.Free, UploadSessionID: session,
		Parts: []wire.Part{text("request", "hi"), {PartID: "doc", ContentType: "application/pdf"}},
	})
	if _, last := ending(t, events); last.State != wire.Completed {
		t.Fatalf("%s %s", last.State, last.Error)
	}
	select {
	case s := <-got:
		if s != fmt.Sprint("large.pdf ", len(large), " ", large) {
			t.Errorf("got %.40s… of %d bytes", s, len(s))
		}
	default:
		t.Error("the task had no file")
	}
}

// TestTwoInstances: the load is shared by presence, and stopping one loses no task.
func TestTwoInstances(t *testing.T) {
	n := newNetwork(t, false)
	c := cardOf(t, "worker", 2, "")
	slow := func(ctx context.Context, task *wire.Task, port dispatch.TaskPort) error {
		select {
		case <-time.After(5 * time.Millisecond): // work
		case <-ctx.Done():
		}
		return echo(ctx, task, port)
	}
	one := n.serve(c, NewFuncDispatcher(slow), nil)
	two := n.serve(c, NewFuncDispatcher(slow), nil)
	one.await(StateOnline)
	two.await(StateOnline)
	consumer := n.api.NewConsumer(n.sb.APIKey())
	var all []<-chan wire.Event
	for i := range 60 {
		if i == 30 {
			one.stop()
		}
		_, events := n.submit(consumer, "worker", text("request", "hi"))
		all = append(all, events)
	}
	for i, events := range all {
		if before, last := ending(t, events); before != "running artifact:inline" || last.State != wire.Completed {
			t.Errorf("task %d: %s, then %s %s", i, before, last.State, last.Error)
		}
	}
	if err := one.ended(); err != nil {
		t.Error(err)
	}
	x, y := one.Status().Counts, two.Status().Counts
	if x.Completed == 0 || y.Completed == 0 || x.Completed+y.Completed != 60 {
		t.Errorf("one did %d tasks, two %d", x.Completed, y.Completed)
	}
}
