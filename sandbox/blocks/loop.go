package blocks

import (
	"container/heap"
	"time"
)

// loop holds what Run has to do: work that is done without the lock of the network, first in first out, and deadlines.
type loop struct {
	wake chan struct{} // there is something to do
	work []func()
	due  deadlines
}

func newLoop() loop { return loop{wake: make(chan struct{}, 1)} }

// pushLocked has do called soon, without the lock, after all that was pushed before.
func (l *loop) pushLocked(do func()) {
	l.work = append(l.work, do)
	l.wakeUp()
}

// atLocked has do called at a time, under the lock.
func (l *loop) atLocked(when time.Time, do func()) {
	heap.Push(&l.due, &deadline{when: when, do: do})
	if l.due[0].when.Equal(when) {
		l.wakeUp()
	}
}

// wakeUp has Run look at what there is to do and at the clock.
func (l *loop) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// takeLocked does what is due and returns the work and how long to wait if there is none: until the next deadline, or
// for longest.
func (l *loop) takeLocked(now time.Time, longest time.Duration) (work []func(), wait time.Duration) {
	for len(l.due) > 0 && !l.due[0].when.After(now) {
		heap.Pop(&l.due).(*deadline).do()
	}
	work, l.work = l.work, nil
	if len(l.due) > 0 {
		return work, l.due[0].when.Sub(now)
	}
	return work, longest
}

type deadline struct {
	when time.Time
	do   func()
}

// deadlines is a heap.
type deadlines []*deadline

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].when.Before(d[j].when) }
func (d deadlines) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *deadlines) Push(x any)        { *d = append(*d, x.(*deadline)) }
func (d *deadlines) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	return last
}
