package pluginsdk

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// streamHost is the daemon's side of one stream.
type streamHost struct {
	handlerv1.UnimplementedHostServiceServer
	created *handlerv1.CreateStreamResponse
	answers []*handlerv1.ReadStreamResponse
	// hold blocks writes until it is closed; entered gets a value for each.
	hold    chan struct{}
	entered chan struct{}

	mu    sync.Mutex // guards what follows
	asked *handlerv1.CreateStreamRequest
	calls [][]string // items of each write
	said  []string   // other calls
	fail  error      // of writes
}

func (h *streamHost) CreateStream(_ context.Context, r *handlerv1.CreateStreamRequest) (*handlerv1.CreateStreamResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = r
	if h.created == nil {
		return nil, status.Error(codes.FailedPrecondition, "the consumer did not ask for streams")
	}
	return h.created, nil
}

func (h *streamHost) WriteStream(ctx context.Context, r *handlerv1.WriteStreamRequest) (*handlerv1.WriteStreamResponse, error) {
	if h.hold != nil {
		h.entered <- struct{}{}
		select {
		case <-h.hold:
		case <-ctx.Done():
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		return nil, h.fail
	}
	var items []string
	for _, i := range r.GetItems() {
		items = append(items, string(i.GetData())+i.GetText()+string(i.GetEventJson())+string(i.GetEventData()))
	}
	if items != nil {
		h.calls = append(h.calls, items)
	}
	if r.GetFlush() {
		h.said = append(h.said, "flush")
	}
	return &handlerv1.WriteStreamResponse{}, nil
}

func (h *streamHost) ReadStream(_ *handlerv1.ReadStreamRequest, s grpc.ServerStreamingServer[handlerv1.ReadStreamResponse]) error {
	for _, m := range h.answers {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	if n := len(h.answers); n > 0 && h.answers[n-1].End != nil {
		return nil
	}
	<-s.Context().Done()
	return s.Context().Err()
}

func (h *streamHost) EndStream(_ context.Context, r *handlerv1.EndStreamRequest) (*handlerv1.EndStreamResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, strings.TrimSpace("end "+r.GetFailure()))
	return &handlerv1.EndStreamResponse{}, nil
}

func (h *streamHost) ActivateStream(_ context.Context, r *handlerv1.ActivateStreamRequest) (*handlerv1.ActivateStreamResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, "activate "+string(r.GetMetadataJson()))
	return &handlerv1.ActivateStreamResponse{}, nil
}

func (h *streamHost) EndTask(_ context.Context, r *handlerv1.EndTaskRequest) (*handlerv1.EndTaskResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, strings.TrimSpace("end task "+r.GetError().GetPublicMessage()))
	return &handlerv1.EndTaskResponse{}, nil
}

// streamTask is a task whose daemon is h.
func streamTask(t *testing.T, h *streamHost) *Task {
	t.Helper()
	return hostedTask(t, h)
}

func hostedTask(t *testing.T, h handlerv1.HostServiceServer) *Task {
	t.Helper()
	ho := &host{socket: listen(t, func(s *grpc.Server) { handlerv1.RegisterHostServiceServer(s, h) }), token: "secret"}
	if _, err := ho.dial(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ho.conn.Close() })
	return newTask(&handlerv1.Task{TaskId: "t"}, ho, func(*handlerv1.StartTaskResponse) error { return nil })
}

func created(d handlerv1.StreamDirection, f handlerv1.StreamFormat) *handlerv1.CreateStreamResponse {
	return &handlerv1.CreateStreamResponse{StreamId: "t-1", DeclaredStream: "log", Direction: d, Format: f, Created: true, First: true, Channel: "stream.a.t-1"}
}

const (
	outbound = handlerv1.StreamDirection_STREAM_DIRECTION_OUTBOUND
	inbound  = handlerv1.StreamDirection_STREAM_DIRECTION_INBOUND
	asBytes  = handlerv1.StreamFormat_STREAM_FORMAT_BYTES
	asEvents = handlerv1.StreamFormat_STREAM_FORMAT_EVENTS
)

