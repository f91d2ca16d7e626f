package tracing

import (
	"sync"

	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
)

const (
	// maxWaiting bounds the spans that wait for the collector; further ones are dropped and counted.
	maxWaiting = 8192
	// batch is how many spans go into one request.
	batch = 512
)

// queue has the spans that wait to be sent.
type queue struct {
	more chan struct{} // capacity 1: there are as many as go into a request

	mu      sync.Mutex // guards what follows
	spans   []*tracepb.Span
	dropped uint64
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

// add never waits.
func (q *queue) add(spans []*tracepb.Span) {
	q.mu.Lock()
	defer q.mu.Unlock()
	room := min(len(spans), maxWaiting-len(q.spans))
	q.spans = append(q.spans, spans[:room]...)
	q.dropped += uint64(len(spans) - room)
	if len(q.spans) >= batch {
		select {
		case q.more <- struct{}{}:
		default:
		}
	}
}

// take returns what goes into the next request.
func (q *queue) take() []*tracepb.Span {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.spans), batch)
	next := append([]*tracepb.Span(nil), q.spans[:n]...)
	rest := copy(q.spans, q.spans[n:])
	clear(q.spans[rest:])
	if q.spans = q.spans[:rest]; rest == 0 {
		q.spans = nil // the memory of a flood is given back
	}
	if rest >= batch {
		select {
		case q.more <- struct{}{}:
		default:
		}
	}
	return next
}

// lose counts spans that were taken and did not arrive.
func (q *queue) lose(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropped += uint64(n)
}

// lost is how many did not arrive since it was asked last.
func (q *queue) lost() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.dropped
	q.dropped = 0
	return n
}
