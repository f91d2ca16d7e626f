package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// TestSharedStreamIsNumberedByTheTime: what a writer sends that comes after another one does not look like that one's.
func TestSharedStreamIsNumberedByTheTime(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, n.through(n.fault()))
	a.await(StateOnline)
	from := time.Now().UnixMilli() * 1000
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	s, announced := task.create("cast")
	r := task.read(announced)
	put(t, s, dispatch.StreamEvent, `{"n":1}`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if d, err := r.Next(ctx); err != nil || d.Seq < from {
		t.Errorf("the first message has number %d, less than %d: %v", d.Seq, from, err)
	}
	task.result <- fmt.Errorf("enough")
	task.ending()
}

// TestStreamShared: one writer for all tasks; each task's consumer is notified; nobody but the last ends it, and no end is
// marked.
func TestStreamShared(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	f.set(seen.watch)
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	one, two := n.streamTask(st, "worker", wire.Pipe, 5), n.streamTask(st, "worker", wire.Pipe, 7)
	first, firstAnnounced := one.create("cast")
	second, secondAnnounced := two.create("cast")
	if firstAnnounced.Channel != "stream.worker.cast" || secondAnnounced.Channel != firstAnnounced.Channel || firstAnnounced.Token == secondAnnounced.Token {
		t.Errorf("announced as %+v and %+v", firstAnnounced, secondAnnounced)
	}
	if !first.Info().First || second.Info().First || !first.Info().Shared {
		t.Errorf("%+v and %+v", first.Info(), second.Info())
	}
	again, created, err := one.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "cast"})
	if err != nil || created || again != first {
		t.Errorf("the same task got %v, %v, %v", again, created, err)
	}
	phases := func() (all []string) {
		for _, m := range seen.setups() {
			var s struct {
				Phase           string
				DurationMinutes int
			}
			_ = json.Unmarshal([]byte(m.body), &s)
			all = append(all, fmt.Sprint(s.Phase, " ", s.DurationMinutes))
		}
		return all
	}
	if diff := cmp.Diff([]string{"embedded 5", "activate 7"}, phases()); diff != "" {
		t.Errorf("set-ups (-want +got):\n%s", diff)
	}
	r1, r2 := one.read(firstAnnounced), two.read(secondAnnounced)
	put(t, first, dispatch.StreamEvent, `{"n":1}`)
	for _, r := range []*reading{r1, r2} {
		if got := r.next(); got == "[gap of 1]" || got != `{"n":1}` {
			t.Errorf("read %q", got)
		}
	}
	one.result <- errors.New("over")
	if last := one.ending(); last.State != wire.Failed {
		t.Errorf("%s %s", last.State, last.Error)
	}
	if err := first.Write(t.Context(), items(dispatch.StreamEvent, `{}`), true); faultOf(err) != dispatch.StreamClosed {
		t.Errorf("a task that has let go writes: %v", err)
	}
	put(t, second, dispatch.StreamEvent, `{"n":2}`)
	if got := r2.next(); got != `{"n":2}` {
		t.Errorf("read %q", got)
	}
	two.result <- errors.New("over")
	two.ending()
	seen.mu.Lock()
	for _, s := range seen.seen {
		if strings.HasSuffix(s, "stream_end") {
			t.Errorf("a shared stream was marked as ended: %s", s)
		}
	}
	seen.mu.Unlock()

	// A later task has a writer of its own, whose numbers go on: nobody takes its messages for old ones.
	three := n.streamTask(st, "worker", wire.Pipe, 5)
	third, thirdAnnounced := three.create("cast")
	put(t, third, dispatch.StreamEvent, `{"n":3}`)
	r3 := three.read(thirdAnnounced)
	for got := ""; got != `{"n":3}`; {
		if got = r3.next(); strings.HasPrefix(got, "[e") || strings.HasPrefix(got, "[f") {
			t.Fatalf("read %q", got)
		}
	}
	three.result <- errors.New("over")
}