func TestCreateStream(t *testing.T) {
	h := &streamHost{created: created(outbound, asEvents)}
	task := streamTask(t, h)
	s, err := task.CreateStream(t.Context(), StreamOptions{
		Declared: "log", Direction: Outbound, Format: EventsFormat, Metadata: map[string]any{"a": 1}, Grace: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != "t-1" || s.Declared != "log" || s.Channel != "stream.a.t-1" || s.Direction != Outbound || s.Format != EventsFormat || !s.Created || s.Shared || s.External != nil {
		t.Errorf("stream %+v", s)
	}
	if r := h.asked; r.GetTaskId() != "t" || r.GetDeclaredStream() != "log" || r.GetDirection() != outbound || r.GetFormat() != asEvents ||
		string(r.GetMetadataJson()) != `{"a":1}` || r.GetGrace().AsDuration() != time.Second {
		t.Errorf("asked for %v", r)
	}
	if _, err := task.CreateStream(t.Context(), StreamOptions{Direction: "sideways"}); err == nil {
		t.Error("a direction that does not exist was taken")
	}
	if _, err := task.CreateStream(t.Context(), StreamOptions{Metadata: func() {}}); err == nil {
		t.Error("metadata that cannot be encoded was taken")
	}
	h.created = nil
	_, err = task.CreateStream(t.Context(), StreamOptions{})
	if !errors.Is(err, ErrStreamClosed) || err.Error() != "create a stream of task t: the consumer did not ask for streams" {
		t.Errorf("refused with %v", err)
	}
}

// TestWritesShareCalls: a lone write goes out at once; what is written while a call is under way shares the next one.
func TestWritesShareCalls(t *testing.T) {
	h := &streamHost{created: created(outbound, asBytes), hold: make(chan struct{}), entered: make(chan struct{}, 100)}
	s, err := streamTask(t, h).CreateStream(t.Context(), StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteText("first"); err != nil {
		t.Fatal(err)
	}
	<-h.entered
	want := []string{}
	for range 100 {
		if err := s.WriteText("x"); err != nil {
			t.Fatal(err)
		}
		want = append(want, "x")
	}
	if _, err := s.Write([]byte("\xff")); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteText("\xfe"); err != nil { // no text, but its bytes
		t.Fatal(err)
	}
	want = append(want, "\xff", "\xfe")
	close(h.hold)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if diff := cmp.Diff([][]string{{"first"}, want}, h.calls); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"flush", "end"}, h.said); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestWriteBlocks: when the daemon takes nothing, writes wait and nothing piles up; the end of the context lets them go.
func TestWriteBlocks(t *testing.T) {
	h := &streamHost{created: created(outbound, asBytes), hold: make(chan struct{}), entered: make(chan struct{}, 100)}
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := streamTask(t, h).CreateStream(ctx, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WriteText("under way"); err != nil {
		t.Fatal(err)
	}
	<-h.entered
	chunk, taken := make([]byte, 16<<10), 0
	for err = s.TryWrite(chunk); err == nil; err = s.TryWrite(chunk) {
		taken++
	}
	if !errors.Is(err, ErrStreamFull) || taken != (outboxBytes-overhead)/(len(chunk)+overhead) {
		t.Errorf("after %d chunks: %v", taken, err)
	}
	blocked := make(chan error, 1)
	go func() {
		_, err := s.Write(chunk)
		blocked <- err
	}()
	select {
	case err := <-blocked:
		t.Fatalf("a write did not wait: %v", err)
	case <-time.After(50 * time.Millisecond): // it cannot be seen waiting
	}
	cancel(&Canceled{User})
	var why *Canceled
	if err := <-blocked; !errors.As(err, &why) || why.Reason != User {
		t.Errorf("let go with %v", err)
	}
	close(h.hold)
	if err := s.out.drain(t.Context()); err != nil {
		t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, call := range h.calls {
		n += len(call)
	}
	if n != taken+1 {
		t.Errorf("%d items arrived of %d that were taken before the task was asked to end", n, taken+1)
	}
}

// TestCallsOfATaskThatWasAskedToEnd: each says why it did not happen.
func TestCallsOfATaskThatWasAskedToEnd(t *testing.T) {
	h := &streamHost{created: created(outbound, asBytes)}
	task := streamTask(t, h)
	s, err := task.CreateStream(t.Context(), StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(&Canceled{User})
	_, created := task.CreateStream(ctx, StreamOptions{})
	for want, err := range map[string]error{
		"create a stream of task t: the task was asked to end (user)": created,
		"activate stream t-1: the task was asked to end (user)":       s.Activate(ctx, nil),
		"flush stream t-1: the task was asked to end (user)":          s.Flush(ctx),
		"end stream t-1: the task was asked to end (user)":            s.End(ctx),
	} {
		var why *Canceled
		if err == nil || err.Error() != want || !errors.As(err, &why) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestWriteErrors(t *testing.T) {
	h := &streamHost{created: created(outbound, asEvents)}
	task := streamTask(t, h)
	s, err := task.CreateStream(t.Context(), StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for want, err := range map[string]error{
		"write to stream t-1: a string cannot be an event: wrap it in an object":      s.WriteEvent("text"),
		"write to stream t-1: it is a stream of events: use WriteEvent":               s.WriteText("text"),
		"write to stream t-1: the event cannot be encoded: it is not JSON":            s.WriteEvent(json.RawMessage("{")),
		"write to stream t-1: an item has 4194305 bytes, more than 4194304: split it": s.WriteEvent(make([]byte, 4<<20+1)),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, ErrStreamClosed) {
		t.Errorf("read what is outbound: %v", err)
	}
	for _, v := range []any{map[string]string{"a": "<b>"}, 1, nil, []byte("\x00"), json.RawMessage(` {"b": 1} `)} {
		if err := s.WriteEvent(v); err != nil {
			t.Error(err)
		}
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
	h.mu.Lock()
	var got []string
	for _, c := range h.calls {
		got = append(got, c...)
	}
	h.fail = status.Error(codes.FailedPrecondition, "stream t-1 has failed: the network denies it")
	h.mu.Unlock()
	if diff := cmp.Diff([]string{`{"a":"<b>"}`, "1", "null", "\x00", `{"b": 1}`}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := s.WriteEvent(2); err != nil { // taken before the daemon has answered
		t.Error(err)
	}
	if err := s.Flush(t.Context()); !errors.Is(err, ErrStreamClosed) || err.Error() != "flush stream t-1: stream t-1 has failed: the network denies it" {
		t.Errorf("flushed with %v", err)
	}
	if err := s.WriteEvent(3); !errors.Is(err, ErrStreamClosed) {
		t.Errorf("written after a failure: %v", err)
	}
	if err := s.Fail(t.Context(), "broken"); err == nil {
		t.Error("the failure of a write was lost")
	}
	if err := s.WriteEvent(4); !errors.Is(err, ErrStreamClosed) {
		t.Errorf("written after the end: %v", err)
	}
	if err := task.EndTask(t.Context(), Private("Sorry.", io.ErrUnexpectedEOF)); err != nil {
		t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if diff := cmp.Diff([]string{"flush", "end broken", "end task Sorry."}, h.said); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func item(s string) *handlerv1.StreamItem {
	return &handlerv1.StreamItem{Item: &handlerv1.StreamItem_Data{Data: []byte(s)}}
}

// TestRead: the ways to read a stream, whatever the pieces are, and the ways in which it ends.
func TestRead(t *testing.T) {
	smile := "😀"
	batch := func(items ...string) *handlerv1.ReadStreamResponse {
		m := &handlerv1.ReadStreamResponse{}
		for _, s := range items {
			m.Items = append(m.Items, item(s))
		}
		return m
	}
	end := func(reason, detail string) *handlerv1.ReadStreamResponse {
		return &handlerv1.ReadStreamResponse{End: &handlerv1.StreamEnd{Reason: reason, Detail: detail}}
	}
	gap := batch("e")
	gap.Gap = &handlerv1.StreamGap{Messages: 3}
	open := func(answers ...*handlerv1.ReadStreamResponse) (*Stream, *int64) {
		lost := new(int64)
		s, err := streamTask(t, &streamHost{created: created(inbound, asBytes), answers: answers}).CreateStream(t.Context(), StreamOptions{OnGap: func(n int64) { *lost += n }})
		if err != nil {
			t.Fatal(err)
		}
		return s, lost
	}
	s, lost := open(batch("a"+smile[:1], smile[1:3]), batch(smile[3:]+"b\xff", ""), gap, end("ended", ""))
	var texts []string
	for text, err := range s.Text() {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	if got := strings.Join(texts, "|"); got != "a|"+smile+"b\uFFFD|e" || *lost != 3 {
		t.Errorf("texts %q, %d lost", got, *lost)
	}
	for range s.Bytes() { // it stays over
		t.Error("yielded after the end")
	}

	s, _ = open(batch("ab", "", "c"), batch("def"), end("drained", ""))
	for b, err := range s.Bytes() {
		if string(b) != "ab" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		break // the next reader goes on from here
	}
	if all, err := io.ReadAll(s); string(all) != "cdef" || err != nil {
		t.Errorf("read %q, %v", all, err)
	}

	s, _ = open(batch("x"), end("failed", "The feed broke off."))
	all, err := io.ReadAll(s)
	var failed *StreamFailed
	if string(all) != "x" || !errors.As(err, &failed) || failed.Reason != "failed" || err.Error() != "read stream t-1: The feed broke off." {
		t.Errorf("read %q, %v", all, err)
	}
	s, _ = open(batch(smile[:2]), end("revoked", ""))
	for text, err := range s.Text() {
		if text != "" || err == nil || err.Error() != "read stream t-1: the stream was taken away" {
			t.Errorf("%q, %v", text, err)
		}
	}

	// A reader that waits is let go by End, and by the context.
	s, _ = open()
	go func() { _ = s.End(context.Background()) }()
	if all, err := io.ReadAll(s); len(all) != 0 || err != nil {
		t.Errorf("read %q, %v", all, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err = streamTask(t, &streamHost{created: created(inbound, asEvents)}).CreateStream(ctx, StreamOptions{})
	if err != nil {
		t.Fatal(err)
	}
	go cancel(&Canceled{Expired})
	for _, err := range s.Events() {
		if why := (*Canceled)(nil); !errors.As(err, &why) || why.Reason != Expired {
			t.Errorf("let go with %v", err)
		}
	}
}

// TestOnActivate: what runs beside the handler takes the stream with it when it goes wrong.
func TestOnActivate(t *testing.T) {
	for name, f := range map[string]func(context.Context, *Stream) error{
		"error": func(context.Context, *Stream) error { return errors.New("no feed") },
		"panic": func(context.Context, *Stream) error { panic("oh") },
	} {
		h := &streamHost{created: created(outbound, asBytes)}
		task := streamTask(t, h)
		if _, err := task.CreateStream(t.Context(), StreamOptions{OnActivate: f}); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(patience)
		for {
			h.mu.Lock()
			said := strings.Join(h.said, " ")
			h.mu.Unlock()
			if said == "end stream_crashed" {
				break
			}
			if said != "" || time.Now().After(deadline) {
				t.Fatalf("%s: %q", name, said)
			}
			time.Sleep(time.Millisecond)
		}
	}
	h := &streamHost{created: created(outbound, asBytes)}
	h.created.First = false // another task has made it
	if _, err := streamTask(t, h).CreateStream(t.Context(), StreamOptions{OnActivate: func(context.Context, *Stream) error { t.Error("called"); return nil }}); err != nil {
		t.Fatal(err)
	}
}

// TestRunReturnsBeforeItsWrites: what a handler has written before it returns arrives, although its context ends then.
func TestRunReturnsBeforeItsWrites(t *testing.T) {
	h := &streamHost{created: created(outbound, asBytes), hold: make(chan struct{}), entered: make(chan struct{}, 100)}
	ho := &host{socket: listen(t, func(s *grpc.Server) { handlerv1.RegisterHostServiceServer(s, h) }), token: "secret"}
	if _, err := ho.dial(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ho.conn.Close() })
	c := daemon(t, Handler{Run: func(ctx context.Context, task *Task) error {
		s, err := task.CreateStream(ctx, StreamOptions{})
		if err != nil {
			return err
		}
		for _, w := range []string{"a", "b", "c"} {
			if err := s.WriteText(w); err != nil {
				return err
			}
		}
		return nil
	}}, ho)
	go func() { <-h.entered; close(h.hold) }()
	if d := cmp.Diff([]string{"result"}, answers(t, c, task("t"))); d != "" {
		t.Error(d)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, call := range h.calls {
		all = append(all, call...)
	}
	if got := strings.Join(all, ""); got != "abc" {
		t.Errorf("%q arrived before the result", got)
	}
}
