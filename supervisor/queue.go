package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/supervisor/queue"
	"github.com/blocksd/blocksd/supervisor/rollout"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// waitingTask is a task that waits for a process. It is guarded by handler.mu.
type waitingTask struct {
	process *process      // nil until it has one
	wake    chan struct{} // capacity 1; holds a value when it has a process, or may have a reason to wait no longer
}

func (t *waitingTask) notify() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// queueLimits of the tasks of a handler.
func (c HandlerConfig) queueLimits() queue.Limits {
	return queue.Limits{Tasks: c.Concurrency, PerProcess: c.ProcessConcurrency}
}

// enter and leave count the tasks that wait or run, so that an unused handler can be stopped and is started again.
func (h *handler) enter() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users++; h.users == 1 {
		h.stepLocked(rollout.Event{Kind: rollout.Used})
	}
}

func (h *handler) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.users == 0 {
		h.stepLocked(rollout.Event{Kind: rollout.Unused})
	}
}

// acquire picks a process and counts the task on it. For a process it waits no longer than hold, or a start may take when
// that is 0, while none takes tasks; for a free slot on one it waits as long as ctx does. The processes in without do not count.
func (h *handler) acquire(ctx context.Context, hold time.Duration, canceled <-chan struct{}, without []*process) (*process, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closeEndedLocked()
	if p, ok := h.queue.Take(without); ok {
		return p, nil
	}
	hold = cmp.Or(hold, h.currentLocked().config.startTime(h.fleet.config.Timeouts))
	t := &waitingTask{wake: make(chan struct{}, 1)}
	h.queue.Wait(t, without)
	var late <-chan time.Time // while no process takes tasks
	stop := func() {}
	defer func() { stop() }()
	for t.process == nil {
		state, reason := h.rollout.State(), h.currentLocked().reason
		switch {
		case h.queue.Takes(without): // others were first
			stop()
			late, stop = nil, func() {}
		case h.rollout.Availability() == dispatch.Unavailable:
			h.queue.Leave(t)
			return nil, noProcess("handler %s is %v: %s", h.name, state, reason)
		default:
			if late == nil {
				late, stop = h.fleet.hold(hold)
			}
		}
		h.mu.Unlock()
		var err error
		select {
		case <-t.wake:
		case <-late:
			err = noProcess("handler %s had no process ready within %v: %s", h.name, hold, reason)
		case <-canceled:
			err = &dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicCanceled}
		case <-ctx.Done():
			err = &dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicCanceled, Private: fmt.Sprintf("the daemon ended the task while it waited for handler %s: %v", h.name, context.Cause(ctx))}
		}
		h.mu.Lock()
		if err != nil {
			h.giveUpLocked(t)
			return nil, err
		}
	}
	return t.process, nil
}

func timer(d time.Duration) (late <-chan time.Time, stop func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// giveUpLocked takes a task out of the queue. A process that it was given meanwhile goes to the next.
func (h *handler) giveUpLocked(t *waitingTask) {
	if h.queue.Leave(t) {
		return
	}
	h.queue.Return(t.process)
	h.idleLocked(t.process)
	h.assignLocked()
}

// assignLocked gives free slots to the tasks that wait.
func (h *handler) assignLocked() {
	h.closeEndedLocked()
	for _, a := range h.queue.Assign() {
		a.Task.process = a.Process
		a.Task.notify()
	}
}

// openReadyLocked lets the queue use the processes of the current generation that take tasks.
func (h *handler) openReadyLocked() {
	for _, p := range h.currentLocked().processes {
		if p.takesTasksLocked() {
			h.queue.Open(p)
		}
	}
}

// closeEndedLocked keeps tasks from processes that have ended, although their unit learns of that a moment later.
func (h *handler) closeEndedLocked() {
	var ended []*process
	for p := range h.queue.OpenProcesses {
		if closed(p.conn.Done()) {
			ended = append(ended, p)
		}
	}
	for _, p := range ended {
		h.queue.Close(p)
	}
}

// wakeWaitingLocked makes every task that waits look whether it should wait on.
func (h *handler) wakeWaitingLocked() {
	for t := range h.queue.Waiting {
		t.notify()
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

// released counts a task off a process, once the process has let go of it.
func (h *handler) released(p *process, taint bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, served := h.queue.Release(p)
	if !p.exited {
		if taint {
			h.emitTainted(p.conn.PID())
			p.g.stepLocked(unit.Event{Kind: unit.ProcessTainted, Process: p.id})
		}
		if limit := p.g.config.RecycleTasks; limit > 0 && served >= limit {
			p.g.stepLocked(unit.Event{Kind: unit.ProcessWorn, Process: p.id})
		}
	}
	h.idleLocked(p)
	h.assignLocked()
}

// idleLocked says when a process that is given no further tasks has none.
func (h *handler) idleLocked(p *process) {
	if p.draining && !p.exited && h.queue.Running(p) == 0 {
		p.g.stepLocked(unit.Event{Kind: unit.ProcessIdle, Process: p.id})
	}
}
