package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// TestStreamOfRequest: what a handler writes arrives while the task runs, and the stream ends before the task does.
func TestStreamOfRequest(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Request, 0)
	s, announced := task.create("_default")
	if want := task.id + "-1"; s.Info().ID != want || announced.ID != want || announced.Channel != "stream.worker."+want || announced.Declared != "_default" {
		t.Errorf("stream %+v, announced %+v", s.Info(), announced)
	}
	r := task.read(announced)
	put(t, s, dispatch.StreamText, "Hello ", "world")
	if got := r.next(); got != "Hello |world" {
		t.Errorf("read %q", got)
	}
	put(t, s, dispatch.StreamBytes, "\xff\x00", "")
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, dispatch.StreamText, "last")
	task.result <- nil
	if got := r.all(); got != "\xff\x00|last[ended]" && got != "\xff\x00|[ended]" && !strings.HasSuffix(got, "last[ended]") {
		t.Errorf("read %q", got)
	}
	if last := task.ending(); last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
	if err := s.Write(t.Context(), items(dispatch.StreamText, "late"), true); faultOf(err) != dispatch.StreamClosed {
		t.Errorf("written after the end: %v", err)
	}
	if _, err := task.port.Stream(announced.ID); !errors.Is(err, dispatch.ErrTaskOver) {
		t.Errorf("a stream of a task that is over: %v", err)
	}
	if _, _, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default"}); !errors.Is(err, dispatch.ErrTaskOver) {
		t.Errorf("a stream for a task that is over: %v", err)
	}
}

// TestStreamEndsBeforeTerminal: however the task ends, the end of its stream is published before the terminal event.
func TestStreamEndsBeforeTerminal(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var order publishes
	f.set(order.watch)
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	for name, tc := range map[string]struct {
		kind wire.TaskKind
		end  func(*streamed)
		want wire.TaskState
	}{
		"result":   {wire.Request, func(s *streamed) { s.result <- nil }, wire.Completed},
		"error":    {wire.Request, func(s *streamed) { s.result <- errors.New("no") }, wire.Failed},
		"canceled": {wire.Request, func(s *streamed) { a.cancel(s.id, dispatch.CancelUser); s.asked(t); s.result <- nil }, wire.Canceled},
		"ignored": {wire.Request, func(s *streamed) {
			a.cancel(s.id, dispatch.CancelUser)
			s.asked(t)
			t.Cleanup(func() { s.result <- nil })
		}, wire.Canceled},
		"detached":   {wire.Pipe, func(s *streamed) { s.result <- nil; s.detached(a); a.cancel(s.id, dispatch.CancelUser) }, wire.Canceled},
		"expired":    {wire.Pipe, func(s *streamed) { s.result <- nil; s.detached(a); a.cancel(s.id, dispatch.CancelExpired) }, wire.Completed},
		"terminated": {wire.Pipe, func(s *streamed) { s.result <- nil; s.detached(a); a.cancel(s.id, dispatch.CancelTerminated) }, wire.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			minutes := 0
			if tc.kind == wire.Pipe {
				minutes = 5
			}
			s := n.streamTask(st, "worker", tc.kind, minutes)
			made, announced := s.create("_default")
			put(t, made, dispatch.StreamText, "tail")
			tc.end(s)
			if last := s.ending(); last.State != tc.want {
				t.Errorf("%s %s", last.State, last.Error)
			}
			if got := order.of(s.id); got != "stream_data stream_end terminal" {
				t.Errorf("published %s", got)
			}
			if got := s.read(announced).all(); got != "tail[ended]" && !strings.Contains(got, "revoked") {
				t.Errorf("read %q", got)
			}
		})
	}
}

