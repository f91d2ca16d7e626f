package agent

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/calls"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/runtime/task"
)

// job carries out what the state machine of one accepted task decides. Its machine is stepped under mu by whoever has
// an event, and every action is something that does not wait; so a job costs no goroutine of its own: there is the
// handler's call, and a publisher while there is something to publish.
type job struct {
	agent   *Agent
	session *session
	acceptance
	task  wire.Task
	log   *slog.Logger
	entry *journal.Entry // nil without a journal

	uncertain uncertain
	channel   taskChannel
	call      handlerCall

	mu        sync.Mutex // guards what follows; held while the machine's actions are performed
	machine   *task.State
	timers    [task.Timers]*time.Timer
	artifacts arrivals
	// withdrawn: not begun and not to be begun.
	withdrawn bool
	// announced: TaskAccepted was emitted.
	announced bool
	// trace is nil where tasks are not traced.
	trace *event.Trace

	// calls are those of the task to other agents; nil before the first one, and callsOver after the last.
	calls     *calls.Task
	callsOver bool

	// streamsOver: the task gets no more streams. streamTable.mu guards it.
	streamsOver bool
}

// acceptance is how a task came to be in flight.
type acceptance struct {
	order  order
	number int64 // by age
	since  time.Time
}

// headStart is how long the note of a cancel waits for the handler to be notified: with the write right behind, the owner
// of the journal took the processor from whoever was being notified: p50 of a cancel rose from 14 to 200 µs, p99 to 5 ms.
const headStart = 5 * time.Millisecond

// newJob prepares an accepted task. clockOffset is how far the network's clock is ahead of ours.
func (a *Agent) newJob(s *session, acc acceptance, clockOffset time.Duration) *job {
	start := acc.order.start
	t := start.Task
	t.AgentName = a.name()
	trace := a.traceOf(&t)
	cfg := task.Config{Kind: t.Kind, Grace: a.tunables().CancelGrace}
	if limit := a.cfg.Card.MaxRunningTimeSec; limit != nil && *limit > 0 && t.Kind != wire.Pipe {
		cfg.Limit = time.Duration(*limit) * time.Second
		t.Deadline = acc.since.Add(cfg.Limit)
	}
	if t.Kind == wire.Pipe {
		cfg.Expires = time.UnixMilli(start.ExpiresAtMS).Add(-clockOffset)
		t.Deadline = cfg.Expires
	}
	j := &job{
		agent: a, session: s, acceptance: acc, task: t, trace: trace,
		log:     a.log.With("task", wire.CutText(t.ID, maxLoggedID)),
		machine: task.New(cfg),
	}
	j.uncertain.askedAt.Store(acc.since.UnixNano())
	life, end := s.work()
	calling, endCall := context.WithCancel(life)
	publishing, expire := context.WithTimeout(life, a.cfg.Timeouts.WriteToken)
	artifacts, abandon := context.WithCancel(publishing)
	j.call = handlerCall{
		begin:  func() { a.work.Go(func() { j.callHandler(calling) }) },
		end:    endCall,
		notify: func(n task.NotifyHandler, ack chan<- error) { a.work.Go(func() { j.notifyHandler(calling, n, ack) }) },
	}
	j.channel = taskChannel{
		name: wire.TaskChannel(t.OrgID, t.ID), token: start.WriteToken, meta: wire.EventMeta(a.name(), t.ID, ""),
		abandonArtifacts: abandon, begun: make(chan struct{}),
		release: func() {
			expire()
			end()
		},
	}
	j.channel.outbox = queue{
		start: func(send func()) { a.work.Go(send) },
		send: func(o outgoing) {
			switch {
			case o.artifact != nil:
				o.artifact(artifacts)
				return
			case o.streams != nil:
				j.awaitStreams(publishing, *o.streams)
				return
			}
			j.publish(publishing, o)
			if o.first {
				close(j.channel.begun)
			}
			if o.last {
				j.post(task.TerminalDone{})
			}
		},
	}
	return j
}

// begin makes the job known and starts it, as one step, or when its acceptance is durable. What ends it in between is
// heard: then it has its outcome without ever having begun.
func (j *job) begin() {
	a := j.agent
	a.checkParts(j.log, &j.task)
	j.mu.Lock()
	defer j.mu.Unlock()
	a.mu.Lock()
	a.tasks.jobs[j.task.ID] = j
	reason := a.tasks.cancelReason
	a.mu.Unlock()
	if j.order.late {
		j.uncertain.raise() // also whether it is ours at all
	}
	switch {
	case a.journal != nil:
		j.recordLocked()
	case j.order.late:
		a.work.Go(j.startUnlessTaken)
	default:
		j.startLocked()
	}
	if reason != dispatch.CancelUnspecified {
		j.stepLocked(task.Cancel{Reason: reason})
	}
}

// recordLocked has the acceptance made durable; the task begins then.
func (j *job) recordLocked() {
	a := j.agent
	j.entry = a.journal.Accept(a.entryOf(j.session, j.task.ID, j.order.received), func(err error) {
		a.work.Go(func() { // the journal must not wait for what follows
			if err == nil {
				j.startUnlessTaken()
				return
			}
			refusal := &wire.Terminal{State: wire.Failed, Error: wire.ReasonAtCapacity}
			if j.order.broadcast { // another instance may take it
				refusal = nil
			}
			if j.withdraw(refusal) {
				j.log.Warn("StartTask refused", "reason", wire.ReasonAtCapacity, "err", err, "broadcast", j.order.broadcast)
				if refusal != nil {
					a.refuse(j.session, j.order, *refusal)
				}
			}
		})
	})
}

