package tracing

import (
	"crypto/sha256"
	"time"

	commonpb "go.opentelemetry.io/proto/slim/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"

	"github.com/blocksd/blocksd/event"
)

const (
	// maxOpen bounds the tasks whose beginning is remembered.
	maxOpen = 1 << 14
	// forget is after how long a task that has ended has its span although nobody said that the network has its outcome.
	forget = 10 * time.Minute
)

// spans makes the spans of tasks from what happens to them. It has no clock: time comes with what happens.
type spans struct {
	open map[string]*openTask // by their ids
	lost uint64               // tasks that were given up
}

// openTask is a task whose span is not made yet.
type openTask struct {
	trace                             event.Trace
	id, agent, handler, state, reason string
	pid                               int
	arrived, accepted, started, ended time.Time
}

func newSpans() *spans { return &spans{open: map[string]*openTask{}} }

// missed forgets everything: the ends of these tasks may be among what was missed.
func (s *spans) missed() {
	s.lost += uint64(len(s.open))
	clear(s.open)
}

// happened takes an event and returns the spans that are complete with it.
func (s *spans) happened(e event.Event) []*tracepb.Span {
	task := s.open[e.TaskID]
	switch {
	case e.Type == event.TaskAccepted && e.Trace != nil:
		if len(s.open) >= maxOpen {
			s.missed()
		}
		task = &openTask{trace: *e.Trace, id: e.TaskID, agent: e.Agent, arrived: e.Time.Add(-e.Duration), accepted: e.Time}
		s.open[e.TaskID] = task
		return []*tracepb.Span{task.step("admit", task.arrived, task.accepted)}
	case task == nil:
	case e.Type == event.TaskStarted && task.started.IsZero():
		task.started, task.handler, task.pid = e.Time, e.Handler, e.PID
		return []*tracepb.Span{task.step("queue", task.accepted, task.started)}
	case e.Type == event.TaskEnded && task.ended.IsZero():
		task.ended, task.state, task.reason = e.Time, e.State, e.Reason
		if task.started.IsZero() { // no process ever had it
			return []*tracepb.Span{task.step("queue", task.accepted, task.ended)}
		}
		return []*tracepb.Span{task.handlerSpan()}
	}
	return nil
}

// delivered: the network has the outcome of a task.
func (s *spans) delivered(id string, at time.Time) []*tracepb.Span {
	task := s.open[id]
	if task == nil || task.ended.IsZero() {
		return nil
	}
	delete(s.open, id)
	return []*tracepb.Span{task.step("publish", task.ended, at), task.whole(at)}
}

// expire ends the tasks of which nobody says any more what becomes of their outcome.
func (s *spans) expire(now time.Time) (ended []*tracepb.Span) {
	for id, task := range s.open {
		if !task.ended.IsZero() && now.Sub(task.ended) > forget {
			delete(s.open, id)
			ended = append(ended, task.whole(task.ended))
		}
	}
	return ended
}

// step is a part of the task.
func (t *openTask) step(name string, from, to time.Time) *tracepb.Span {
	id := sha256.Sum256(append(t.trace.Task[:], name...))
	return t.span(id[:8], t.trace.Task[:], name, from, to)
}

// handlerSpan is the one that what the handler does belongs to.
func (t *openTask) handlerSpan() *tracepb.Span {
	span := t.span(t.trace.Handler[:], t.trace.Task[:], "handler "+t.handler, t.started, t.ended)
	span.Attributes = append(span.Attributes, text("blocks.handler", t.handler), number("process.pid", t.pid))
	t.outcome(span)
	return span
}

func (t *openTask) whole(to time.Time) *tracepb.Span {
	parent := t.trace.Parent[:]
	if t.trace.Parent == [8]byte{} {
		parent = nil
	}
	span := t.span(t.trace.Task[:], parent, "task "+t.agent, t.arrived, to)
	span.Kind = tracepb.Span_SPAN_KIND_SERVER
	t.outcome(span)
	return span
}

func (t *openTask) outcome(span *tracepb.Span) {
	span.Attributes = append(span.Attributes, text("blocks.task.state", t.state))
	if t.state == "failed" {
		span.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: valid(t.reason)}
	}
}

func (t *openTask) span(id, parent []byte, name string, from, to time.Time) *tracepb.Span {
	if to.Before(from) { // the clock was set back
		to = from
	}
	return &tracepb.Span{
		TraceId: t.trace.ID[:], SpanId: id, ParentSpanId: parent, Name: valid(name), Kind: tracepb.Span_SPAN_KIND_INTERNAL, Flags: recorded,
		StartTimeUnixNano: uint64(from.UnixNano()), EndTimeUnixNano: uint64(to.UnixNano()),
		Attributes: []*commonpb.KeyValue{text("blocks.task.id", t.id), text("blocks.agent", t.agent)},
	}
}

// recorded is the W3C flag that the span is kept.
const recorded = 1

func text(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: valid(value)}}}
}

func number(key string, value int) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_IntValue{IntValue: int64(value)}}}
}
