package pluginsdk

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

// callHost is the daemon's side of a call whose task has two streams. It answers with two events, the second of which is the
// end when the test says so.
type callHost struct {
	streamHost
	end    chan struct{}
	opened []string // guarded by mu
	refuse error
}

func (h *callHost) CallAgent(s grpc.BidiStreamingServer[handlerv1.CallAgentRequest, handlerv1.CallAgentResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	if !first.GetCall().GetStream() {
		return status.Error(codes.InvalidArgument, "no streams were asked for")
	}
	for _, m := range []*handlerv1.CallAgentResponse{
		{Submitted: &handlerv1.SubmittedCall{TaskId: "c"}},
		{EventJson: []byte(`{"type":"progress"}`), Streams: []*handlerv1.CalledStream{
			{StreamId: "c-1", DeclaredStream: "log", Direction: handlerv1.StreamDirection_STREAM_DIRECTION_INBOUND, Format: handlerv1.StreamFormat_STREAM_FORMAT_BYTES, MetadataJson: []byte(`{"n":1}`)},
			{StreamId: "news", DeclaredStream: "news", Direction: handlerv1.StreamDirection_STREAM_DIRECTION_OUTBOUND, Format: handlerv1.StreamFormat_STREAM_FORMAT_EVENTS, Shared: true},
		}},
	} {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	select {
	case <-h.end:
	case <-s.Context().Done():
		return s.Context().Err()
	}
	return s.Send(&handlerv1.CallAgentResponse{EventJson: []byte(`{"type":"terminal","state":"completed"}`)})
}

func (h *callHost) OpenCallStream(_ context.Context, r *handlerv1.OpenCallStreamRequest) (*handlerv1.OpenCallStreamResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = append(h.opened, r.GetTaskId()+" "+r.GetCalledTaskId()+" "+r.GetStreamId())
	return &handlerv1.OpenCallStreamResponse{}, h.refuse
}

// WriteStream and the two others only take what names the called task.
func (h *callHost) WriteStream(ctx context.Context, r *handlerv1.WriteStreamRequest) (*handlerv1.WriteStreamResponse, error) {
	if r.GetCalledTaskId() != "c" || r.GetTaskId() != "t" {
		return nil, status.Error(codes.NotFound, "no such task")
	}
	return h.streamHost.WriteStream(ctx, r)
}

func (h *callHost) ReadStream(r *handlerv1.ReadStreamRequest, s grpc.ServerStreamingServer[handlerv1.ReadStreamResponse]) error {
	if r.GetCalledTaskId() != "c" || r.GetTaskId() != "t" {
		return status.Error(codes.NotFound, "no such task")
	}
	return h.streamHost.ReadStream(r, s)
}

func (h *callHost) EndStream(ctx context.Context, r *handlerv1.EndStreamRequest) (*handlerv1.EndStreamResponse, error) {
	if r.GetCalledTaskId() != "c" || r.GetTaskId() != "t" {
		return nil, status.Error(codes.NotFound, "no such task")
	}
	return h.streamHost.EndStream(ctx, r)
}

func callTask(t *testing.T, h *callHost) (*Task, *Session) {
	t.Helper()
	task := hostedTask(t, h)
	s, err := task.Call(t.Context(), Message{Agent: "other", Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return task, s
}

// TestStreamsOfACall: they are found by name and id, opened once, read and written.
func TestStreamsOfACall(t *testing.T) {
	h := &callHost{end: make(chan struct{}), streamHost: streamHost{answers: []*handlerv1.ReadStreamResponse{
		{Items: []*handlerv1.StreamItem{{Item: &handlerv1.StreamItem_Text{Text: "one "}}}},
		{Items: []*handlerv1.StreamItem{{Item: &handlerv1.StreamItem_Data{Data: []byte("two")}}}, Gap: &handlerv1.StreamGap{Messages: 2}},
		{End: &handlerv1.StreamEnd{Reason: "ended"}},
	}}}
	_, s := callTask(t, h)
	log, err := s.WaitStream(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	if log.Name() != "log" || log.Direction != Inbound || log.Format != BytesFormat || string(log.Metadata) != `{"n":1}` {
		t.Errorf("%+v", log)
	}
	if same, err := s.WaitStream(t.Context(), "c-1"); same != log || err != nil {
		t.Errorf("by id: %v, %v", same, err)
	}
	if _, err := s.WaitStream(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "there are several") {
		t.Errorf("without a name: %v", err)
	}
	if all := s.Streams(); len(all) != 2 || !all[1].Shared {
		t.Errorf("%v", all)
	}
	var lost int64
	in, err := log.Open(t.Context(), OnGap(func(n int64) { lost += n }))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := log.Open(t.Context()); again != in || err != nil {
		t.Errorf("opened again: %v, %v", again, err)
	}
	if all, err := io.ReadAll(in); string(all) != "one two" || err != nil || lost != 2 {
		t.Errorf("read %q, %v, lost %d", all, err, lost)
	}
	if _, err := in.Write([]byte("x")); !errors.Is(err, ErrStreamClosed) || !strings.Contains(err.Error(), "only the called agent writes it") {
		t.Errorf("write: %v", err)
	}
	if err := errors.Join(in.Fail(t.Context(), "x"), in.Activate(t.Context(), nil)); err == nil || strings.Count(err.Error(), "it belongs to a called task") != 2 {
		t.Errorf("fail and activate: %v", err)
	}
	news, err := s.WaitStream(t.Context(), "news")
	if err != nil {
		t.Fatal(err)
	}
	out, err := news.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(out.WriteEvent(map[string]int{"n": 1}), out.Flush(t.Context()), out.End(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := out.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "only the called agent reads it") {
		t.Errorf("read: %v", err)
	}
	close(h.end)
	if _, err := s.WaitStream(t.Context(), "other"); err == nil || !strings.Contains(err.Error(), "has ended without it") {
		t.Errorf("a stream that never comes: %v", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := strings.Join(h.opened, ", "); got != "t c c-1, t c news" {
		t.Errorf("opened %s", got)
	}
	if len(h.calls) != 1 || h.calls[0][0] != `{"n":1}` || strings.Join(h.said, ", ") != "flush, end" {
		t.Errorf("wrote %q, %q", h.calls, h.said)
	}
}

// TestWaitStreamFunc: each stream is looked at once, and whoever looks may ask the session.
func TestWaitStreamFunc(t *testing.T) {
	h := &callHost{end: make(chan struct{})}
	_, s := callTask(t, h)
	var seen []string
	found, err := s.WaitStreamFunc(t.Context(), func(c *CalledStream) bool {
		seen = append(seen, c.ID)
		return len(s.Streams()) == 2 && c.Shared
	})
	if err != nil || found.ID != "news" || strings.Join(seen, " ") != "c-1 news" {
		t.Errorf("%v, %v, looked at %q", found, err, seen)
	}
	waiting, stop := context.WithCancel(t.Context())
	none := func(*CalledStream) bool { stop(); return false }
	if _, err := s.WaitStreamFunc(waiting, none); !errors.Is(err, context.Canceled) || err.Error() != "wait for a stream of task c: context canceled" {
		t.Errorf("given up: %v", err)
	}
	close(h.end)
	if _, err := s.WaitStreamFunc(t.Context(), none); err == nil || err.Error() != "wait for a stream of task c: the task has ended without it" {
		t.Errorf("after the end: %v", err)
	}
}

// TestOpenAll: what can be read is opened, and what is refused left out.
func TestOpenAll(t *testing.T) {
	h := &callHost{end: make(chan struct{}), refuse: status.Error(codes.ResourceExhausted, "the sentence")}
	_, s := callTask(t, h)
	log, err := s.WaitStream(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	if all := s.OpenAll(t.Context()); len(all) != 0 {
		t.Errorf("opened %v", all)
	}
	h.mu.Lock()
	h.refuse = nil
	h.mu.Unlock()
	all := s.OpenAll(t.Context())
	if len(all) != 1 || all[0].ID != "c-1" { // the other one is only written here
		t.Fatalf("opened %v", all)
	}
	if again, err := log.Open(t.Context()); again != all[0] || err != nil {
		t.Errorf("%v, %v", again, err)
	}
}

// TestOpenIsRefused: the daemon's sentence is the error, and a stream that has ended is a closed one.
func TestOpenIsRefused(t *testing.T) {
	h := &callHost{end: make(chan struct{})}
	_, s := callTask(t, h)
	log, err := s.WaitStream(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code   codes.Code
		closed bool
	}{{codes.NotFound, false}, {codes.FailedPrecondition, true}, {codes.ResourceExhausted, false}} {
		h.mu.Lock()
		h.refuse = status.Error(c.code, "the sentence")
		h.mu.Unlock()
		if _, err := log.Open(t.Context()); err == nil || err.Error() != `open stream "log" of task c: the sentence` || errors.Is(err, ErrStreamClosed) != c.closed || errors.Is(err, ErrTaskEnded) {
			t.Errorf("%s: %v", c.code, err)
		}
	}
}

// TestOwnAndCalledStreamsOfOneName: an agent that calls itself has a shared stream twice, and each is another one.
func TestOwnAndCalledStreamsOfOneName(t *testing.T) {
	own := created(handlerv1.StreamDirection_STREAM_DIRECTION_OUTBOUND, handlerv1.StreamFormat_STREAM_FORMAT_EVENTS)
	own.StreamId, own.Shared, own.Created = "news", true, false
	h := &callHost{end: make(chan struct{}), streamHost: streamHost{created: own}}
	task, s := callTask(t, h)
	ref, err := s.WaitStream(t.Context(), "news")
	if err != nil {
		t.Fatal(err)
	}
	called, err := ref.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if mine, err := task.CreateStream(t.Context(), StreamOptions{}); err != nil || mine == called {
		t.Errorf("%v, %v", mine, err)
	}
}
