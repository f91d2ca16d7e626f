package event_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTypesHaveNames(t *testing.T) {
	for _, typ := range event.Types() {
		if got, ok := event.ParseType(typ.String()); !ok || got != typ {
			t.Errorf("%v is read back as %v, %v", typ, got, ok)
		}
	}
	if _, ok := event.ParseType(""); ok {
		t.Error("no name is a type")
	}
}

// TestReaders: every reader sees the events of its types in order and, beside them, how many it missed.
func TestReaders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := event.NewBus(event.Config{Tasks: rapid.IntRange(1, 5).Draw(t, "tasks"), States: rapid.IntRange(1, 5).Draw(t, "states")})
		var last uint64
		emit := func() {
			last++
			b.Emit(event.Event{Type: rapid.SampledFrom([]event.Type{event.TaskAccepted, event.TaskEnded, event.AgentState, event.Notice}).Draw(t, "type")})
		}
		for range rapid.IntRange(0, 12).Draw(t, "before") {
			emit()
		}
		since := rapid.Uint64Range(0, last).Draw(t, "since")
		all, fresh, states := b.Since(since), b.Follow(), b.Follow(event.AgentState)
		newest := map[*event.Reader]uint64{all: since, fresh: last}
		seen := map[*event.Reader]uint64{all: since, fresh: last}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "emit") {
				emit()
				continue
			}
			r := rapid.SampledFrom([]*event.Reader{all, fresh}).Draw(t, "reader")
			item, ok := r.TryNext()
			if !ok {
				if seen[r] != last {
					t.Fatalf("nothing more after %d of %d", seen[r], last)
				}
				continue
			}
			if item.Seq <= newest[r] || item.Time.IsZero() {
				t.Fatalf("after %d comes %+v", newest[r], item)
			}
			newest[r] = item.Seq
			seen[r] += item.Missed + 1
			if seen[r] > last {
				t.Fatalf("%d events were seen or missed of %d", seen[r], last)
			}
		}
		previous := uint64(0)
		for item, ok := states.TryNext(); ok; item, ok = states.TryNext() {
			if item.Type != event.AgentState || item.Seq <= previous {
				t.Fatalf("a reader of agent states reads %v %d after %d", item.Type, item.Seq, previous)
			}
			previous = item.Seq
		}
	})
}

// TestFloodOfTasks: however many tasks there are, a change of state is still there to be read.
func TestFloodOfTasks(t *testing.T) {
	b := event.NewBus(event.Config{})
	r := b.Follow(event.HandlerState)
	defer r.Close()
	b.Emit(event.Event{Type: event.HandlerState, Handler: "h", State: "ready"})
	for range 100_000 {
		b.Emit(event.Event{Type: event.TaskEnded})
	}
	if item, ok := r.TryNext(); !ok || item.Handler != "h" || item.Seq != 1 {
		t.Errorf("read %+v, %v", item, ok)
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := event.NewBus(event.Config{})
		r := b.Follow(event.Drain)
		defer r.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(time.Second)
			b.Emit(event.Event{Type: event.Notice})
			time.Sleep(time.Second)
			b.Emit(event.Event{Type: event.Drain, State: "drained"})
		})
		begin := time.Now()
		item, err := r.Next(t.Context())
		if err != nil || item.State != "drained" || time.Since(begin) != 2*time.Second || !item.Time.Equal(time.Now()) {
			t.Errorf("read %+v, %v after %v", item, err, time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for nothing ends with %v", err)
		}
		wg.Wait()
	})
}

// TestStuckReader: a reader that reads nothing holds up nobody, and reads later what is still there.
func TestStuckReader(t *testing.T) {
	b := event.NewBus(event.Config{States: 10})
	r := b.Follow()
	defer r.Close()
	for range 25 {
		b.Emit(event.Event{Type: event.Notice})
	}
	item, ok := r.TryNext()
	if !ok || item.Missed != 15 || item.Seq != 16 {
		t.Errorf("read %+v, %v", item, ok)
	}
	if item, _ := r.TryNext(); item.Missed != 0 || item.Seq != 17 {
		t.Errorf("then read %+v", item)
	}
	if b.Missed() != 15 {
		t.Errorf("%d were missed", b.Missed())
	}
}

// TestTake: what is taken at once is what would have been read one by one.
func TestTake(t *testing.T) {
	b := event.NewBus(event.Config{States: 10})
	r := b.Follow()
	defer r.Close()
	if got := r.Take(5); got != nil {
		t.Errorf("took %v of nothing", got)
	}
	for range 13 {
		b.Emit(event.Event{Type: event.Notice})
	}
	first, rest := r.Take(4), r.Take(100)
	if len(first) != 4 || first[0].Missed != 3 || first[0].Seq != 4 || len(rest) != 6 || rest[5].Seq != b.Seq() || rest[5].Missed != 0 {
		t.Errorf("took %+v, then %+v", first, rest)
	}
}

// TestSetTypes: a reader that changes its types reads on without a gap in those that it had, and from now on in the others.
func TestSetTypes(t *testing.T) {
	b := event.NewBus(event.Config{})
	r := b.Follow(event.Drain)
	defer r.Close()
	b.Emit(event.Event{Type: event.Drain})
	b.Emit(event.Event{Type: event.TaskEnded})
	r.SetTypes(event.Drain, event.TaskEnded)
	b.Emit(event.Event{Type: event.TaskEnded})
	b.Emit(event.Event{Type: event.Notice})
	r.SetTypes()
	b.Emit(event.Event{Type: event.TaskStarted})
	var got []uint64
	for _, item := range r.Take(10) {
		got = append(got, item.Seq)
		if item.Missed != 0 {
			t.Errorf("missed %d", item.Missed)
		}
	}
	if !slices.Equal(got, []uint64{1, 3, 4, 5}) { // 4 is in a ring that it reads, and of a type that it reads by now
		t.Errorf("read %v", got)
	}
}

func TestNoBus(t *testing.T) {
	var b *event.Bus
	b.Emit(event.Event{Type: event.Notice})
	r := b.Follow()
	defer r.Close()
	if _, ok := r.TryNext(); ok {
		t.Error("no bus has an event")
	}
}

func BenchmarkEmit(b *testing.B) {
	bus := event.NewBus(event.Config{})
	r := bus.Follow(event.AgentState)
	defer r.Close()
	e := event.Event{Type: event.TaskEnded, Agent: "a", TaskID: "t", State: "completed"}
	b.ReportAllocs()
	for b.Loop() {
		bus.Emit(e)
	}
}

// TestFloodOfOthers: a reader of states misses nothing because of tasks, however many there are.
func TestFloodOfOthers(t *testing.T) {
	b := event.NewBus(event.Config{Tasks: 2, States: 2})
	r := b.Follow(event.AgentState)
	defer r.Close()
	for range 10 {
		b.Emit(event.Event{Type: event.TaskAccepted})
	}
	b.Emit(event.Event{Type: event.AgentState})
	if item, ok := r.TryNext(); !ok || item.Missed != 0 || item.Type != event.AgentState {
		t.Errorf("got %+v, %v", item, ok)
	}
}