// TestStreamWriteErrors: a write that cannot be is an error and disturbs nothing.
func TestStreamWriteErrors(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	plain, bytesAnnounced := task.create("_default")
	events, eventsAnnounced := task.create("events")
	feed, _ := task.create("feed")
	for _, tc := range []struct {
		s     dispatch.Stream
		item  dispatch.StreamItem
		fault dispatch.StreamFault
		says  string
	}{
		{events, dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: []byte(`"a string"`)}, dispatch.StreamBadItem, "takes no such item"},
		{events, dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: []byte(`{`)}, dispatch.StreamBadItem, "takes no such item"},
		{events, dispatch.StreamItem{Kind: dispatch.StreamText, Data: []byte(`x`)}, dispatch.StreamBadItem, "takes events"},
		{plain, dispatch.StreamItem{Kind: dispatch.StreamEvent, Data: []byte(`{}`)}, dispatch.StreamBadItem, "takes bytes or text"},
		{plain, dispatch.StreamItem{Kind: dispatch.StreamBytes, Data: make([]byte, maxStreamItem+1)}, dispatch.StreamBadItem, "takes no such item"},
		{feed, dispatch.StreamItem{Kind: dispatch.StreamText, Data: []byte(`x`)}, dispatch.StreamClosed, "only the consumer writes it"},
	} {
		err := tc.s.Write(t.Context(), []dispatch.StreamItem{tc.item}, true)
		if faultOf(err) != tc.fault || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v", err)
		}
	}
	if _, _, err := plain.Read(); faultOf(err) != dispatch.StreamClosed || !strings.Contains(err.Error(), "only the consumer reads it") {
		t.Errorf("read what is outbound: %v", err)
	}
	if err := plain.Activate(t.Context(), nil); faultOf(err) != dispatch.StreamForbidden {
		t.Errorf("activated what is not external: %v", err)
	}
	put(t, plain, dispatch.StreamText, "good")
	put(t, events, dispatch.StreamEvent, `{"good":1}`)
	put(t, events, dispatch.StreamEventBytes, "\x01\x02")
	for range 2 { // it may be repeated
		if err := plain.End(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := plain.Write(t.Context(), items(dispatch.StreamText, "late"), true); faultOf(err) != dispatch.StreamClosed || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("written after the end: %v", err)
	}
	if again, err := task.port.Stream(plain.Info().ID); err != nil || again.End(t.Context()) != nil || faultOf(again.Flush(t.Context())) != dispatch.StreamClosed {
		t.Errorf("looked up after the end: %v", err)
	}
	for _, id := range []string{"nope", task.id + "-4", task.id + "-0", task.id + "-01", "cast"} {
		if _, err := task.port.Stream(id); faultOf(err) != dispatch.StreamUnknown {
			t.Errorf("%s: %v", id, err)
		}
	}
	if got := task.read(bytesAnnounced).all(); got != "good[ended]" {
		t.Errorf("read %q", got)
	}
	r := task.read(eventsAnnounced)
	task.result <- errors.New("over")
	if got := r.all(); !strings.Contains(strings.ReplaceAll(got, "|", ""), `{"good":1}{"$binary":"AQI="}[ended]`) {
		t.Errorf("read %q", got)
	}
}

