package journal

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/wire"
)

// TestStreams: the streams of an open task are there after a restart, and an update of a task that is over changes nothing.
func TestStreams(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	a := agent(t, j, "a")
	task := Task{ID: "t", Message: []byte(`{}`), Accepted: time.UnixMilli(1_777_000_000_000)}
	e, written := accept(a, task)
	over, overWritten := accept(a, Task{ID: "over", Accepted: task.Accepted})
	wait(t, written)
	wait(t, overWritten)
	task.Streams = []Stream{{"t-1", "stream.a.t-1", wire.FormatBytes, "a-stream-0001-ab", "token"}, {"t-2", "stream.a.t-2", wire.FormatEvents, "a-stream-0002-cd", "other"}}
	done := make(chan error, 1)
	e.Update(task, func(err error) { done <- err })
	wait(t, done)
	over.Finish(Finished{ID: "over", Outcome: wire.Terminal{State: wire.Completed}, At: task.Accepted})
	over.Update(Task{ID: "over", Streams: task.Streams}, nil)
	shut(t, j)
	j = open(t, dir, nil)
	entries, err := agent(t, j, "a").Open()
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d open tasks, %v", len(entries), err)
	}
	if diff := cmp.Diff(task, entries[0].Task); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	shut(t, j)
}
