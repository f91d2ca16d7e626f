package calls_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil/sandboxtest"
	"github.com/blocksd/blocksd/network/card"
	"github.com/blocksd/blocksd/network/deployment"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/agent"
	"github.com/blocksd/blocksd/runtime/calls"
	"github.com/blocksd/blocksd/sandbox"
)

const (
	patience = time.Minute

	writerCard = `{
  "identity": {"agentName": "writer", "displayName": "Writer", "description": "", "version": "1", "provider": {"organization": "o"}},
  "capabilities": {"taskKinds": ["request", "pipe"]},
  "io": {"inputs": [], "outputs": []},
  "streams": {
    "log": {"direction": "outbound", "format": "bytes"},
    "chat": {"direction": "bidirectional", "format": "events", "outboundSchema": {"type": "object"}, "inboundSchema": {"type": "object"}}},
  "tags": [{"id": "t", "name": "T"}],
  "runtime": {"handler": "main.go", "concurrency": 8},
  "extensions": {"blocks": {"listing": "public", "billingMode": "free"}}
}`
)

// called is a task of the agent writer, with a task that has sent it.
type called struct {
	t    *testing.T
	task *calls.Task
	call dispatch.Call
	// streams are announced ones; ended closes with the last event.
	streams chan dispatch.CalledStream
	ended   chan struct{}
}

