package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// TestSlowNetworkSlowsTheWriter: while the network takes nothing of a stream, its writer waits, what waits is bounded, and
// another stream is as fast as ever; then everything arrives.
func TestSlowNetworkSlowsTheWriter(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	release := make(chan struct{})
	var stuck atomic.Value // name of the channel that the network is slow with
	stuck.Store("none")
	f.set(func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, stuck.Load().(string)) && strings.HasPrefix(r.URL.Path, "/publish/") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	slow, slowAnnounced := task.create("_default")
	fast, fastAnnounced := task.create("events")
	stuck.Store(slow.Info().Channel)

	chunk := bytes.Repeat([]byte("x"), 64<<10)
	taken := 0
	var err error
	for ; err == nil && taken < 1000; taken++ {
		err = slow.Write(t.Context(), []dispatch.StreamItem{{Kind: dispatch.StreamBytes, Data: chunk}}, false)
	}
	taken--
	if faultOf(err) != dispatch.StreamFull || taken == 0 || taken > 2*largeBuffer/len(chunk) {
		t.Fatalf("%d chunks were taken, then %v", taken, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	blocked := make(chan error, 1)
	go func() {
		blocked <- slow.Write(ctx, []dispatch.StreamItem{{Kind: dispatch.StreamBytes, Data: chunk}}, true)
	}()
	r := task.read(fastAnnounced)
	limit, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	for i := range 50 {
		put(t, fast, dispatch.StreamEvent, fmt.Sprintf(`{"n":%d}`, i))
		if err := fast.Flush(limit); err != nil {
			t.Fatal(err)
		}
	}
	for got := ""; !strings.HasSuffix(got, `{"n":49}`); {
		got = r.next()
	}
	select {
	case err := <-blocked:
		t.Fatalf("a write to a stream that is full returned: %v", err)
	default:
	}
	cancel()
	if err := <-blocked; !errors.Is(err, context.Canceled) {
		t.Errorf("let go with %v", err)
	}
	reading := task.read(slowAnnounced)
	close(release)
	all := make(chan string, 1)
	go func() { all <- reading.all() }()
	if err := slow.End(t.Context()); err != nil {
		t.Error(err)
	}
	if got := strings.ReplaceAll(<-all, "|", ""); len(got) != taken*len(chunk)+len("[ended]") {
		t.Errorf("%d bytes arrived of %d", len(got)-len("[ended]"), taken*len(chunk))
	}
	task.result <- errors.New("over")
}

// TestReaderThatStops: what nobody reads waits in a bounded queue, then in the network, and other streams go on.
func TestReaderThatStops(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	a := n.serve(streamCard(t, "worker"), st, nil)
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	feed, announced := task.create("feed")
	if _, _, err := feed.Read(); err != nil { // and never calls next
		t.Fatal(err)
	}
	w := task.write(announced)
	var writing sync.WaitGroup
	writing.Go(func() {
		for range 200 {
			if w.Write(t.Context(), stream.Bytes(make([]byte, 32<<10))) != nil {
				return
			}
		}
		_ = w.Flush(t.Context())
	})
	writing.Wait()
	open := a.sessionOfTest().streams.handle(a.find(task.id), feed.Info().ID).open
	if waiting := open.reader.Stats().Waiting; waiting > 4<<20 {
		t.Errorf("%d bytes wait for a reader that has stopped", waiting)
	}
	chat, announced := task.create("chat")
	put(t, chat, dispatch.StreamEvent, `{"still":"here"}`)
	if got := task.read(announced).next(); got != `{"still":"here"}` {
		t.Errorf("read %q", got)
	}
	task.result <- errors.New("over")
	task.ending()
}

// TestSharedTokenIsRenewed: the token of a shared stream came with its first task. When the network refuses it, a task that
// goes on gets another one, and nothing is lost.
func TestSharedTokenIsRenewed(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	var refused, refusals atomic.Value // the token that is refused
	refused.Store("none")
	var seen publishes
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		seen.watch(w, r)
		if strings.Contains(r.URL.Path, "/stream.worker.cast/") && r.URL.Query().Get("auth") == refused.Load().(string) {
			refusals.Store(true)
			return refuse(w, http.StatusForbidden)
		}
		return false
	})
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	one, two := n.streamTask(st, "worker", wire.Pipe, 5), n.streamTask(st, "worker", wire.Pipe, 9)
	one.create("cast")
	second, announced := two.create("cast")
	r := two.read(announced)
	put(t, second, dispatch.StreamEvent, `{"n":1}`)
	if got := r.next(); got != `{"n":1}` {
		t.Errorf("read %q", got)
	}
	one.result <- errors.New("over")
	one.ending()
	refused.Store(*a.sessionOfTest().streams.handle(a.find(two.id), "cast").open.token.Load())
	put(t, second, dispatch.StreamEvent, `{"n":2}`)
	if got := r.next(); got != `{"n":2}` {
		t.Errorf("read %q", got)
	}
	if refusals.Load() == nil {
		t.Error("the token was not refused")
	}
	all := seen.setups()
	if last := all[len(all)-1].body; !strings.Contains(last, two.id) || !strings.Contains(last, `"phase":"embedded"`) || !strings.Contains(last, `"durationMinutes":9`) {
		t.Errorf("the token was asked for with %s", last)
	}
	two.result <- errors.New("over")

	// A dedicated stream has nobody else: it fails for good, and its writer hears why.
	three := n.streamTask(st, "worker", wire.Pipe, 5)
	own, _ := three.create("events")
	bad := "bad"
	a.sessionOfTest().streams.handle(a.find(three.id), own.Info().ID).open.token.Store(&bad)
	if err := own.Write(t.Context(), items(dispatch.StreamEvent, `{}`), true); err != nil {
		t.Fatal(err)
	}
	if err := own.Flush(t.Context()); faultOf(err) != dispatch.StreamClosed || !strings.Contains(err.Error(), "has failed") {
		t.Errorf("flushed with %v", err)
	}
	three.result <- nil
	three.detached(a)
	a.cancel(three.id, dispatch.CancelUser)
	if last := three.ending(); last.State != wire.Canceled {
		t.Errorf("%s %s", last.State, last.Error)
	}
}

// TestOutageInStream: what was written while PubNub was gone arrives when it is back, and the end with it.
func TestOutageInStream(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	f := n.fault()
	a := n.serve(streamCard(t, "worker"), st, n.through(f))
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Request, 0)
	s, announced := task.create("_default")
	r := task.read(announced)
	put(t, s, dispatch.StreamText, "before ")
	if got := r.next(); got != "before " {
		t.Errorf("read %q", got)
	}
	f.set(func(w http.ResponseWriter, _ *http.Request) bool { return refuse(w, http.StatusServiceUnavailable) })
	put(t, s, dispatch.StreamText, "during ", "and ")
	task.result <- nil
	time.AfterFunc(500*time.Millisecond, func() { f.set(nil) })
	if got := strings.ReplaceAll(r.all(), "|", ""); got != "during and [ended]" {
		t.Errorf("read %q", got)
	}
	if last := task.ending(); last.State != wire.Completed {
		t.Errorf("%s %s", last.State, last.Error)
	}
}