// TestStreamSharedTogether: tasks that want the same stream at the same time make it once, and a failure reaches all.
func TestStreamSharedTogether(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	var refuse atomic.Bool
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		seen.watch(w, r)
		if refuse.Load() && strings.Contains(r.URL.Path, "/setup.") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"status":403,"message":{"ok":false,"error":{"code":"TokenGrantFailed","message":"Not now."}}}`))
			return true
		}
		return false
	})
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	var tasks []*streamed
	for range 3 {
		tasks = append(tasks, n.streamTask(st, "worker", wire.Pipe, 5))
	}
	together := func() (errs []error) {
		var all sync.WaitGroup
		var mu sync.Mutex
		for _, s := range tasks {
			for range 2 { // and each task twice
				all.Go(func() {
					_, _, err := s.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "cast"})
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				})
			}
		}
		all.Wait()
		return errs
	}
	refuse.Store(true)
	for _, err := range together() {
		if faultOf(err) != dispatch.StreamUnavailable || !strings.Contains(err.Error(), "Not now") {
			t.Errorf("refused with %v", err)
		}
	}
	refuse.Store(false)
	before := len(seen.setups())
	for _, err := range together() {
		if err != nil {
			t.Error(err)
		}
	}
	phases := map[string]int{}
	for _, m := range seen.setups()[before:] {
		var s struct{ Phase string }
		_ = json.Unmarshal([]byte(m.body), &s)
		phases[s.Phase]++
	}
	if phases["embedded"] != 1 || phases["activate"] != 2 || len(phases) != 2 {
		t.Errorf("set-ups %v", phases)
	}
	for _, s := range tasks {
		s.result <- errors.New("over")
	}
}

// TestStreamExternal: another process gets what it needs to write the stream; here it cannot be written, and the consumer
// learns of it when it is activated.
func TestStreamExternal(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var seen publishes
	f.set(seen.watch)
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	s, created, err := task.port.CreateStream(t.Context(), dispatch.StreamRequest{Declared: "_default", External: true, Metadata: json.RawMessage(`{"a":1}`)})
	if err != nil || !created {
		t.Fatal(err)
	}
	e := s.Info().External
	if e == nil || e.Token == "" || e.SubscribeKey != task.keys.SubscribeKey || e.PublishKey == "" || e.Origin != "http://"+f.addr || time.Until(e.Expires) < 5*time.Minute {
		t.Errorf("external: %+v", e)
	}
	if faultOf(s.Write(t.Context(), items(dispatch.StreamText, "x"), true)) != dispatch.StreamClosed || faultOf(s.Flush(t.Context())) != dispatch.StreamClosed {
		t.Error("an external stream was written here")
	}
	if _, _, err := s.Read(); faultOf(err) != dispatch.StreamClosed {
		t.Errorf("an external stream was read here: %v", err)
	}
	if active := a.sessionOfTest().streams.active.Load(); active != 0 {
		t.Errorf("%d active streams", active)
	}
	if err := s.Activate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := task.announced(); string(got.Metadata) != `{"a":1}` {
		t.Errorf("announced with %s", got.Metadata)
	}
	if err := s.Activate(t.Context(), json.RawMessage(`{"b":2}`)); err != nil {
		t.Fatal(err)
	}
	if got := task.announced(); string(got.Metadata) != `{"b":2}` {
		t.Errorf("announced with %s", got.Metadata)
	}
	var phases []string
	for _, m := range seen.setups() {
		var s struct{ Phase string }
		_ = json.Unmarshal([]byte(m.body), &s)
		phases = append(phases, s.Phase)
	}
	if diff := cmp.Diff([]string{"token_request", "activate", "activate"}, phases); diff != "" {
		t.Errorf("set-ups (-want +got):\n%s", diff)
	}
	if err := s.End(t.Context()); err != nil {
		t.Error(err)
	}
	task.result <- errors.New("over")
	task.ending()
	if got := seen.of(task.id); got != "terminal" {
		t.Errorf("published %s", got)
	}
}

func (s *served) sessionOfTest() *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn.session
}

// TestStreamFails: a stream that has failed takes every task with it, and each consumer reads why.
func TestStreamFails(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	one, two := n.streamTask(st, "worker", wire.Pipe, 5), n.streamTask(st, "worker", wire.Pipe, 5)
	first, _ := one.create("cast")
	two.create("cast")
	own, ownAnnounced := two.create("_default")
	put(t, own, dispatch.StreamText, "x")
	r := two.read(ownAnnounced)
	go func() { <-two.ctx.Done(); two.result <- nil }()
	one.result <- nil
	one.detached(a)
	if err := first.Fail(t.Context(), "The feed broke off."); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*streamed{one, two} {
		if last := s.ending(); last.State != wire.Failed || last.Error != "The feed broke off." {
			t.Errorf("%s %s", last.State, last.Error)
		}
	}
	if got := r.all(); got != "x[ended]" {
		t.Errorf("another stream of a task that failed: %q", got)
	}

	three := n.streamTask(st, "worker", wire.Request, 0)
	s, announced := three.create("_default")
	put(t, s, dispatch.StreamText, "y")
	r = three.read(announced)
	if err := s.Fail(t.Context(), "No more."); err != nil {
		t.Fatal(err)
	}
	if got := r.all(); got != "y[failedNo more.]" {
		t.Errorf("read %q", got)
	}
	three.result <- nil
	if last := three.ending(); last.State != wire.Failed || last.Error != "No more." {
		t.Errorf("%s %s", last.State, last.Error)
	}
}
