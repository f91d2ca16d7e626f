package agent

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/stream"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/streams"
	"github.com/blocksd/blocksd/runtime/task"
)

// Bounds of the live streams of one agent.
const (
	maxTaskStreams  = 1024
	maxAgentStreams = 2048
	// largeBuffers streams may hold back largeBuffer bytes each until the network takes them; any further one smallBuffer.
	largeBuffers = 64
	largeBuffer  = 1 << 20
	smallBuffer  = 64 << 10
)

// streamTable carries out what the registry of streams decides. There is one for each environment, because its streams are
// channels of a keyset of their own.
type streamTable struct {
	agent   *Agent
	session *session
	users   stream.UserIDs
	active  atomic.Int64 // streams to announce

	// mu is taken inside the locks of jobs and never around one.
	mu       sync.Mutex
	registry *streams.Registry
	open     map[string]*openStream // by id, until they have ended
	handles  map[handleKey]*streamHandle
	// endings are what the terminals of tasks wait for; of a task that is over there are none.
	endings map[string][]<-chan struct{}
	// written is when a task that is not over got its latest stream that it writes.
	written map[string]time.Time
}

type handleKey struct{ stream, task string }

func newStreamTable(a *Agent, s *session) *streamTable {
	return &streamTable{
		agent: a, session: s, registry: streams.NewRegistry(a.name(), streams.Limits{PerTask: maxTaskStreams, InAll: maxAgentStreams}),
		open: map[string]*openStream{}, handles: map[handleKey]*streamHandle{}, endings: map[string][]<-chan struct{}{}, written: map[string]time.Time{},
	}
}

// CreateStream implements dispatch.TaskPort.
func (p port) CreateStream(ctx context.Context, r dispatch.StreamRequest) (dispatch.Stream, bool, error) {
	if p.decided() {
		return nil, false, dispatch.ErrTaskOver
	}
	facts := streams.Task{ID: p.task.ID, Kind: p.task.Kind, Offered: p.task.HasStream}
	spec, err := streams.Resolve(p.agent.cfg.Card.Streams, facts, r)
	if err != nil {
		return nil, false, err
	}
	h, created, err := p.session.streams.acquire(ctx, p.job, spec, r.Metadata)
	if err != nil {
		return nil, false, err
	}
	if created && h.first && spec.Writes() && r.Grace > 0 {
		_ = retry.Pause(ctx, r.Grace) // the stream is there, whatever ends the wait
	}
	return h, created, nil
}

// Stream implements dispatch.TaskPort.
func (p port) Stream(id string) (dispatch.Stream, error) {
	if h := p.session.streams.handle(p.job, id); h != nil {
		return h, nil
	}
	if p.decided() {
		return nil, dispatch.ErrTaskOver
	}
	return nil, streamFault(dispatch.StreamUnknown, "task %s has no stream %q", p.task.ID, id)
}

// Detached implements dispatch.TaskPort.
func (p port) Detached() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stepLocked(task.Detached{})
	return p.machine.Detached()
}

// End implements dispatch.TaskPort.
func (p port) End(failure *dispatch.TaskFailure) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.machine.Phase() >= task.Canceling:
		return dispatch.ErrTaskOver
	case !p.machine.Detached():
		return dispatch.ErrNotDetached
	}
	p.stepLocked(task.End{Failure: failure})
	return nil
}

// acquire returns the stream as the task has it, once it can be used. Nobody is left with a stream that nobody knows of:
// when ctx ends first, it is let go of as soon as it is there.
func (t *streamTable) acquire(ctx context.Context, j *job, spec streams.Spec, metadata json.RawMessage) (*streamHandle, bool, error) {
	t.mu.Lock()
	if j.streamsOver {
		t.mu.Unlock()
		return nil, false, dispatch.ErrTaskOver
	}
	id, created, actions, err := t.registry.Acquire(j.task.ID, spec)
	if err != nil {
		t.mu.Unlock()
		return nil, false, err
	}
	key := handleKey{id, j.task.ID}
	h := t.handles[key]
	if created {
		h = &streamHandle{table: t, job: j, id: id, spec: spec, metadata: metadata, answered: make(chan struct{})}
		t.handles[key] = h
	}
	h.waiters++
	after := t.performLocked(actions)
	t.mu.Unlock()
	after()
	select {
	case <-h.answered:
		t.mu.Lock()
		h.waiters--
		h.used = true
		t.mu.Unlock()
		return h, created, h.err
	case <-ctx.Done():
	}
	t.mu.Lock()
	h.waiters--
	after = t.forsakenLocked(h)
	t.mu.Unlock()
	after()
	return nil, false, ctx.Err()
}

