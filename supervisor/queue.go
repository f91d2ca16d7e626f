package supervisor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/supervisor/rollout"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// taskQueue is the tasks of a handler. It is guarded by handler.mu.
type taskQueue struct {
	users   int      // tasks that wait or run
	running int      // tasks on processes
	waiting []waiter // for a process, or for a free slot on one; the first first
}

// waiter is a task that waits.
type waiter struct {
	turn    chan struct{} // closed when it is the task's turn; it is not in the queue any more then
	without []*process    // that it does not go to
}

// enter and leave count the tasks that wait or run, so that an unused handler can be stopped and is started again.
func (h *handler) enter() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tasks.users++; h.tasks.users == 1 {
		h.stepLocked(rollout.Event{Kind: rollout.Used})
	}
}

func (h *handler) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tasks.users--; h.tasks.users == 0 {
		h.stepLocked(rollout.Event{Kind: rollout.Unused})
	}
}

// acquire picks a process and counts the task on it. For a process it waits no longer than hold while none is ready; for a
// free slot on one it waits as long as ctx does. The processes in without do not count as ready.
func (h *handler) acquire(ctx context.Context, hold time.Duration, canceled <-chan struct{}, without []*process) (p *process, err error) {
	var timer *time.Timer
	var turn chan struct{} // of the task in the queue, once it is there
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.leaveQueueLocked(turn, p == nil) }()
	for {
		best, full := h.pickLocked(without)
		if best != nil && (turn != nil || !h.expectedLocked(best)) {
			best.running++
			best.served++
			h.tasks.running++
			return best, nil
		}
		state, changed, reason := h.rollout.State(), h.changed, h.currentLocked().reason
		var late <-chan time.Time
		switch {
		case best != nil || full: // others were first
		case h.rollout.Availability() == dispatch.Unavailable:
			return nil, noProcess("handler %s is %v: %s", h.name, state, reason)
		default:
			if timer == nil {
				timer = time.NewTimer(hold)
				defer timer.Stop()
			}
			late = timer.C
		}
		if turn == nil || closed(turn) { // it was its turn, but there is no process any more
			turn = make(chan struct{})
			h.tasks.waiting = append(h.tasks.waiting, waiter{turn, without})
		}
		h.mu.Unlock()
		select {
		case <-changed:
		case <-turn:
		case <-late:
			err = noProcess("handler %s had no process ready within %v: %s", h.name, hold, reason)
		case <-canceled:
			err = &dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicCanceled}
		case <-ctx.Done():
			err = &dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicCanceled, Private: fmt.Sprintf("the daemon ended the task while it waited for handler %s: %v", h.name, context.Cause(ctx))}
		}
		h.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
}

// leaveQueueLocked takes a task out of the queue. If it was its turn and it gives up, it is the turn of the next.
func (h *handler) leaveQueueLocked(turn chan struct{}, gaveUp bool) {
	switch {
	case turn == nil:
	case !closed(turn):
		h.tasks.waiting = slices.DeleteFunc(h.tasks.waiting, func(other waiter) bool { return other.turn == turn })
	case gaveUp:
		h.wakeNextLocked()
	}
}

// expectedLocked reports whether a task in the queue may go to p.
func (h *handler) expectedLocked(p *process) bool {
	return slices.ContainsFunc(h.tasks.waiting, func(w waiter) bool { return !slices.Contains(w.without, p) })
}

// wakeNextLocked wakes the first task in the queue, because there may be a free slot. One that does not go to the process
// which has the slot is passed over: it would keep it from the others.
func (h *handler) wakeNextLocked() {
	queue := h.tasks.waiting
	if len(queue) == 0 {
		return
	}
	next := slices.IndexFunc(queue, func(w waiter) bool {
		if len(w.without) == 0 {
			return true
		}
		best, _ := h.pickLocked(w.without)
		return best != nil
	})
	next = max(next, 0)
	close(queue[next].turn)
	copy(queue[1:next+1], queue[:next])
	h.tasks.waiting = queue[1:]
}

func (h *handler) wakeAllLocked() {
	for range len(h.tasks.waiting) {
		h.wakeNextLocked()
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

// pickLocked returns the ready process with the fewest tasks, nil when there is none; full says that there is one, but that
// it has as many tasks as it may have.
func (h *handler) pickLocked(without []*process) (best *process, full bool) {
	g := h.currentLocked()
	for _, p := range g.processes {
		if !p.takesTasksLocked() || slices.Contains(without, p) {
			continue
		}
		if limit := g.config.ProcessConcurrency; limit > 0 && p.running >= limit {
			full = true
			continue
		}
		if best == nil || p.running < best.running || p.running == best.running && p.id < best.id {
			best = p
		}
	}
	if limit := g.config.Concurrency; limit > 0 && h.tasks.running >= limit && (best != nil || full) {
		return nil, true
	}
	return best, full
}

// released counts a task off a process, once the process has let go of it.
func (h *handler) released(p *process, taint bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.running--
	h.tasks.running--
	h.wakeNextLocked()
	if p.exited {
		return
	}
	if taint {
		h.emitTainted(p.conn.PID())
		p.g.stepLocked(unit.Event{Kind: unit.ProcessTainted, Process: p.id})
	}
	if limit := p.g.config.RecycleTasks; limit > 0 && p.served >= limit {
		p.g.stepLocked(unit.Event{Kind: unit.ProcessWorn, Process: p.id})
	}
	if p.draining && p.running == 0 {
		p.g.stepLocked(unit.Event{Kind: unit.ProcessIdle, Process: p.id})
	}
}
