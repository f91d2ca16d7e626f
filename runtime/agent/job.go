package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/runtime/task"
)

// job carries out what the state machine of one accepted task decides. Its machine is stepped under mu by whoever has
// an event, and every action is something that does not wait; so a job costs no goroutine of its own: there is the
// handler's call, and a publisher while there is something to publish.
type job struct {
	agent   *Agent
	session *session
	order   order
	number  int64          // by age
	entry   *journal.Entry // nil without a journal
	since   time.Time
	task    wire.Task
	token   string // the write token
	channel string
	meta    []byte
	log     *slog.Logger

	doubt doubt

	outbox queue
	// call runs the handler in a goroutine; endCall ends its context.
	call    func()
	endCall context.CancelFunc
	// tell asks the handler to end, in a goroutine that sends what came of it.
	tell func(reason dispatch.CancelReason, grace time.Duration, told chan<- error)
	// abandonArtifacts ends the publishing of artifacts; finish releases all contexts of the job.
	abandonArtifacts, finish context.CancelFunc

	// newest is the timetoken of the last event that was published, uploads the file ids of the artifacts that were
	// uploaded. Only what the outbox sends touches them, one at a time.
	newest  string
	uploads []string

	mu      sync.Mutex // guards what follows; held while the machine's actions are performed
	machine *task.State
	timers  [task.Timers]*time.Timer
	brought map[int]broughtArtifact
	arrived int // numbers the artifacts
	// withdrawn: not begun and not to be begun.
	withdrawn bool
	// told holds the answer of the handler that was asked to end; nil before, and where there is no handler to ask.
	told chan error
	// owed: TaskAccepted was emitted.
	owed bool
}

// headStart is how long the note of a cancel waits for the handler to be told: with the write right behind, the owner of
// the journal took the processor from whoever was being told: p50 of a cancel rose from 14 to 200 µs, p99 to 5 ms.
const headStart = 5 * time.Millisecond

// newJob prepares an accepted task. offset is how far the network's clock is ahead of ours.
func (a *Agent) newJob(s *session, o order, number int64, offset time.Duration) *job {
	now, start := a.cfg.Now(), o.start
	t := start.Task
	t.AgentName = a.name
	cfg := task.Config{Kind: t.Kind, Grace: a.cfg.CancelGrace}
	if limit := a.cfg.Card.MaxRunningTimeSec; limit != nil && *limit > 0 && t.Kind != wire.Pipe {
		cfg.Limit = time.Duration(*limit) * time.Second
		t.Deadline = now.Add(cfg.Limit)
	}
	if t.Kind == wire.Pipe {
		cfg.Expires = time.UnixMilli(start.ExpiresAtMS).Add(-offset)
		t.Deadline = cfg.Expires
	}
	j := &job{
		agent: a, session: s, order: o, number: number, since: now, task: t, token: start.WriteToken,
		channel: wire.TaskChannel(t.OrgID, t.ID),
		meta:    wire.EventMeta(a.name, t.ID, ""),
		log:     a.log.With("task", wire.CutText(t.ID, maxLoggedID)),
		machine: task.New(cfg),
	}
	j.doubt.settled.Store(time.Now().UnixNano())
	life, finish := s.work()
	calling, endCall := context.WithCancel(life)
	publishing, expire := context.WithTimeout(life, a.cfg.Timeouts.WriteToken)
	artifacts, abandon := context.WithCancel(publishing)
	j.endCall, j.abandonArtifacts = endCall, abandon
	j.finish = func() {
		expire()
		finish()
	}
	j.call = func() { a.work.Go(func() { j.run(calling) }) }
	j.tell = func(reason dispatch.CancelReason, grace time.Duration, told chan<- error) {
		a.work.Go(func() {
			ctx, cancel := context.WithTimeout(calling, grace)
			defer cancel()
			err := a.cfg.Dispatcher.CancelTask(ctx, t.ID, reason, grace)
			told <- err
			if err != nil {
				j.log.Info("the handler was not told to end the task; its call ends after the grace", "reason", reason, "err", err)
			}
		})
	}
	j.outbox = queue{
		start: func(send func()) { a.work.Go(send) },
		send: func(o outgoing) {
			if o.artifact != nil {
				o.artifact(artifacts)
				return
			}
			j.publish(publishing, o)
		},
	}
	return j
}

