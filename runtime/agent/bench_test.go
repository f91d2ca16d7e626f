package agent

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// BenchmarkControlToHandler: from a control message in hand to the handler's first line, without the network between.
func BenchmarkControlToHandler(b *testing.B) {
	n := newNetwork(b, true)
	entered, over := make(chan time.Time), make(chan struct{})
	c := cardOf(b, "worker", 1000, "")
	if err := n.sb.Register(c); err != nil {
		b.Fatal(err)
	}
	a, err := New(Config{
		Card: c, Handler: "test", APIKey: n.sb.APIKey(), Backend: n.api, CDM: n.cdm, Origin: n.cdm.PubNubOrigin,
		Dispatcher: NewFuncDispatcher(func(context.Context, *wire.Task, dispatch.TaskPort) error {
			entered <- time.Now()
			<-over
			return nil
		}),
	})
	if err != nil {
		b.Fatal(err)
	}
	s, err := a.connect(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.link.Close()
	s.work = func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }
	defer a.work.Wait()
	var times []time.Duration
	for i := range b.N {
		body := []byte(startTask(fmt.Sprint("t", i), ""))
		at := time.Now()
		a.receive(s, link.Received{Body: body})
		times = append(times, (<-entered).Sub(at))
		over <- struct{}{}
		for a.Status().Running > 500 { // the driver is faster than what follows a task, and would use up the slots
			runtime.Gosched()
		}
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkTasks: tasks with an artifact, 1 and 16 in flight, from the publish of the control message until a
// subscriber sees the terminal event; sandbox, driver and agent in one process.
func BenchmarkTasks(b *testing.B) {
	for _, inFlight := range []int{1, 16} {
		b.Run(fmt.Sprint(inFlight, " in flight"), func(b *testing.B) {
			n := newNetwork(b, true)
			a := n.serve(cardOf(b, "worker", 64, ""), NewFuncDispatcher(echo), nil)
			a.await(StateOnline)

			var mu sync.Mutex
			waiting := map[string]chan wire.Event{}
			ctx, stop := context.WithCancel(context.Background())
			var running sync.WaitGroup
			connected := make(chan struct{})
			var once sync.Once
			running.Go(func() {
				_ = n.driver.Subscribe(ctx, link.SubscribeConfig{
					Channels: []string{"u.org.*"},
					OnState: func(s link.State, _ error) {
						if s == link.Connected {
							once.Do(func() { close(connected) })
						}
					},
				}, func(r link.Received) {
					e, err := wire.DecodeEvent(r.Body)
					if err != nil || e.Type != wire.EventTerminal {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					waiting[e.TaskID] <- e
				})
			})
			defer running.Wait()
			defer stop()
			select {
			case <-connected:
			case <-time.After(patience):
				b.Fatal("the driver does not connect")
			}

			b.ResetTimer()
			var times []time.Duration
			var workers sync.WaitGroup
			next := make(chan int)
			for range inFlight {
				workers.Go(func() {
					for i := range next {
						id, seen := fmt.Sprint("t", i), make(chan wire.Event, 1)
						mu.Lock()
						waiting[id] = seen
						mu.Unlock()
						at := time.Now()
						a.control(startTask(id, ""))
						select {
						case e := <-seen:
							if e.State != wire.Completed {
								b.Errorf("task %s: %s %s", id, e.State, e.Error)
							}
						case <-time.After(patience):
							b.Errorf("task %s has no terminal", id)
						}
						mu.Lock()
						times = append(times, time.Since(at))
						mu.Unlock()
					}
				})
			}
			for i := range b.N {
				next <- i
			}
			close(next)
			workers.Wait()
			b.StopTimer()
			slices.Sort(times)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// TestManyInFlight: 2,000 tasks at once cost little memory each, Status stays cheap, and when they are over nothing is left.
func TestManyInFlight(t *testing.T) {
	const many = 2000
	n, st := newNetwork(t, true), newStage()
	st.calls = make(chan *call, many)
	c := cardOf(t, "worker", many, "")
	if err := n.sb.Register(c); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{
		Card: c, Handler: "test", APIKey: n.sb.APIKey(), Backend: n.api, CDM: n.cdm, Origin: n.cdm.PubNubOrigin, Dispatcher: st,
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := a.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.link.Close()
	s.work = func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) }

	before, memory := runtime.NumGoroutine(), inUse()
	for i := range many {
		a.receive(s, link.Received{Body: []byte(startTask(fmt.Sprint("t", i), ""))})
	}
	calls := make([]*call, many)
	for i := range calls {
		calls[i] = st.next(t)
	}
	eventually(t, "all running events are out", func() bool { return runtime.NumGoroutine() <= before+many+200 })

	// The sandbox's share, two events of each task, is counted too.
	each := (inUse() - memory) / many
	t.Logf("%d bytes for each task in flight", each)
	if each > 64<<10 {
		t.Errorf("%d bytes for each task in flight", each)
	}

	at := time.Now()
	status := a.Status()
	tasks := a.Tasks()
	t.Logf("status of %d tasks took %v", many, time.Since(at))
	if status.Running != many || len(tasks) != many || tasks[0].TaskID != "t0" || tasks[many-1].TaskID != fmt.Sprint("t", many-1) {
		t.Errorf("%d running, %d tasks", status.Running, len(tasks))
	}
	for _, c := range calls {
		c.result <- nil
	}
	eventually(t, "all tasks are over", func() bool { return len(a.Tasks()) == 0 })
	a.work.Wait()
	want := Counts{Accepted: many, Completed: many}
	if got := a.Status().Counts; got != want {
		t.Errorf("counts %+v", got)
	}
	if len(a.tasks.jobs) != 0 || a.tasks.running != 0 {
		t.Errorf("%d jobs and %d slots are left", len(a.tasks.jobs), a.tasks.running)
	}
}

// inUse is the memory in use after a collection.
func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// BenchmarkCancelToHandler: from a cancel in hand until the handler is notified, without the network between; with a journal,
// which notes the cancel, and without one.
func BenchmarkCancelToHandler(b *testing.B) {
	for _, journaled := range []bool{false, true} {
		b.Run(fmt.Sprint("journal ", journaled), func(b *testing.B) {
			n, st := newNetwork(b, true), newStage()
			var change func(*Config)
			if journaled {
				change = withJournal(openJournal(b, b.TempDir()))
			}
			a := n.serve(cardOf(b, "worker", 4, ""), st, change)
			a.await(StateOnline)
			var times []time.Duration
			for i := range b.N {
				id := fmt.Sprint("t", i)
				a.receive(a.conn.session, link.Received{Body: []byte(startTask(id, ""))})
				c := st.next(b)
				at := time.Now()
				a.receive(a.conn.session, link.Received{Body: fmt.Appendf(nil, `{"type":"CancelTask","taskId":%q}`, id)})
				<-c.ctx.Done()
				times = append(times, time.Since(at))
				c.result <- nil
				n.terminal(id)
				eventually(b, "there is a slot", func() bool { return a.Status().Running == 0 })
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
		})
	}
}
