package agent

import (
	"context"
	"sync"
)

// outgoing is one publish of a task.
type outgoing struct {
	// body is an event to publish; nil for an artifact and for streams.
	body []byte
	// replaceable: a status that gives way to a newer one when too much waits.
	replaceable bool
	// first: the event that the task runs.
	first bool
	// last: the terminal event.
	last bool
	// artifact publishes an artifact and answers whoever brought it.
	artifact func(ctx context.Context)
	// streams are what follows waits for.
	streams *streamHold
}

// queue sends what a task publishes, one after the other. A goroutine exists only while there is something to send, so
// a waiting task costs none. It is bounded: handlers wait for their artifacts, and of many statuses the newest is kept.
type queue struct {
	start func(send func()) // runs send in a goroutine that somebody waits for
	send  func(outgoing)    // publishes one; may block for long

	mu      sync.Mutex // guards what follows; not held while sending
	waiting []outgoing
	sending bool
}

// maxWaiting is how many publishes may wait before a new status takes the place of the one before it. Only an outage
// makes so many.
const maxWaiting = 16

// put appends o. It never blocks.
func (q *queue) put(o outgoing) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.waiting); o.replaceable && n >= maxWaiting && q.waiting[n-1].replaceable {
		q.waiting[n-1] = o
		return
	}
	q.waiting = append(q.waiting, o)
	if !q.sending {
		q.sending = true
		q.start(q.work)
	}
}

func (q *queue) work() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.waiting, q.sending = nil, false
			q.mu.Unlock()
			return
		}
		o := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		q.send(o)
	}
}
