package supervisor

import (
	"maps"
	"sync"
	"time"

	"github.com/blocksd/blocksd/supervisor/plug"
)

// maxEarly bounds the memory of cancellations of tasks that are not here.
const maxEarly = 1024

// taskTable knows the tasks that were started and are not done, and which process has each. Nothing else is locked while mu is held.
type taskTable struct {
	now func() time.Time

	mu    sync.Mutex
	tasks map[string]*taskEntry // guarded by mu, like the entries
	// early are cancellations of tasks that are not here, and until when each counts: they may have overtaken Start. Guarded by
	// mu, bounded by maxEarly.
	early map[string]time.Time
}

// taskEntry is one task of the table.
type taskEntry struct {
	conn     *plug.Conn    // of the process that has it; nil while it waits for one
	canceled chan struct{} // closed when it was canceled while it waited
	ending   bool          // it was canceled
}

func newTaskTable(now func() time.Time) *taskTable {
	return &taskTable{now: now, tasks: map[string]*taskEntry{}, early: map[string]time.Time{}}
}

// add is false when the task is here already.
func (t *taskTable) add(taskID string) (*taskEntry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.tasks[taskID]; ok {
		return nil, false
	}
	e := &taskEntry{canceled: make(chan struct{})}
	t.tasks[taskID] = e
	if until, ok := t.early[taskID]; ok {
		delete(t.early, taskID)
		if t.now().Before(until) {
			close(e.canceled)
		}
	}
	return e, true
}

func (t *taskTable) remove(taskID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tasks, taskID)
}

// assign is false when the task was canceled while it waited for a process.
func (t *taskTable) assign(e *taskEntry, conn *plug.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if closed(e.canceled) {
		return false
	}
	e.conn = conn
	return true
}

// unassign makes a task wait for another process; false when it was canceled meanwhile.
func (t *taskTable) unassign(e *taskEntry) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.ending {
		return false
	}
	e.conn = nil
	return true
}

// cancel returns the process that has to end the task, nil if the task waits for one: then it ends. ErrNoTask when the
// task is not here; it ends if it comes within the grace.
func (t *taskTable) cancel(taskID string, grace time.Duration) (*plug.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.tasks[taskID]
	if e == nil {
		t.rememberLocked(taskID, grace)
		return nil, ErrNoTask
	}
	e.ending = true
	if e.conn == nil && !closed(e.canceled) {
		close(e.canceled)
	}
	return e.conn, nil
}

func (t *taskTable) rememberLocked(taskID string, grace time.Duration) {
	now := t.now()
	if len(t.early) >= maxEarly {
		maps.DeleteFunc(t.early, func(_ string, until time.Time) bool { return !now.Before(until) })
	}
	if len(t.early) < maxEarly {
		t.early[taskID] = now.Add(grace)
	}
}

// assigned reports whether some process has the task.
func (t *taskTable) assigned(taskID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.tasks[taskID]
	return e != nil && e.conn != nil
}