// forsakenLocked lets go of a stream that was granted when nobody waited for it any more.
func (t *streamTable) forsakenLocked(h *streamHandle) (after func()) {
	if h.waiters > 0 || h.used || h.open == nil || t.handles[h.key()] != h {
		return func() {}
	}
	return t.performLocked(t.registry.Release(h.job.task.ID, h.id, dispatch.ErrTaskOver))
}

// handle returns a stream that the task has, or had; nil for none.
func (t *streamTable) handle(j *job, id string) *streamHandle {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.handles[handleKey{id, j.task.ID}]; h != nil && h.open != nil {
		return h
	}
	if !t.registry.Had(j.task.ID, id) {
		return nil
	}
	return &streamHandle{table: t, job: j, id: id, closed: true}
}

// answer tells the registry what came of a set-up. first is the stream that it made.
func (t *streamTable) answer(number int, first *openStream, err error) {
	t.mu.Lock()
	if first != nil {
		t.open[first.id] = first
	}
	after := t.performLocked(t.registry.Answered(number, err))
	t.mu.Unlock()
	after()
}

// release takes a stream away from a task, and returns what its end is: closed once the stream has ended, nil when other
// tasks go on with it.
func (t *streamTable) release(h *streamHandle) (ended <-chan struct{}) {
	t.mu.Lock()
	open := h.open
	after := t.performLocked(t.registry.Release(h.job.task.ID, h.id, dispatch.ErrTaskOver))
	if open != nil && open.ending {
		ended = open.ended
	}
	t.mu.Unlock()
	after()
	return ended
}

// fail ends a stream that has failed, and every task that has it.
func (t *streamTable) fail(open *openStream, reason string) {
	t.mu.Lock()
	if open.failure == "" {
		open.failure = reason
	}
	var after func()
	if t.open[open.id] == open {
		after = t.performLocked(t.registry.Fail(open.id, streamFault(dispatch.StreamClosed, "stream %s has failed: %s", open.id, reason)))
	}
	t.mu.Unlock()
	if after != nil {
		after()
	}
}

// over takes all streams away from a task that has its outcome, and lets it get no more. It returns what the terminal
// event has to wait for, and when the task got the latest stream that it wrote; zero for none.
func (t *streamTable) over(j *job) (endings []<-chan struct{}, written time.Time) {
	t.mu.Lock()
	j.streamsOver = true
	var rest []*openStream // that others go on with
	for _, id := range t.registry.Of(j.task.ID) {
		if o := t.open[id]; o != nil && o.writer != nil && t.handles[handleKey{id, j.task.ID}].open == o {
			rest = append(rest, o)
		}
	}
	after := t.performLocked(t.registry.ReleaseTask(j.task.ID, dispatch.ErrTaskOver))
	for _, o := range rest {
		if !o.ending {
			endings = append(endings, t.flush(o))
		}
	}
	endings = append(endings, t.endings[j.task.ID]...)
	delete(t.endings, j.task.ID)
	written = t.written[j.task.ID]
	delete(t.written, j.task.ID)
	t.mu.Unlock()
	after()
	return endings, written
}

// flush sends what was written to a stream, within a while.
func (t *streamTable) flush(o *openStream) <-chan struct{} {
	done := make(chan struct{})
	t.agent.work.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(o.life, t.agent.cfg.Timeouts.StreamEnd)
		defer cancel()
		_ = o.writer.Flush(ctx) // what cannot be sent is said by OnError
	})
	return done
}

