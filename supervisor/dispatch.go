package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/plug"
	"github.com/blocksd/blocksd/supervisor/unit"
)

var _ dispatch.Dispatcher = (*Fleet)(nil)

// Texts for the consumer.
const (
	publicNoProcess = "The handler of this agent is not available."
	publicTwice     = "The task is running already."
	publicCanceled  = "The task was canceled before a handler process was ready."
)

// ErrNoTask is returned by CancelTask for a task that is not here.
var ErrNoTask = errors.New("no such task is with a handler")

// placement is where a task is. Its fields are guarded by Fleet.mu.
type placement struct {
	conn     *plug.Conn    // nil while it waits for a process
	canceled chan struct{} // closed when it was canceled while it waited
	told     bool          // a process was told to end it
}

// attempts of a task that may be repeated. A task that crashes two processes would crash the third. What a process never
// had is no attempt.
const attempts = 2

// Do gives a task to a process of the handler and blocks until the handler's call has ended. The answer is nil or a
// *dispatch.TaskFailure. While no process is ready but one is expected, the task waits up to Config.Hold. When ctx ends the
// daemon ends the call; a process that does not let go of it is replaced. The port is not used after Do has returned.
func (f *Fleet) Do(ctx context.Context, name string, task *wire.Task, port dispatch.TaskPort) error {
	h := f.get(name)
	if h == nil {
		return noProcess("there is no handler called %q", name)
	}
	pl := &placement{canceled: make(chan struct{})}
	if !f.place(task.ID, pl) {
		return &dispatch.TaskFailure{Kind: dispatch.NoProcess, Public: publicTwice, Private: fmt.Sprintf("task %s is with a handler already", task.ID)}
	}
	defer f.remove(task.ID)
	select {
	case <-pl.canceled: // by a cancellation that came first
		return &dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicCanceled}
	default:
	}
	h.enter()
	defer h.leave()
	watched := &watchedPort{TaskPort: port}
	var without []*process // that did not get it
	for attempt := 1; ; {
		p, err := h.acquire(ctx, f.config.Hold, pl.canceled, without)
		if err != nil {
			return err
		}
		err = p.conn.Do(ctx, task, watched, plug.Hooks{
			Assigned: func() bool { return f.settle(pl, p.conn) },
			Released: func(taint bool) { h.released(p, taint) },
		})
		var unsent *plug.Unsent
		why := "it did not reach the process"
		switch {
		case err == nil:
			return nil
		case errors.As(err, &unsent):
			err = unsent.TaskFailure
			without = append(without, p)
		case attempt < attempts && crashed(err) && !watched.published.Load() && p.idempotent():
			attempt++
			why = "it may be repeated and has published nothing"
		default:
			return err
		}
		if ctx.Err() != nil || !f.unsettle(pl) {
			return err
		}
		h.log.Warn("task is tried on another process, because "+why, "task", task.ID, "err", err)
	}
}

// idempotent reports whether a task that has published nothing may be repeated.
func (p *process) idempotent() bool { return p.g.config.Idempotent || p.conn.Description().Idempotent }

func crashed(err error) bool {
	var f *dispatch.TaskFailure
	return errors.As(err, &f) && f.Kind == dispatch.HandlerCrash
}

// watchedPort notices when a task publishes something; from then on it cannot be repeated unseen.
type watchedPort struct {
	dispatch.TaskPort
	published atomic.Bool
}

func (p *watchedPort) Status(text string) {
	p.published.Store(true)
	p.TaskPort.Status(text)
}

func (p *watchedPort) Artifact(ctx context.Context, a wire.Artifact) error {
	p.published.Store(true)
	return p.TaskPort.Artifact(ctx, a)
}

// enter and leave count the tasks that wait or run, so that an unused handler can be stopped and is started again.
func (h *handler) enter() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users++; h.users == 1 {
		h.usage(unit.Used)
	}
}

func (h *handler) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.users == 0 {
		h.usage(unit.Unused)
	}
}

// usage tells the generations about the first and the last task, where that matters. mu is held.
func (h *handler) usage(kind unit.EventKind) {
	for _, g := range []*generation{h.current, h.next} {
		if g != nil && g.config.Restart.IdleTimeout > 0 {
			g.step(unit.Event{Kind: kind})
		}
	}
}