// callWriter runs work as the agent writer and sends it a task.
func callWriter(t *testing.T, cfg calls.Config, minutes int, work func(ctx context.Context, port dispatch.TaskPort) error) *called {
	t.Helper()
	parsed, err := card.Parse([]byte(writerCard))
	if err != nil {
		t.Fatal(err)
	}
	sb := sandboxtest.Start(t, sandbox.Config{}, parsed)
	hc := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(hc.CloseIdleConnections)
	cdm, api := sb.Backend(hc)
	a, err := agent.New(agent.Config{
		Card: parsed, Handler: "writer", APIKey: sb.APIKey(), Backend: api, CDM: cdm, Origin: cdm.PubNubOrigin, CancelGrace: time.Second,
		Dispatcher: agent.NewFuncDispatcher(func(ctx context.Context, _ *wire.Task, port dispatch.TaskPort) error { return work(ctx, port) }),
	})
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- a.Run(serving) }()
	t.Cleanup(func() {
		stop()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	cfg.Deployment = func() (deployment.Deployment, bool) {
		return deployment.Config{PubNubOrigin: sb.Addr()}.Resolve(cdm), true
	}
	p, err := calls.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	task := p.Task(sb.APIKey(), "caller", "caller")
	t.Cleanup(task.End)
	c := &called{t: t, task: task, streams: make(chan dispatch.CalledStream, 100), ended: make(chan struct{})}
	c.call, err = task.Call(within(t), dispatch.CallRequest{Agent: "writer", Stream: true, Duration: time.Duration(minutes) * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	following, leave := context.WithCancel(context.Background())
	go func() {
		defer close(c.ended)
		_ = c.call.Follow(following, func(e dispatch.CallEvent) error {
			for _, s := range e.Streams {
				c.streams <- s
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		leave()
		<-c.ended
	})
	return c
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open opens the next stream that is announced.
func (c *called) open() (dispatch.CalledStream, dispatch.StreamUse) {
	c.t.Helper()
	select {
	case s := <-c.streams:
		if _, err := c.call.OpenStream(within(c.t), s.ID); err != nil {
			c.t.Fatal(err)
		}
		use, err := c.call.Stream(s.ID)
		if err != nil {
			c.t.Fatal(err)
		}
		return s, use
	case <-time.After(patience):
		c.t.Fatal("no stream is announced")
		return dispatch.CalledStream{}, nil
	}
}

// read reads a stream to its end.
func (c *called) read(s dispatch.StreamUse) (bytes int, lost int64, end dispatch.StreamEnd) {
	c.t.Helper()
	next, done, err := s.Read()
	if err != nil {
		c.t.Fatal(err)
	}
	defer done()
	for ctx := within(c.t); ; {
		b, err := next(ctx)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, i := range b.Items {
			bytes += len(i.Data)
		}
		lost += b.Lost
		if b.End != nil {
			return bytes, lost, *b.End
		}
	}
}

func faultOf(err error) dispatch.StreamFault {
	if e, ok := errors.AsType[*dispatch.StreamError](err); ok {
		return e.Fault
	}
	return 0
}

// write makes a stream, writes items of so many bytes, and ends it.
func write(ctx context.Context, port dispatch.TaskPort, items, size int) error {
	s, _, err := port.CreateStream(ctx, dispatch.StreamRequest{Declared: "log"})
	if err != nil {
		return err
	}
	for range items {
		if err := s.Write(ctx, []dispatch.StreamItem{{Kind: dispatch.StreamText, Data: []byte(strings.Repeat("x", size))}}, true); err != nil {
			return err
		}
	}
	return s.End(ctx)
}

// TestReadCalledStream: what the called agent writes is read, also after its task has ended; what cannot be done is refused.
func TestReadCalledStream(t *testing.T) {
	c := callWriter(t, calls.Config{}, 0, func(ctx context.Context, port dispatch.TaskPort) error { return write(ctx, port, 3, 1000) })
	about, s := c.open()
	if about.Declared != "log" || about.Direction != wire.Inbound || about.Format != wire.FormatBytes || about.Shared {
		t.Errorf("announced as %+v", about)
	}
	for what, err := range map[string]error{
		"write":       s.Write(within(t), []dispatch.StreamItem{{Kind: dispatch.StreamText, Data: []byte("x")}}, true),
		"of its task": second(c.call.Stream("nope")),
		"unknown":     second(c.call.OpenStream(within(t), "nope")),
	} {
		want := dispatch.StreamUnknown
		if what == "write" {
			want = dispatch.StreamClosed
		}
		if faultOf(err) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	<-c.ended
	_, done, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Read(); faultOf(err) != dispatch.StreamClosed {
		t.Errorf("a second reader: %v", err)
	}
	done()
	if n, lost, end := c.read(s); n != 3000 || lost != 0 || end.Reason != "ended" {
		t.Errorf("read %d bytes, lost %d, ended %+v", n, lost, end)
	}
	if err := errors.Join(s.End(within(t)), s.End(within(t))); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestOpenCalledStreamLate: a handler that hears late of a stream gets it, though the task is over.
func TestOpenCalledStreamLate(t *testing.T) {
	c := callWriter(t, calls.Config{Late: time.Hour}, 0, func(ctx context.Context, port dispatch.TaskPort) error { return write(ctx, port, 3, 1000) })
	<-c.ended
	_, s := c.open()
	if n, lost, end := c.read(s); n != 3000 || lost != 0 || end.Reason != "ended" {
		t.Errorf("read %d bytes, lost %d, ended %+v", n, lost, end)
	}
}

// TestOpenCalledStreamTooLate: a while after the end of the task its streams cannot be opened any more.
func TestOpenCalledStreamTooLate(t *testing.T) {
	c := callWriter(t, calls.Config{Late: -1}, 0, func(ctx context.Context, port dispatch.TaskPort) error { return write(ctx, port, 1, 1) })
	<-c.ended
	if _, err := c.call.OpenStream(within(t), (<-c.streams).ID); faultOf(err) != dispatch.StreamClosed || !strings.Contains(err.Error(), "the task has ended") {
		t.Errorf("%v", err)
	}
}

// TestUnreadCalledStream: what a handler has opened and does not read costs a bounded buffer, and holds the called agent up
// not at all: what the network does not keep is a gap.
func TestUnreadCalledStream(t *testing.T) {
	const items, size = 600, 15_000
	c := callWriter(t, calls.Config{}, 0, func(ctx context.Context, port dispatch.TaskPort) error { return write(ctx, port, items, size) })
	_, s := c.open()
	<-c.ended
	n, lost, end := c.read(s)
	// A buffer of a mebibyte, what had been asked for when it was full, and the network's hundred messages.
	if most := 1<<20 + 2*100*16_384; n > most || n == 0 || lost == 0 {
		t.Errorf("read %d of %d bytes, at most %d were kept; lost %d, %+v", n, items*size, most, lost, end)
	}
}

// TestWriteCalledStream: both sides write, and the end of the calling task ends the stream for both.
func TestWriteCalledStream(t *testing.T) {
	heard := make(chan string, 10)
	c := callWriter(t, calls.Config{}, 1, func(ctx context.Context, port dispatch.TaskPort) error {
		s, _, err := port.CreateStream(ctx, dispatch.StreamRequest{Declared: "chat"})
		if err != nil {
			return err
		}
		next, done, err := s.Read()
		if err != nil {
			return err
		}
		defer done()
		for {
			b, err := next(ctx)
			if err != nil {
				return err
			}
			for _, i := range b.Items {
				heard <- string(i.Data)
				if err := s.Write(ctx, []dispatch.StreamItem{i}, true); err != nil {
					return err
				}
			}
		}
	})
	_, s := c.open()
	event := dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: []byte(`{"n":1}`)}
	raw := dispatch.StreamItem{Kind: dispatch.StreamEventBytes, Data: []byte{0xff, 0}}
	if err := errors.Join(s.Write(within(t), []dispatch.StreamItem{event, raw}, false), s.Flush(within(t))); err != nil {
		t.Fatal(err)
	}
	for _, i := range []dispatch.StreamItem{
		{Kind: dispatch.StreamText, Data: []byte("x")}, {Kind: dispatch.StreamEvent, Data: []byte(`"a text"`)}, {Kind: dispatch.StreamEvent, Data: []byte(`{`)},
	} {
		if err := s.Write(within(t), []dispatch.StreamItem{event, i}, true); faultOf(err) != dispatch.StreamBadItem {
			t.Errorf("%s: %v", i.Data, err)
		}
	}
	next, done, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var got []dispatch.StreamItem
	for len(got) < 2 {
		b, err := next(within(t))
		if err != nil || b.End != nil {
			t.Fatalf("%+v, %v", b, err)
		}
		got = append(got, b.Items...)
	}
	if string(got[0].Data) != `{"n":1}` || got[0].Kind != dispatch.StreamEvent || string(got[1].Data) != "\xff\x00" || got[1].Kind != dispatch.StreamEventBytes {
		t.Errorf("answered %+v", got)
	}
	c.task.End()
	<-c.ended // canceled
	if b, err := next(within(t)); err != nil || b.End == nil {
		t.Errorf("after the end of the calling task: %+v, %v", b, err)
	}
	if err := s.Write(within(t), []dispatch.StreamItem{event}, true); faultOf(err) != dispatch.StreamClosed {
		t.Errorf("write after the end: %v", err)
	}
}

// TestCalledStreamsAreCounted: a task may have only so many open, and all together.
func TestCalledStreamsAreCounted(t *testing.T) {
	for what, cfg := range map[string]calls.Config{
		"this task has 2 streams":       {MaxStreams: 2},
		"the tasks here have 2 streams": {MaxAllStreams: 2},
	} {
		c := callWriter(t, cfg, 0, func(ctx context.Context, port dispatch.TaskPort) error {
			for range 3 {
				if _, _, err := port.CreateStream(ctx, dispatch.StreamRequest{Declared: "log"}); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return context.Cause(ctx)
		})
		_, first := c.open()
		c.open()
		third := <-c.streams
		if _, err := c.call.OpenStream(within(t), third.ID); faultOf(err) != dispatch.StreamLimit || !strings.HasPrefix(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
		if err := first.End(within(t)); err != nil {
			t.Error(err)
		}
		if _, err := c.call.OpenStream(within(t), third.ID); err != nil {
			t.Errorf("after the end of one: %v", err)
		}
	}
}
