package agent

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
)

// TestStreamsAreMetered: what handlers write and read is counted, and nothing that was refused.
func TestStreamsAreMetered(t *testing.T) {
	n, st := newNetwork(t, false), newStage()
	var in, out atomic.Int64
	a := n.serve(streamCard(t, "worker"), st, func(c *Config) {
		c.Meters.Streamed = func(agent string, inbound bool, bytes int) {
			if agent != "worker" {
				t.Errorf("counted for %q", agent)
			}
			if inbound {
				in.Add(int64(bytes))
			} else {
				out.Add(int64(bytes))
			}
		}
	})
	a.await(StateOnline)
	task := n.streamTask(st, "worker", wire.Pipe, 5)
	written, _ := task.create("_default")
	put(t, written, dispatch.StreamText, "Hello ", "world")
	if err := written.Write(t.Context(), items(dispatch.StreamEvent, "1"), true); faultOf(err) != dispatch.StreamBadItem {
		t.Errorf("an event in a stream of bytes: %v", err)
	}
	feed, announced := task.create("feed")
	next, done, err := feed.Read()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	w := task.write(announced)
	if err := w.Write(t.Context(), stream.Text("12345")); err != nil {
		t.Fatal(err)
	}
	if err := w.End(t.Context()); err != nil {
		t.Fatal(err)
	}
	for {
		b, err := next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.End != nil {
			break
		}
	}
	if in.Load() != 5 || out.Load() != int64(len("Hello world")) {
		t.Errorf("%d bytes in, %d out", in.Load(), out.Load())
	}
	if s := a.Status(); s.Streams != 2 || s.StreamsInbound != 5 || s.StreamsOutbound != int64(len("Hello world")) { // a task has its streams until it is over
		t.Errorf("the status says %+v", s)
	}
	task.result <- errors.New("over") // a result would leave the pipe task running
	task.ending()
	testutil.Eventually(t, time.Minute, "no stream is left", func() bool { return a.Status().Streams == 0 })
}