// acquire picks a process and counts the task on it. For a process it waits no longer than hold while none is ready; for a
// free place on one it waits as long as ctx does. The processes in without do not count as ready.
func (h *handler) acquire(ctx context.Context, hold time.Duration, canceled <-chan struct{}, without []*process) (p *process, err error) {
	var timer *time.Timer
	var turn chan struct{} // the task's place in the queue, once it has one
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.leaveQueue(turn, p == nil) }()
	for {
		best, full := h.pick(without)
		if best != nil && (turn != nil || !h.awaited(best)) {
			best.running++
			best.served++
			h.running++
			return best, nil
		}
		state, changed, reason := h.current.unit.State(), h.changed, h.current.reason
		var late <-chan time.Time
		switch {
		case best != nil || full: // others were first
		case h.availabilityLocked() == dispatch.Unavailable:
			return nil, noProcess("handler %s is %v: %s", h.name, state, reason)
		default:
			if timer == nil {
				timer = time.NewTimer(hold)
				defer timer.Stop()
			}
			late = timer.C
		}
		if turn == nil || closed(turn) {
			turn = make(chan struct{})
			h.queue = append(h.queue, place{turn, without})
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

// leaveQueue gives up a place in the queue; what was told to one that gives up is told to the next. mu is held.
func (h *handler) leaveQueue(turn chan struct{}, gaveUp bool) {
	switch {
	case turn == nil:
	case !closed(turn):
		h.queue = slices.DeleteFunc(h.queue, func(other place) bool { return other.turn == turn })
	case gaveUp:
		h.tellNext()
	}
}

// place is that of a task in the queue.
type place struct {
	turn    chan struct{} // closed when the task was told, and has left the queue
	without []*process    // that it does not go to
}

// awaited reports whether a task in the queue may go to p. mu is held.
func (h *handler) awaited(p *process) bool {
	return slices.ContainsFunc(h.queue, func(w place) bool { return !slices.Contains(w.without, p) })
}

// tellNext tells the first task in the queue that there may be a free place. One that does not go to the process which
// has the place is passed over: it would keep it from the others. mu is held.
func (h *handler) tellNext() {
	if len(h.queue) == 0 {
		return
	}
	next := slices.IndexFunc(h.queue, func(w place) bool {
		if len(w.without) == 0 {
			return true
		}
		best, _ := h.pick(w.without)
		return best != nil
	})
	next = max(next, 0)
	close(h.queue[next].turn)
	copy(h.queue[1:next+1], h.queue[:next])
	h.queue = h.queue[1:]
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// pick returns the ready process with the fewest tasks, nil when there is none; full says that there is one, but that it
// has as many tasks as it may have. mu is held.
func (h *handler) pick(without []*process) (best *process, full bool) {
	g := h.current
	for _, p := range g.processes {
		if p.conn == nil || p.draining || closed(p.conn.Done()) || g.unit.ProcessState(p.id) != unit.Ready || slices.Contains(without, p) {
			continue // a process is gone a moment before the unit knows
		}
		if limit := g.config.ProcessConcurrency; limit > 0 && p.running >= limit {
			full = true
			continue
		}
		if best == nil || p.running < best.running || p.running == best.running && p.id < best.id {
			best = p
		}
	}
	if limit := g.config.Concurrency; limit > 0 && h.running >= limit && (best != nil || full) {
		return nil, true
	}
	return best, full
}

// released counts a task off a process, once the process has let go of it.
func (h *handler) released(p *process, taint bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.running--
	h.running--
	h.tellNext()
	if p.gone {
		return
	}
	if taint {
		h.emit(event.Event{Type: event.Notice, Level: slog.LevelWarn, PID: p.conn.PID(), Reason: "handler process is replaced because it did not let go of a task"})
		p.g.step(unit.Event{Kind: unit.ProcessTainted, Process: p.id})
	}
	if limit := p.g.config.RecycleTasks; limit > 0 && p.served >= limit {
		p.g.step(unit.Event{Kind: unit.ProcessWorn, Process: p.id})
	}
	if p.draining && p.running == 0 {
		p.g.step(unit.Event{Kind: unit.ProcessIdle, Process: p.id})
	}
}

// CancelTask asks the handler to end a task; it returns when the handler has been told. A task that waits for a process
// ends at once. ErrNoTask when it is neither; if its Do comes within the grace it ends at once, because a cancellation may
// overtake the task.
func (f *Fleet) CancelTask(ctx context.Context, taskID string, reason dispatch.CancelReason, grace time.Duration) error {
	f.mu.Lock()
	pl := f.tasks[taskID]
	var conn *plug.Conn
	if pl != nil {
		pl.told = true
		if conn = pl.conn; conn == nil {
			select {
			case <-pl.canceled: // before
			default:
				close(pl.canceled)
			}
		}
	} else {
		f.rememberLocked(taskID, grace)
	}
	f.mu.Unlock()
	if pl == nil {
		return ErrNoTask
	}
	if conn == nil {
		return nil
	}
	if err := conn.CancelTask(ctx, taskID, reason, grace); err != nil && !errors.Is(err, plug.ErrNoTask) {
		return err
	}
	return nil
}

// maxEarly bounds the memory of cancellations of tasks that are not here.
const maxEarly = 1024

func (f *Fleet) rememberLocked(taskID string, grace time.Duration) {
	now := f.config.Now()
	if len(f.early) >= maxEarly {
		maps.DeleteFunc(f.early, func(_ string, until time.Time) bool { return !now.Before(until) })
	}
	if len(f.early) < maxEarly {
		f.early[taskID] = now.Add(grace)
	}
}

func (f *Fleet) place(taskID string, pl *placement) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.tasks[taskID]; ok {
		return false
	}
	f.tasks[taskID] = pl
	if until, ok := f.early[taskID]; ok {
		delete(f.early, taskID)
		if f.config.Now().Before(until) {
			close(pl.canceled)
		}
	}
	return true
}

// settle is false when the task was canceled while it waited.
func (f *Fleet) settle(pl *placement, conn *plug.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-pl.canceled:
		return false
	default:
		pl.conn = conn
		return true
	}
}

// unsettle makes a task wait for another process; false when somebody asked to end it meanwhile.
func (f *Fleet) unsettle(pl *placement) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if pl.told {
		return false
	}
	pl.conn = nil
	return true
}

func (f *Fleet) remove(taskID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.tasks, taskID)
}

// placed reports whether some process works on a task.
func (f *Fleet) placed(taskID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	pl := f.tasks[taskID]
	return pl != nil && pl.conn != nil
}

func noProcess(format string, args ...any) *dispatch.TaskFailure {
	return &dispatch.TaskFailure{Kind: dispatch.NoProcess, Public: publicNoProcess, Private: fmt.Sprintf(format, args...)}
}