// begin makes the job known and starts it, as one step, or when its acceptance is durable. What ends it in between is
// heard: then it has its outcome without ever having begun.
func (j *job) begin() {
	j.agent.checkParts(j.log, &j.task)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.agent.mu.Lock()
	j.agent.jobs[j.task.ID] = j
	asked := j.agent.asked
	j.agent.mu.Unlock()
	if j.order.late {
		j.doubt.raise() // also of whether it is ours at all
	}
	switch {
	case j.agent.book != nil:
		j.record()
	case j.order.late:
		j.agent.work.Go(j.startUnlessTaken)
	default:
		j.startLocked()
	}
	if asked != dispatch.CancelUnspecified {
		j.step(task.Cancel{Reason: asked})
	}
}

// start starts a job whose acceptance is durable.
func (j *job) start() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.startLocked()
}

func (j *job) startLocked() {
	j.emitAcceptedLocked()
	j.stepAt(task.Start{}, j.since)
}

// post gives the machine an event.
func (j *job) post(ev task.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.withdrawn {
		j.step(ev)
	}
}

func (j *job) cancel(reason dispatch.CancelReason) { j.post(task.Cancel{Reason: reason}) }

// awaitTold returns once the handler was told to end, at once where there is none to tell any more. The error is that of
// ctx, or says why the handler was not told.
func (j *job) awaitTold(ctx context.Context) error {
	j.mu.Lock()
	told, over := j.told, j.machine.Phase() >= task.Ending
	j.mu.Unlock()
	if told == nil || over {
		return nil
	}
	select {
	case err := <-told:
		told <- err // for others that wait
		j.mu.Lock()
		over = j.machine.Phase() >= task.Ending
		j.mu.Unlock()
		if over {
			return nil
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// step performs what the machine answers to ev. mu is held.
func (j *job) step(ev task.Event) { j.stepAt(ev, j.agent.cfg.Now()) }

func (j *job) stepAt(ev task.Event, now time.Time) {
	for _, action := range j.machine.Step(ev, now) {
		j.perform(action)
	}
}

// perform carries out one action without waiting for anything. mu is held.
func (j *job) perform(action task.Action) {
	id := j.task.ID
	switch act := action.(type) {
	case task.PublishRunning:
		j.outbox.put(outgoing{body: wire.RunningEvent(id)})
	case task.PublishStatus:
		j.outbox.put(outgoing{body: wire.StatusEvent(id, act.Text), replaceable: true})
	case task.PublishArtifact:
		j.outbox.put(outgoing{artifact: j.brought[act.ID].publish})
		delete(j.brought, act.ID)
	case task.RefuseArtifact:
		j.brought[act.ID].refuse()
		delete(j.brought, act.ID)
	case task.PublishTerminal:
		j.agent.decided(act.Terminal)
		j.conclude(act.Terminal)
	case task.CallHandler:
		j.call()
	case task.TellHandler:
		j.told = make(chan error, 1)
		j.tell(act.Reason, act.Grace, j.told)
	case task.EndCall:
		j.endCall()
	case task.NoteOutcome:
		if j.entry != nil {
			j.entry.Note(act.Terminal)
			time.AfterFunc(headStart, j.entry.Hurry)
		}
	case task.AbandonArtifacts:
		j.emitDisobedienceLocked()
		j.abandonArtifacts()
	case task.SetTimer:
		j.timers[act.Timer] = time.AfterFunc(act.At.Sub(j.agent.cfg.Now()), func() { j.post(task.TimerFired{Timer: act.Timer}) })
	case task.StopTimer:
		j.timers[act.Timer].Stop()
		j.timers[act.Timer] = nil
	case task.FreeSlot:
		j.agent.freeSlot()
	case task.Finished:
		j.finish()
		j.agent.over(id, j.machine.Outcome())
	}
}

// run calls the handler.
func (j *job) run(ctx context.Context) {
	err := j.agent.cfg.Dispatcher.Do(ctx, j.agent.cfg.Handler, &j.task, port{j})
	var failure *dispatch.TaskFailure
	if err != nil && !errors.As(err, &failure) {
		failure = &dispatch.TaskFailure{Kind: dispatch.HandlerError, Private: err.Error()}
	}
	level := slog.LevelWarn
	j.mu.Lock()
	if j.machine.Phase() >= task.Canceling { // how a handler obeys
		level = slog.LevelDebug
	}
	j.step(task.HandlerDone{Failure: failure})
	j.mu.Unlock()
	if failure != nil {
		j.log.Log(ctx, level, "handler did not finish the task", "handler", j.agent.cfg.Handler, "err", failure)
	}
}

// publish sends one event, for as long as it takes. Only the terminal is missed when it is refused: whoever reads the
// task's channel waits for it.
func (j *job) publish(ctx context.Context, o outgoing) {
	if !o.last {
		if err := j.publishEvent(ctx, o.body); err != nil && !errors.Is(err, errTaskOver) {
			j.log.Warn("event could not be published", "channel", j.channel, "err", err)
		}
		return
	}
	f, err := j.agent.deliver(ctx, j.session, delivery{taskID: j.task.ID, message: j.message(o.body), doubtful: j.doubtful})
	switch {
	case f == interrupted && j.entry != nil:
		j.log.Warn("the outcome of the task is not published yet; it will be at the next start", "channel", j.channel, "err", err)
	case f == refused || f == interrupted:
		j.log.Error("the outcome of the task could not be published; the network will end the task by itself", "channel", j.channel, "err", err)
	}
	j.mu.Lock()
	outcome := j.machine.Outcome()
	j.mu.Unlock()
	switch {
	case j.entry == nil || f == interrupted:
	case f == elsewhere:
		j.entry.Drop()
	default:
		j.entry.Settle(journal.Finished{ID: j.task.ID, Outcome: outcome, At: j.agent.cfg.Now()})
	}
	j.agent.settled(f == delivered || f == elsewhere)
	j.post(task.TerminalSettled{})
}

func (j *job) message(body []byte) link.Message {
	return link.Message{Channel: j.channel, Token: j.token, Meta: j.meta, Body: body, Store: true}
}

// publishEvent publishes an event that is not the terminal. Like that one it asks the network first when in doubt: nothing
// may follow a terminal that the network has given the task itself.
func (j *job) publishEvent(ctx context.Context, body []byte) error {
	if err := j.stillOpen(ctx, j.doubtful()); err != nil {
		return err
	}
	m := j.message(body)
	began := j.agent.cfg.Now()
	m.Again = func(ctx context.Context) error {
		return j.stillOpen(ctx, j.doubtfulSince(began))
	}
	timetoken, err := j.session.link.Publish(ctx, m)
	if err == nil {
		j.newest = timetoken
	}
	return err
}

// stopTimers disarms everything, because the agent is gone before the task is over.
func (j *job) stopTimers() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, timer := range j.timers {
		if timer != nil {
			timer.Stop()
		}
	}
}

func (j *job) info() TaskInfo {
	j.mu.Lock()
	defer j.mu.Unlock()
	info := TaskInfo{
		TaskID: j.task.ID, Agent: j.agent.name, Handler: j.agent.cfg.Handler, State: j.machine.Phase().String(),
		Since: j.since, Deadline: j.machine.Deadline(),
	}
	if pid := j.machine.PID(); pid != 0 {
		info.PID = &pid
	}
	return info
}

// freeSlot gives a slot back and announces it. The lock of a job may be held.
func (a *Agent) freeSlot() {
	if a.cfg.Slots != nil {
		a.cfg.Slots.Release()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	a.announceSlots()
}

// decided counts an outcome, whose terminal event is now on its way.
func (a *Agent) decided(t wire.Terminal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch t.State {
	case wire.Completed:
		a.counts.Completed++
	case wire.Canceled:
		a.counts.Canceled++
	default:
		a.counts.Failed++
	}
	a.counts.Outbox++
}

// settled counts a terminal event that the network has acknowledged, or that was given up.
func (a *Agent) settled(delivered bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Outbox--
	if !delivered {
		a.counts.Undelivered++
	}
	// The slot was announced before the terminal. A network that frees it with the first state that follows the terminal
	// would otherwise wait for the next task or heartbeat.
	if a.presence != nil {
		a.presence.Resync()
	}
}

// over forgets a job and remembers its outcome.
func (a *Agent) over(id string, outcome wire.Terminal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.jobs, id)
	a.finished.store(id, outcome, a.cfg.Now())
	a.checkIdle()
	if len(a.jobs) == 0 && a.availability == dispatch.Unavailable {
		a.wake() // it stayed for its tasks only
	}
}
