package queue

import (
	"slices"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever happens in whatever order: no limit is exceeded, no task waits while a process that it may go to has a free slot,
// tasks that may go to the same processes are served in the order in which they came, and every task is counted once.
func TestProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := func() Limits {
			return Limits{Tasks: rapid.IntRange(0, 4).Draw(t, "tasks"), PerProcess: rapid.IntRange(0, 2).Draw(t, "per process")}
		}
		l := limits()
		q := New[int, int](l)
		on := map[int]int{}         // the process of each task that runs
		without := map[int][]int{}  // of each task that waits
		order := []int{}            // of those, as they came
		open := map[int]bool{}      // processes
		served := map[int]int{}     // tasks by process, since it was known to the queue
		known := func(p int) bool { // by the queue
			return open[p] || slices.Contains(values(on), p)
		}
		begin := func(task, p int) {
			if !open[p] || slices.Contains(without[task], p) {
				t.Fatalf("task %d goes to process %d, which it may not", task, p)
			}
			on[task] = p
			served[p]++
		}
		count := func(p int) (n int) {
			for _, other := range on {
				if other == p {
					n++
				}
			}
			return n
		}
		fits := func(task, p int) bool {
			return open[p] && !slices.Contains(without[task], p) && (l.PerProcess == 0 || count(p) < l.PerProcess) && (l.Tasks == 0 || len(on) < l.Tasks)
		}
		assign := func() {
			for _, a := range q.Assign() {
				i := slices.Index(order, a.Task)
				if i < 0 || !fits(a.Task, a.Process) {
					t.Fatalf("assigned %+v", a)
				}
				for p := range open {
					if fits(a.Task, p) && count(p) < count(a.Process) {
						t.Fatalf("task %d goes to process %d and not to %d, which has less to do", a.Task, a.Process, p)
					}
				}
				for _, earlier := range order[:i] {
					if fits(earlier, a.Process) {
						t.Fatalf("task %d gets process %d before task %d, which came first", a.Task, a.Process, earlier)
					}
				}
				begin(a.Task, a.Process)
				delete(without, a.Task)
				order = slices.Delete(order, i, i+1)
			}
		}
		last := 0
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			p := rapid.IntRange(1, 4).Draw(t, "process")
			switch rapid.IntRange(0, 6).Draw(t, "event") {
			case 0:
				q.Open(p)
				open[p] = true
			case 1:
				q.Close(p)
				delete(open, p)
			case 2, 3:
				last++
				avoid := rapid.SliceOfN(rapid.IntRange(1, 4), 0, 2).Draw(t, "without")
				without[last] = avoid
				if p, ok := q.Take(avoid); ok {
					if !fits(last, p) {
						t.Fatalf("task %d took process %d", last, p)
					}
					begin(last, p)
					delete(without, last)
				} else {
					q.Wait(last, avoid)
					order = append(order, last)
				}
			case 4:
				if len(order) > 0 {
					task := rapid.SampledFrom(order).Draw(t, "leaves")
					if !q.Leave(task) || q.Leave(task) {
						t.Fatalf("task %d did not leave once", task)
					}
					order = slices.DeleteFunc(order, func(other int) bool { return other == task })
					delete(without, task)
				}
			case 5:
				if len(on) > 0 {
					task := rapid.SampledFrom(keys(on)).Draw(t, "ends")
					p := on[task]
					delete(on, task)
					if rapid.Bool().Draw(t, "never begun") {
						served[p]--
						q.Return(p)
					} else if running, n := q.Release(p); running != count(p) || n != served[p] {
						t.Fatalf("process %d has %d tasks of %d, not %d of %d", p, running, n, count(p), served[p])
					}
				}
			case 6:
				l = limits()
				q.SetLimits(l)
			}
			assign()
			for p := range served {
				if !known(p) {
					delete(served, p)
				}
				if q.Running(p) != count(p) {
					t.Fatalf("process %d has %d tasks, not %d", p, q.Running(p), count(p))
				}
			}
			for _, task := range order {
				takes := false
				for p := range open {
					takes = takes || !slices.Contains(without[task], p)
					if fits(task, p) {
						t.Fatalf("task %d waits although process %d has a free slot", task, p)
					}
				}
				if q.Takes(without[task]) != takes {
					t.Fatalf("some process takes task %d: %v", task, !takes)
				}
			}
			if waiting, running := q.Len(); waiting != len(order) || running != len(on) || !slices.Equal(slices.Collect(q.Waiting), order) {
				t.Fatalf("%d wait and %d run, not %d and %d", waiting, running, len(order), len(on))
			}
			if n := len(slices.Collect(q.OpenProcesses)); n != len(open) {
				t.Fatalf("%d processes are open, not %d", n, len(open))
			}
		}
	})
}

func keys(m map[int]int) (all []int) {
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

func values(m map[int]int) (all []int) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}
