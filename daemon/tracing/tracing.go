// Package tracing sends a trace of each task to a collector of OpenTelemetry. Spans are made from what the event bus says,
// after it has happened: a collector that is slow or away costs spans, and neither time nor memory of a task.
package tracing

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/blocksd/blocksd/event"
)

// Config of a Tracer. Endpoint, Events and Log are required.
type Config struct {
	// Endpoint is the address of the collector, with or without the path /v1/traces.
	Endpoint string
	Headers  http.Header // of each request
	// Service names the daemon in the traces.
	Service string
	Version string
	Events  *event.Bus
	Log     *slog.Logger
}

// Tracer traces the tasks of one daemon.
type Tracer struct {
	log        *slog.Logger
	reader     *event.Reader
	deliveries chan delivery
	overflow   atomic.Uint64 // deliveries that found no room
	queue      *queue
	sender     *sender
	last       time.Duration // for the requests after the daemon's last task
}

// delivery: the network has the outcome of a task.
type delivery struct {
	taskID string
	at     time.Time
}

// maxDeliveries is how many wait for Run. Its loop takes microseconds for each.
const maxDeliveries = 4096

// New returns a tracer of what happens from now on. Close must follow, or Run.
func New(cfg Config) (*Tracer, error) {
	if cfg.Events == nil || cfg.Log == nil {
		return nil, errors.New("traces need the event bus and a log")
	}
	address, err := Address(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	resource := &resourcepb.Resource{Attributes: []*commonpb.KeyValue{
		text("service.name", cfg.Service), text("service.version", cfg.Version), number("process.pid", os.Getpid()),
	}}
	if host, err := os.Hostname(); err == nil {
		resource.Attributes = append(resource.Attributes, text("host.name", host))
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost = 1
	return &Tracer{
		log: cfg.Log, reader: cfg.Events.Follow(event.TaskAccepted, event.TaskStarted, event.TaskEnded),
		deliveries: make(chan delivery, maxDeliveries), queue: newQueue(),
		sender: &sender{address: address, headers: cfg.Headers, client: &http.Client{Transport: transport, CheckRedirect: here}, resource: resource, version: cfg.Version, timeout: requestTimeout},
		last:   lastTimeout,
	}, nil
}

// here keeps a request where it is: its headers may hold secrets of that collector.
func here(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Close ends a tracer that was not run.
func (t *Tracer) Close() { t.reader.Close() }

// Delivered says that the network has the outcome of a task. It never waits.
func (t *Tracer) Delivered(taskID string) {
	select {
	case t.deliveries <- delivery{taskID, time.Now()}:
	default:
		t.overflow.Add(1) // its span comes later, without what came after the outcome
	}
}

// Run makes and sends spans until ctx ends, and then what is left, for a moment.
func (t *Tracer) Run(ctx context.Context) {
	defer t.reader.Close()
	defer t.sender.client.CloseIdleConnections()
	sending, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	made := make(chan struct{}) // closed when there will be no more spans
	var work sync.WaitGroup
	work.Go(func() { t.send(sending, made) })
	t.make(ctx)
	close(made)
	timer := time.AfterFunc(t.last, stop)
	defer timer.Stop()
	work.Wait()
}

// make makes spans until ctx ends, and then of what has happened by then.
func (t *Tracer) make(ctx context.Context) {
	s := newSpans()
	sweep := time.NewTicker(forget / 10)
	defer sweep.Stop()
	for {
		select {
		case <-t.reader.Wake():
			t.read(s)
		case d := <-t.deliveries:
			t.deliver(s, d)
		case now := <-sweep.C:
			t.queue.add(s.expire(now))
			tasks, lost := s.lost+t.overflow.Swap(0), t.queue.lost()
			s.lost = 0
			if tasks+lost > 0 {
				t.log.Warn("traces are incomplete: there was too much at once, or the collector was too slow", "tasks", tasks, "spans", lost)
			}
		case <-ctx.Done():
			t.read(s)
			for len(t.deliveries) > 0 {
				t.deliver(s, <-t.deliveries)
			}
			return
		}
	}
}

// deliver reads first what has happened before: that the task has ended is among it.
func (t *Tracer) deliver(s *spans, d delivery) {
	t.read(s)
	t.queue.add(s.delivered(d.taskID, d.at))
}

func (t *Tracer) read(s *spans) {
	for {
		items := t.reader.Take(batch)
		if len(items) == 0 {
			return
		}
		var made []*tracepb.Span
		for _, item := range items {
			if item.Missed > 0 {
				s.missed()
			}
			made = append(made, s.happened(item.Event)...)
		}
		t.queue.add(made)
	}
}

// send sends spans until made is closed and nothing is left, or ctx ends.
func (t *Tracer) send(ctx context.Context, made <-chan struct{}) {
	failing := false
	for last := false; !last; {
		t.pause(gather, t.queue.more, made)
		last = closed(made)
		for next := t.queue.take(); len(next) > 0; next = t.queue.take() {
			if !t.sendAll(ctx, made, next, &failing) && closed(made) {
				return // it will not be there in the next moment either
			}
		}
	}
}

// sendAll sends spans as often as it takes, but only once when there will be no more. It reports whether they have
// arrived.
func (t *Tracer) sendAll(ctx context.Context, made <-chan struct{}, next []*tracepb.Span, failing *bool) bool {
	for attempt := 1; ; attempt++ {
		err := t.sender.send(ctx, next)
		if err == nil {
			if *failing {
				t.log.Info("traces are sent again")
			}
			*failing = false
			return true
		}
		if !*failing {
			t.log.Warn("traces cannot be sent to the collector; tasks are not affected", "err", err)
		}
		*failing = true
		if _, final := errors.AsType[refused](err); final || closed(made) {
			t.queue.lose(len(next))
			return false
		}
		wait := backoff.Delay(attempt)
		if later, ok := errors.AsType[busy](err); ok {
			wait = max(wait, later.after)
		}
		t.pause(wait, nil, made)
	}
}

// pause waits, at most until early holds a value or made is closed.
func (t *Tracer) pause(d time.Duration, early, made <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-early:
	case <-made:
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