// startUnlessTaken starts the job, unless its order is an old one and the network says that another instance took the
// task: it would be done twice.
func (j *job) startUnlessTaken() {
	if j.order.late {
		life, end := j.session.work()
		defer end()
		known, err := j.askNetwork(life)
		if err != nil {
			return // the agent ended; the next start asks whose it is
		}
		if known.taken() && j.withdraw(nil) {
			j.log.Info("an old StartTask is left alone: the network gave the task to another instance meanwhile")
			if j.entry != nil {
				j.entry.Drop()
			}
			return
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.startLocked()
}

// startLocked starts a job whose acceptance is durable.
func (j *job) startLocked() {
	// A task may last for hours and its order takes as much memory as all the rest of it: only a task that may have streams
	// is noted again.
	j.order.start = nil
	if !j.task.HasStream {
		j.order.received = link.Received{}
	}
	j.emitAcceptedLocked()
	j.stepAtLocked(task.Start{}, j.since)
}

// withdraw takes an acceptance back before the task begins, and with the same step remembers the refusal that will be
// published, if there is one: a second StartTask in between must not begin the task. It reports false when the task has its
// outcome already, because it was canceled.
func (j *job) withdraw(refusal *wire.Terminal) bool {
	j.mu.Lock()
	waiting := j.machine.Phase() == task.Waiting
	j.withdrawn = j.withdrawn || waiting
	j.mu.Unlock()
	if !waiting {
		return false
	}
	a := j.agent
	j.channel.release()
	a.freeSlot()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Accepted--
	delete(a.tasks.jobs, j.task.ID)
	if refusal != nil {
		a.tasks.finished.store(j.task.ID, *refusal, a.cfg.Now())
	}
	a.checkIdleLocked()
	return true
}

// post gives the machine an event.
func (j *job) post(ev task.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.withdrawn {
		j.stepLocked(ev)
	}
}

func (j *job) cancel(reason dispatch.CancelReason) { j.post(task.Cancel{Reason: reason}) }

// stepLocked performs what the machine answers to ev.
func (j *job) stepLocked(ev task.Event) { j.stepAtLocked(ev, j.agent.cfg.Now()) }

func (j *job) stepAtLocked(ev task.Event, now time.Time) {
	for _, action := range j.machine.Step(ev, now) {
		j.performLocked(action)
	}
}

// performLocked carries out one action without waiting for anything.
func (j *job) performLocked(action task.Action) {
	id := j.task.ID
	switch act := action.(type) {
	case task.PublishRunning:
		j.channel.outbox.put(outgoing{body: wire.RunningEvent(id), first: true})
	case task.PublishStatus:
		j.channel.outbox.put(outgoing{body: wire.StatusEvent(id, act.Text), replaceable: true})
	case task.PublishArtifact:
		j.channel.outbox.put(outgoing{artifact: j.artifacts.take(act.ID).publish})
	case task.RefuseArtifact:
		j.artifacts.take(act.ID).refuse()
	case task.PublishTerminal:
		j.agent.countOutcome(id, act.Terminal)
		j.concludeLocked(act.Terminal)
	case task.CallHandler:
		j.call.begin()
	case task.NotifyHandler:
		j.call.ack = make(chan error, 1)
		j.call.notify(act, j.call.ack)
	case task.EndCall:
		j.call.end()
	case task.NoteOutcome:
		if j.entry != nil {
			j.entry.Note(act.Terminal)
			time.AfterFunc(headStart, j.entry.Flush)
		}
	case task.AbandonArtifacts:
		if j.call.ack != nil { // it was asked to end
			j.emitOverdueLocked()
		}
		j.channel.abandonArtifacts()
	case task.SetTimer:
		j.timers[act.Timer] = time.AfterFunc(act.At.Sub(j.agent.cfg.Now()), func() { j.post(task.TimerFired{Timer: act.Timer}) })
	case task.StopTimer:
		j.timers[act.Timer].Stop()
		j.timers[act.Timer] = nil
	case task.FreeSlot:
		j.agent.freeSlot()
	case task.Finished:
		j.channel.release()
		j.agent.forget(id, j.machine.Outcome())
	}
}

// concludeLocked publishes the outcome once it is durable, so that after a crash the daemon says the same again. When it
// cannot be made durable it is published all the same: waiting would lose more.
func (j *job) concludeLocked(t wire.Terminal) {
	j.emitAcceptedLocked()
	j.endCallsLocked()
	j.endStreamsLocked(t)
	last := outgoing{body: wire.TerminalEvent(j.task.ID, t), last: true}
	publish := func(error) {
		j.emitEnded(t)
		j.channel.outbox.put(last)
	}
	if j.entry == nil {
		publish(nil)
		return
	}
	j.entry.Decide(t, publish)
}

// stopTimers disarms everything, because the agent ends before the task is over.
func (j *job) stopTimers() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, timer := range j.timers {
		if timer != nil {
			timer.Stop()
		}
	}
}