// performLocked carries out what the registry has decided. What it returns is to be called without the lock.
func (t *streamTable) performLocked(actions []streams.Action) (after func()) {
	a := t.agent
	var later []func()
	var detached []*streamHandle
	for _, action := range actions {
		switch act := action.(type) {
		case streams.SetUp:
			h := t.handles[handleKey{act.Stream, act.Task}]
			a.work.Go(func() { t.setUp(act, h) })
		case streams.Grant:
			h := t.handles[handleKey{act.Stream, act.Task}]
			if h.open == nil {
				h.open = t.open[act.Stream]
				close(h.answered)
				h.emitOpened()
				if h.spec.Direction.Writes() && !h.job.streamsOver {
					t.written[act.Task] = time.Now()
				}
			}
			if h.waiters == 0 {
				later = append(later, t.forsakenLocked(h))
			}
		case streams.Refuse:
			h := t.handles[handleKey{act.Stream, act.Task}]
			delete(t.handles, h.key())
			h.err, h.closed = act.Err, true
			close(h.answered)
		case streams.Detach:
			h := t.handles[handleKey{act.Stream, act.Task}]
			delete(t.handles, h.key())
			h.closed = true
			detached = append(detached, h)
			h.emitClosed()
			if h.spec.Marked() && !h.job.streamsOver { // with its outcome the task is noted as a whole
				t.noteStreamsLocked(h.job, nil)
			}
		case streams.FailTask:
			// Its handle was detached just before.
			h := detached[len(detached)-1]
			reason := h.open.failure
			later = append(later, func() { h.job.post(task.StreamFailed{Reason: reason}) })
		case streams.End:
			o := t.open[act.Stream]
			o.ending = true
			for _, h := range detached {
				if h.open == o {
					t.noteEndingLocked(h.job, o.ended)
				}
			}
			a.work.Go(func() { t.end(o) })
		}
	}
	changed := t.active.Swap(int64(t.registry.Active())) != int64(t.registry.Active())
	if !changed && len(later) == 0 {
		return func() {}
	}
	return func() {
		for _, f := range later {
			f()
		}
		if changed {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.announceSlotsLocked()
		}
	}
}

// noteEndingLocked has the terminal event of a task wait for the end of a stream that it had.
func (t *streamTable) noteEndingLocked(j *job, ended <-chan struct{}) {
	rest := slices.DeleteFunc(t.endings[j.task.ID], func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	})
	t.endings[j.task.ID] = append(rest, ended)
}

// end ends a stream that no task has any more: what was written is sent, then the mark of its end if it has one.
func (t *streamTable) end(o *openStream) {
	o.stop(t.agent.cfg.Timeouts.StreamEnd)
	t.mu.Lock()
	delete(t.open, o.id)
	after := t.performLocked(t.registry.Ended(o.id))
	close(o.ended)
	t.mu.Unlock()
	after()
}

// streamHold is what the terminal event of a task waits for.
type streamHold struct {
	endings []<-chan struct{}
	// until: a consumer can open a stream only while its task runs, and one that has just learned of it needs a moment.
	until time.Time
}

// endStreamsLocked ends the streams of a task that has its outcome, and holds the terminal event back meanwhile. Somebody
// who has canceled the task does not come to open its streams.
func (j *job) endStreamsLocked(t wire.Terminal) {
	endings, written := j.session.streams.over(j)
	hold := streamHold{endings: endings}
	if !written.IsZero() && t.State != wire.Canceled {
		hold.until = written.Add(j.agent.cfg.Timeouts.StreamOpen)
	}
	if len(endings) > 0 || time.Now().Before(hold.until) {
		j.channel.outbox.put(outgoing{streams: &hold})
	}
}

// awaitStreams waits until the streams of the task have ended, but not for ever.
func (j *job) awaitStreams(ctx context.Context, hold streamHold) {
	_ = retry.Pause(ctx, time.Until(hold.until))
	// An end has a deadline of its own.
	timer := time.NewTimer(2 * j.agent.cfg.Timeouts.StreamEnd)
	defer timer.Stop()
	for _, ended := range hold.endings {
		select {
		case <-ended:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

var errNoTaskLeft = errors.New("no task that has the stream goes on")
