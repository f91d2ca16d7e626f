package sandbox

import (
	"fmt"
	"net/url"
	"runtime"
	"testing"

	"github.com/blocksd/blocksd/network/wire"
)

// Bounds of what finished tasks may cost, generous: a task with its events, tokens and occupants takes about 8 KiB.
const (
	taskCost = 32 << 10 // of one that is kept
	leftOver = 3 << 20  // of all that have been forgotten: the newest tokens stay in a cache
)

// TestFinishedTasksAreForgotten: with a provider that is idle, 1,000 finished tasks beyond those that are kept leave
// the memory as it was.
func TestFinishedTasksAreForgotten(t *testing.T) {
	const kept, more = 100, 1000
	b := start(t, func(c *Config) { c.KeepFinished = kept })
	b.register("echo", 1, `{}`)
	w := b.work("echo", "AG-echo-1", 1)
	w.state(0)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what the first one finalized
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	serve := func(n int) {
		token := ""
		for i := range n {
			if i%100 == 0 { // one lasts a minute, all these tasks may take longer
				token = b.consumer(b.APIKey())
			}
			s := b.send(token, "echo", fmt.Sprintf("task %d", i), nil)
			x := s.Extensions.Blocks
			// A consumer that is present on the task's channel and never leaves.
			if status, body, _ := b.do("GET", "/v2/subscribe/"+x.SubscribeKey+"/"+x.StreamChannels.Status+"/0?uuid=c-"+s.TaskID+"&auth="+url.QueryEscape(x.ReadToken), "", ""); status != 200 {
				t.Fatalf("handshake: %d %s", status, body)
			}
			order := w.next()
			w.running(order)
			w.end(order, wire.Completed)
			w.state(0)
		}
	}
	empty := heap()
	serve(kept)
	full := heap()
	serve(more)
	after := heap()
	t.Logf("%d KiB without tasks, %d with %d, %d after %d more", empty>>10, full>>10, kept, after>>10, more)
	if each := (full - empty) / kept; each > taskCost {
		t.Errorf("a task that is kept costs %d bytes, more than %d", each, taskCost)
	}
	if grown := after - full; grown > leftOver {
		t.Errorf("%d forgotten tasks have left %d bytes behind, more than %d", more, grown, leftOver)
	}
	if st := b.blocks.Stats(); st.Tasks != kept {
		t.Errorf("%d tasks are kept, want %d", st.Tasks, kept)
	}
	st := b.blocks.Environment(wire.Free).Space.Stats()
	if st.Channels > kept+1 || st.Members > kept+1 {
		t.Errorf("%d channels and %d members are left of %d tasks", st.Channels, st.Members, kept)
	}
}
