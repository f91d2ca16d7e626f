package daemon

import (
	"context"
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
func (d *Daemon) Events(ctx context.Context, req *controlv1.EventsRequest, send func(*controlv1.EventsResponse) error) error {
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
		if err := send(&controlv1.EventsResponse{Items: past[:min(len(past), eventsBatch)]}); err != nil {
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
		items := feed.items(reader.Take(eventsBatch))
		if len(items) > 0 {
			if err := send(&controlv1.EventsResponse{Items: items}); err != nil {
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
		items = append(items, f.items(more)...)
	}
	return items
}

func (f *eventFeed) items(read []event.Item) (items []*controlv1.EventItem) {
	for _, i := range read {
		if f.begun && i.Seq > f.seq+1 {
			items = append(items, &controlv1.EventItem{Item: &controlv1.EventItem_Missed{Missed: i.Seq - f.seq - 1}})
		}
		f.seq, f.begun = i.Seq, true
		items = append(items, &controlv1.EventItem{Item: &controlv1.EventItem_Event{Event: eventForm(i.Event)}})
	}
	return items
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