// TestStreamInbound and bidirectional: what the consumer writes reaches the handler, each side only what the other wrote.
func TestStreamInbound(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	feed, announced := task.create("feed")
	next, done, err := feed.Read()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := feed.Read(); faultOf(err) != dispatch.StreamClosed || !strings.Contains(err.Error(), "being read already") {
		t.Errorf("two readers: %v", err)
	}
	w := task.write(announced)
	if err := w.Write(t.Context(), stream.Text("one"), stream.Bytes([]byte{0xff})); err != nil {
		t.Fatal(err)
	}
	if err := w.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		b, err := next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range b.Items {
			got = append(got, string(i.Data))
		}
		if b.End != nil {
			got = append(got, b.End.Reason)
			break
		}
	}
	done()
	if diff := cmp.Diff([]string{"one", "\xff", "ended"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	chat, announced := task.create("chat")
	next, done, err = chat.Read()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	r, w := task.read(announced), task.write(announced)
	put(t, chat, dispatch.StreamEvent, `{"text":"AGENT> HELLO"}`)
	if got := r.next(); got != `{"text":"AGENT> HELLO"}` {
		t.Errorf("the consumer reads %q", got)
	}
	if err := w.Write(t.Context(), stream.Event(json.RawMessage(`{"text":"ping"}`))); err != nil {
		t.Fatal(err)
	}
	if b, err := next(t.Context()); err != nil || len(b.Items) != 1 || string(b.Items[0].Data) != `{"text":"ping"}` {
		t.Errorf("the handler reads %+v, %v", b, err)
	}
	// A handler that waits for its consumer is let go when the task ends.
	ended := make(chan string, 1)
	go func() {
		b, err := next(context.Background())
		ended <- fmt.Sprint(b.End, err)
	}()
	task.result <- errors.New("over")
	task.ending()
	select {
	case got := <-ended:
		if got != "&{closed } <nil>" {
			t.Errorf("the wait ended with %s", got)
		}
	case <-time.After(patience):
		t.Error("a reader waits although the task is over")
	}
}

// TestStreamOfDetachedTask: a pipe task that goes on after its handler has returned keeps its streams and can end itself.
func TestStreamOfDetachedTask(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	for _, held := range []bool{true, false} { // with and without a process that has the task
		task := n.streamTask(st, "worker", wire.Pipe, 5)
		s, announced := task.create("events")
		r := task.read(announced)
		if err := task.port.End(nil); !errors.Is(err, dispatch.ErrNotDetached) {
			t.Errorf("ended before the handler has returned: %v", err)
		}
		if held {
			if !task.port.Detached() {
				t.Fatal("not detached")
			}
			go func() { <-task.ctx.Done(); task.result <- nil }()
		} else {
			task.result <- nil
			task.detached(a)
		}
		put(t, s, dispatch.StreamEvent, `{"still":"here"}`)
		if got := r.next(); got != `{"still":"here"}` {
			t.Errorf("read %q", got)
		}
		var failure *dispatch.TaskFailure
		if held {
			failure = &dispatch.TaskFailure{Kind: dispatch.HandlerError, Public: "Enough."}
		}
		if err := task.port.End(failure); err != nil {
			t.Error(err)
		}
		if err := task.port.End(nil); !errors.Is(err, dispatch.ErrTaskOver) {
			t.Errorf("ended again: %v", err)
		}
		if last := task.ending(); held && (last.State != wire.Failed || last.Error != "Enough.") || !held && last.State != wire.Completed {
			t.Errorf("%s %s", last.State, last.Error)
		}
		if got := r.all(); got != "[ended]" {
			t.Errorf("read %q", got)
		}
	}
}

// TestStreamsArePresent: the network and the event bus learn of the streams that are open.
func TestStreamsArePresent(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var announced atomic.Int64
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if state, err := wire.DecodePresenceState([]byte(r.URL.Query().Get("state"))); err == nil {
			announced.Store(int64(state.ActiveStreams))
		}
		return false
	})
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	news := a.events.Follow(event.StreamOpened, event.StreamClosed)
	defer news.Close()
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	presented := func(want int64) {
		t.Helper()
		eventually(t, fmt.Sprint(want, " active streams are announced"), func() bool { return announced.Load() == want })
	}
	one, _ := task.create("_default")
	task.create("cast")
	presented(2)
	if err := one.End(t.Context()); err != nil {
		t.Error(err)
	}
	presented(1)
	task.result <- errors.New("over")
	task.ending()
	presented(0)
	var got []string
	for range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		got = append(got, func() string {
			e, err := news.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(e.Type, " ", e.State, " ", strings.TrimPrefix(e.Reason, task.id), " ", e.TaskID == task.id)
		}())
		cancel()
	}
	if diff := cmp.Diff([]string{"stream_opened outbound -1 true", "stream_opened outbound cast true", "stream_closed ended -1 true", "stream_closed ended cast true"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestStreamsEndWithTheAgent: a drain ends every writer, and its reader sees the end.
func TestStreamsEndWithTheAgent(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, func(c *Config) { c.Drain = 0 })
	a.await(StateOnline)
	var all []*reading
	for range 3 {
		task := n.streamTask(st, "worker", wire.Pipe, 5)
		s, announced := task.create("_default")
		put(t, s, dispatch.StreamText, "tail")
		all = append(all, task.read(announced))
		go func() { <-task.ctx.Done(); task.result <- nil }()
	}
	a.stop()
	if err := a.ended(); err != nil {
		t.Error(err)
	}
	for _, r := range all {
		if got := r.all(); got != "tail[ended]" {
			t.Errorf("read %q", got)
		}
	}
}
