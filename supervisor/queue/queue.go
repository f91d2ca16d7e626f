// Package queue decides which process of a handler each task gets, and in which order tasks wait for one. It is pure: it
// holds no lock, starts nothing and waits for nothing.
package queue

import "slices"

// Limits of tasks at once; 0 for no limit.
type Limits struct {
	Tasks      int // of the handler
	PerProcess int
}

// Queue is the tasks T of one handler and its processes P. It is not safe for concurrent use. No task waits while a process
// that it may go to has a free slot, as long as Assign is called after every change.
type Queue[P, T comparable] struct {
	limits  Limits
	loads   map[P]*load[P] // of open processes, and of those that have tasks
	open    []*load[P]     // the processes that take tasks, the first opened first
	running int            // tasks on processes, open or not
	waiting []waiter[P, T] // the first come first
}

// load is what a process has to do.
type load[P comparable] struct {
	process P
	open    bool
	running int
	served  int // tasks that it has been given
}

type waiter[P, T comparable] struct {
	task    T
	without []P // that it does not go to
}

// Assignment is a task that does not wait any more.
type Assignment[P, T comparable] struct {
	Task    T
	Process P
}

// New returns an empty queue.
func New[P, T comparable](l Limits) *Queue[P, T] {
	return &Queue[P, T]{limits: l, loads: map[P]*load[P]{}}
}

// SetLimits replaces the limits. Tasks beyond them go on.
func (q *Queue[P, T]) SetLimits(l Limits) { q.limits = l }

// Open gives tasks to a process from now on.
func (q *Queue[P, T]) Open(p P) {
	l := q.loads[p]
	if l == nil {
		l = &load[P]{process: p}
		q.loads[p] = l
	}
	if !l.open {
		l.open = true
		q.open = append(q.open, l)
	}
}

// Close gives no further tasks to a process.
func (q *Queue[P, T]) Close(p P) {
	l := q.loads[p]
	if l == nil || !l.open {
		return
	}
	l.open = false
	q.open = slices.DeleteFunc(q.open, func(other *load[P]) bool { return other == l })
	q.forget(l)
}

func (q *Queue[P, T]) forget(l *load[P]) {
	if !l.open && l.running == 0 {
		delete(q.loads, l.process)
	}
}

// Take gives a task that has just come a slot at once, if there is one on a process that is not in without.
func (q *Queue[P, T]) Take(without []P) (p P, ok bool) {
	l := q.pick(without)
	if l == nil {
		return p, false
	}
	q.give(l)
	return l.process, true
}

// Wait puts a task at the end of the queue.
func (q *Queue[P, T]) Wait(task T, without []P) {
	q.waiting = append(q.waiting, waiter[P, T]{task, without})
}

// Leave takes a task out of the queue; false when it does not wait.
func (q *Queue[P, T]) Leave(task T) bool {
	i := slices.IndexFunc(q.waiting, func(w waiter[P, T]) bool { return w.task == task })
	if i >= 0 {
		q.remove(i)
	}
	return i >= 0
}

// remove takes the task at index i out of the queue. It is almost always the first one.
func (q *Queue[P, T]) remove(i int) {
	copy(q.waiting[1:i+1], q.waiting[:i])
	q.waiting[0] = waiter[P, T]{}
	q.waiting = q.waiting[1:]
}

// Assign gives the free slots to the tasks that wait. A task that does not go to the process with the slot is passed over:
// it would keep it from the others.
func (q *Queue[P, T]) Assign() (assigned []Assignment[P, T]) {
	for i := 0; i < len(q.waiting) && q.room(); {
		w := q.waiting[i]
		l := q.pick(w.without)
		if l == nil {
			i++
			continue
		}
		q.give(l)
		assigned = append(assigned, Assignment[P, T]{w.task, l.process})
		q.remove(i)
	}
	return assigned
}

func (q *Queue[P, T]) give(l *load[P]) {
	l.running++
	l.served++
	q.running++
}

// Release frees the slot of a task and returns how many the process still works on, and how many it has been given.
func (q *Queue[P, T]) Release(p P) (running, served int) {
	l := q.loads[p]
	l.running--
	q.running--
	q.forget(l)
	return l.running, l.served
}

// Return takes back a task that was never begun.
func (q *Queue[P, T]) Return(p P) {
	q.loads[p].served--
	q.Release(p)
}

// room reports whether any process has a free slot.
func (q *Queue[P, T]) room() bool { return q.pick(nil) != nil }

// pick returns the open process with the fewest tasks that has a free slot, nil when there is none.
func (q *Queue[P, T]) pick(without []P) (best *load[P]) {
	if q.limits.Tasks > 0 && q.running >= q.limits.Tasks {
		return nil
	}
	for _, l := range q.open {
		if q.limits.PerProcess > 0 && l.running >= q.limits.PerProcess || slices.Contains(without, l.process) {
			continue
		}
		if best == nil || l.running < best.running {
			best = l
		}
	}
	return best
}

// Takes reports whether some process takes tasks, free slots or not, that is not in without.
func (q *Queue[P, T]) Takes(without []P) bool {
	return slices.ContainsFunc(q.open, func(l *load[P]) bool { return !slices.Contains(without, l.process) })
}

// OpenProcesses are the processes that take tasks. The caller must not change or keep them.
func (q *Queue[P, T]) OpenProcesses(yield func(P) bool) {
	for _, l := range q.open {
		if !yield(l.process) {
			return
		}
	}
}

// Running is the number of tasks on a process.
func (q *Queue[P, T]) Running(p P) int {
	if l := q.loads[p]; l != nil {
		return l.running
	}
	return 0
}

// Waiting are the tasks that wait, the first come first.
func (q *Queue[P, T]) Waiting(yield func(T) bool) {
	for _, w := range q.waiting {
		if !yield(w.task) {
			return
		}
	}
}

// Len is the number of tasks that wait, and of those on processes.
func (q *Queue[P, T]) Len() (waiting, running int) { return len(q.waiting), q.running }
