package daemon

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/blocksd/blocksd/daemon/control"
	"github.com/blocksd/blocksd/event"
	controlv1 "github.com/blocksd/blocksd/proto/blocks/control/v1"
)

const (
	// eventsBatch is how many events go to a watcher in one message, at most.
	eventsBatch = 256
	// eventsPause lets events gather before they go out. It grows with the number of watchers, one for each eventsShare of
	// them, up to maxEventsPause: all of them together must not take the processor from the tasks.
	eventsPause    = 20 * time.Millisecond
	eventsShare    = 4
	maxEventsPause = 500 * time.Millisecond
)

// pauseFor is how long events gather when there are so many watchers.
func pauseFor(watchers int64) time.Duration {
	return min(eventsPause*time.Duration(1+watchers/eventsShare), maxEventsPause)
}

// Events implements control.EventSource. A watcher that does not read holds up its own goroutine only: the bus goes on, and
// it learns later how much it has missed.
func (d *Daemon) Events(ctx context.Context, req *controlv1.EventsRequest, send func(control.EncodedItems) error) error {
	since, latest := req.GetSince(), d.events.Seq()
	if since > latest {
		return control.FutureError{Since: since, Latest: latest}
	}
	reader := d.events.Since(since)
	defer reader.Close()
	feed := eventFeed{seq: since, begun: req.Since != nil}
	past := feed.past(reader, latest)
	if last := int(req.GetLast()); last > 0 && len(past) > last {
		past = past[len(past)-last:]
	}
	for ; len(past) > 0; past = past[min(len(past), eventsBatch):] {
		var out control.EncodedItems
		for _, item := range past[:min(len(past), eventsBatch)] {
			var err error
			if out, err = out.AppendItem(item); err != nil {
				return err
			}
		}
		if err := send(out); err != nil {
			return err
		}
	}
	if !req.GetFollow() {
		return nil
	}
	d.watchers.Add(1)
	defer d.watchers.Add(-1)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		items, err := feed.encoded(reader.Take(eventsBatch), &d.encoded)
		if err != nil {
			return err
		}
		if len(items) > 0 {
			if err := send(items); err != nil {
				return err
			}
			pause.Reset(pauseFor(d.watchers.Load()))
			select {
			case <-pause.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		select {
		case <-reader.Wake():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// eventFeed turns what a reader of all events reads into what a watcher gets. It counts gaps by the numbers of the events,
// so that each gap stands where it is.
type eventFeed struct {
	seq   uint64 // of the last event
	begun bool   // seq counts: what is between it and the next event is a gap
}

// past returns what is kept up to the event with that number.
func (f *eventFeed) past(r *event.Reader, latest uint64) (items []*controlv1.EventItem) {
	for f.seq < latest {
		more := r.Take(eventsBatch)
		if len(more) == 0 {
			break
		}
		for _, i := range more {
			if gap := f.step(i.Seq); gap > 0 {
				items = append(items, gapForm(gap))
			}
			items = append(items, itemForm(i.Event))
		}
	}
	return items
}

// encoded returns what was read in the form in which it goes out.
func (f *eventFeed) encoded(read []event.Item, from *encodedEvents) (out control.EncodedItems, err error) {
	for _, i := range read {
		if gap := f.step(i.Seq); gap > 0 {
			if out, err = out.AppendItem(gapForm(gap)); err != nil {
				return nil, err
			}
		}
		item, err := from.of(i.Event)
		if err != nil {
			return nil, err
		}
		out = append(out, item...)
	}
	return out, nil
}

// step goes on to an event and returns how many are missed before it.
func (f *eventFeed) step(seq uint64) (gap uint64) {
	if f.begun && seq > f.seq+1 {
		gap = seq - f.seq - 1
	}
	f.seq, f.begun = seq, true
	return gap
}

// encodedEvents are the latest events in the form in which they go out. All watchers get the same events at about the same
// time, so each is encoded once.
type encodedEvents struct {
	mu   sync.Mutex // guards what follows
	ring []encodedEvent
}

type encodedEvent struct {
	seq  uint64
	item control.EncodedItems
}

// encodedKept is how many are kept.
const encodedKept = 4 * eventsBatch

func (e *encodedEvents) of(ev event.Event) (control.EncodedItems, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ring == nil {
		e.ring = make([]encodedEvent, encodedKept)
	}
	place := &e.ring[ev.Seq%encodedKept]
	if place.seq == ev.Seq {
		return place.item, nil
	}
	item, err := control.EncodedItems(nil).AppendItem(itemForm(ev))
	if err == nil && ev.Seq > place.seq { // one that lags does not take it from the others
		*place = encodedEvent{ev.Seq, item}
	}
	return item, err
}

func gapForm(missed uint64) *controlv1.EventItem {
	return &controlv1.EventItem{Item: &controlv1.EventItem_Missed{Missed: missed}}
}

func itemForm(e event.Event) *controlv1.EventItem {
	return &controlv1.EventItem{Item: &controlv1.EventItem_Event{Event: eventForm(e)}}
}

func eventForm(e event.Event) *controlv1.Event {
	out := &controlv1.Event{
		Seq: e.Seq, Time: timestamppb.New(e.Time), Type: e.Type.String(), Agent: e.Agent, Handler: e.Handler, TaskId: e.TaskID,
		State: e.State, Reason: e.Reason,
	}
	if e.PID != 0 {
		pid := int32(e.PID)
		out.Pid = &pid
	}
	if e.Duration != 0 || e.Type == event.TaskEnded {
		out.Duration = durationpb.New(e.Duration)
	}
	return out
}
