package daemon

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/wire"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

// collect returns what Events hands out without following.
func collect(t *testing.T, d *Daemon, request *controlv1.EventsRequest) (items []*controlv1.EventItem) {
	t.Helper()
	err := d.Events(t.Context(), request, func(encoded control.EncodedItems) error {
		more, err := encoded.Decode()
		items = append(items, more...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// continuous checks that the numbers grow by one, but for gaps of the size that is said.
func continuous(t *testing.T, since uint64, items []*controlv1.EventItem) (missed uint64) {
	t.Helper()
	for _, i := range items {
		if i.GetEvent() == nil {
			missed += i.GetMissed()
			since += i.GetMissed()
			continue
		}
		if since++; i.GetEvent().GetSeq() != since {
			t.Fatalf("event %d comes in place of %d", i.GetEvent().GetSeq(), since)
		}
	}
	return missed
}

func TestEventsOfThePast(t *testing.T) {
	d := &Daemon{events: event.NewBus(event.Config{Tasks: 300, States: 10})}
	if got := collect(t, d, &controlv1.EventsRequest{}); got != nil {
		t.Errorf("nothing has happened, but there is %v", got)
	}
	for i := range 2000 {
		d.events.Emit(event.Event{Type: event.TaskAccepted, Agent: "a"})
		if i%100 == 0 {
			d.events.Emit(event.Event{Type: event.Notice, State: "x", PID: 7})
		}
	}
	since := uint64(0)
	all := collect(t, d, &controlv1.EventsRequest{Since: &since})
	if missed := continuous(t, 0, all); missed != 2020-310 || all[0].GetMissed() == 0 {
		t.Errorf("%d are missed, and the first is %v", missed, all[0])
	}
	kept := collect(t, d, &controlv1.EventsRequest{})
	if kept[0].GetEvent() == nil {
		t.Error("who asks for what is kept is told of what is not")
	}
	continuous(t, kept[0].GetEvent().GetSeq()-1, kept)
	last := collect(t, d, &controlv1.EventsRequest{Last: 3})
	if len(last) != 3 || last[2].GetEvent().GetSeq() != 2020 {
		t.Errorf("the last three are %v", last)
	}
	since = 2018
	if got := collect(t, d, &controlv1.EventsRequest{Since: &since}); len(got) != 2 || continuous(t, since, got) != 0 {
		t.Errorf("after %d comes %v", since, got)
	}
	since = 2021
	var future control.FutureError
	if err := d.Events(t.Context(), &controlv1.EventsRequest{Since: &since}, nil); !errors.As(err, &future) || future.Latest != 2020 {
		t.Errorf("got %v", err)
	}
}

// TestWatchers: fifty watchers see every task from its acceptance to its end, and one that does not read hinders nobody.
func TestWatchers(t *testing.T) {
	network := startNetwork(t)
	d := start(t, settingsFor(t, network, handlers(t, "echo")))
	d.ready(t)
	const watchers, tasks = 50, 20
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	dial := func() *control.Client {
		c, err := control.Dial(ctx, d.settings().Socket)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	begin := d.events.Seq()
	done := errors.New("seen enough")
	var seeing sync.WaitGroup
	for range watchers {
		c := dial()
		seeing.Go(func() {
			defer c.Close()
			ended := map[string]bool{}
			seq := begin
			err := c.Events(ctx, &controlv1.EventsRequest{Since: &begin, Follow: true}, func(i *controlv1.EventItem) error {
				e := i.GetEvent()
				if seq++; e.GetSeq() != seq {
					t.Errorf("event %v comes in place of %d", i, seq)
					return done
				}
				if e.GetType() == "task_ended" {
					if ended[e.GetTaskId()] || e.GetDuration().AsDuration() <= 0 || e.GetAgent() != "echo" || e.GetHandler() != "echo" || e.GetState() != "completed" {
						t.Errorf("event %v", e)
					}
					if ended[e.GetTaskId()] = true; len(ended) == tasks {
						return done
					}
				}
				return nil
			})
			if !errors.Is(err, done) {
				t.Errorf("a watcher ended with %v", err)
			}
		})
	}
	stuck := dial()
	all.Go(func() {
		defer stuck.Close()
		_ = stuck.Events(ctx, &controlv1.EventsRequest{Follow: true}, func(*controlv1.EventItem) error { <-ctx.Done(); return ctx.Err() })
	})
	for range tasks {
		if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
			t.Errorf("a task ended as %s", e.Raw)
		}
	}
	seeing.Wait()       // the flood below would push out what they have to see
	for range 100_000 { // more than the stuck one has room for
		d.events.Emit(event.Event{Type: event.Notice})
	}
	if e := awaitEvent(t, submit(t, network, "echo", "hi"), terminal); e.State != wire.Completed {
		t.Errorf("a task ended as %s", e.Raw)
	}
}

// TestPauseFor: one watcher sees an event soon, and many together are no load.
func TestPauseFor(t *testing.T) {
	for watchers, want := range map[int64]time.Duration{1: 20 * time.Millisecond, 3: 20 * time.Millisecond, 50: 260 * time.Millisecond, 10_000: 500 * time.Millisecond} {
		if got := pauseFor(watchers); got != want {
			t.Errorf("%d watchers: %s, want %s", watchers, got, want)
		}
	}
}
