package plug

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// The end of the process ends its tasks at once, with what it wrote last.
func TestCrash(t *testing.T) {
	tests := []struct {
		text    string
		private []string
		reason  unit.Reason
	}{
		{"exit 7", []string{"exit code 7", "leaving"}, unit.ExitCode},
		{"slow-exit 7", []string{"exit code 7"}, unit.ExitCode},
		{"kill", []string{"signal 9 (killed)"}, unit.Signal},
		{"crash", []string{"exit code 2", "panic: the whole process goes down", "goroutine"}, unit.ExitCode},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			r := newFixture(t)
			r.Timeouts.ExitDrain, r.Timeouts.ExitNotice = patience, patience // for its end and its last lines on a busy machine
			r.Timeouts.ExitDoubt = time.Nanosecond
			c := r.conn(t, "badhandler", "")
			other := newPort()
			both := make(chan error, 1)
			go func() { both <- give(context.Background(), c, request("other", "hang"), other, Hooks{}) }()
			wait(t, other.changed, "the other task to run")
			_, f := do(t, c, "t", tt.text)
			if f == nil || f.Kind != dispatch.HandlerCrash || f.Public != publicCrash {
				t.Fatalf("failure %+v", f)
			}
			for _, want := range tt.private {
				if !strings.Contains(f.Private, want) {
					t.Errorf("private text lacks %q: %s", want, f.Private)
				}
			}
			err := <-both
			if !errors.As(err, &f) || f.Kind != dispatch.HandlerCrash {
				t.Errorf("the other task: %v", err)
			}
			if e := c.Exit(); e.Reason != tt.reason {
				t.Errorf("exit %v", e)
			}
		})
	}
}

// Nothing is waited for that a killed process will not bring.
func TestCrashIsQuick(t *testing.T) {
	r := newFixture(t)
	r.Timeouts.LetGo, r.Timeouts.ExitDrain, r.Timeouts.ExitNotice = time.Hour, time.Hour, time.Hour
	c := r.conn(t, "badhandler", "")
	p := newPort()
	result := make(chan struct{})
	go func() {
		defer close(result)
		_ = give(context.Background(), c, request("t", "hang"), p, Hooks{})
	}()
	wait(t, p.changed, "the task to run")
	c.Kill()
	wait(t, c.Done(), "the end of the process")
	wait(t, result, "the end of its task")
}

// slowPort kills the process in the middle of its artifact, and gives whoever would cut that short the time to do it.
type slowPort struct {
	*port
	conn *Conn
}

func (p slowPort) Artifact(ctx context.Context, a wire.Artifact) error {
	p.conn.Kill()
	<-p.conn.Done()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(100 * time.Millisecond):
		return p.port.Artifact(ctx, a)
	}
}

// What a process has sent before its end is published, however long that takes: cut short, it could come behind the
// terminal. What it has sent behind that counts too.
func TestArtifactOutlivesItsProcess(t *testing.T) {
	r := newFixture(t)
	r.Timeouts.ExitDrain = time.Millisecond
	p := newPort()
	c := r.conn(t, "badhandler", "")
	err := give(t.Context(), c, request("t", "none"), slowPort{p, c}, Hooks{})
	var f *dispatch.TaskFailure
	if err != nil && (!errors.As(err, &f) || f.Kind != dispatch.HandlerCrash) { // the result may not have been sent
		t.Errorf("the task: %v", err)
	}
	if d := cmp.Diff([]string{"good"}, p.texts()); d != "" {
		t.Errorf("artifacts: %s", d)
	}
}

// heldPort holds its artifact until the task ends.
type heldPort struct {
	*port
	failed chan struct{} // closed when the test is over
}

func (p heldPort) Artifact(ctx context.Context, _ wire.Artifact) error {
	p.blocked <- struct{}{}
	select {
	case <-ctx.Done():
	case <-p.failed:
	}
	return ctx.Err()
}

// The end of the task ends that, too.
func TestTaskEndsAfterItsProcess(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "")
	p := heldPort{newPort(), make(chan struct{})}
	t.Cleanup(func() { close(p.failed) })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- give(ctx, c, request("t", "none"), p, Hooks{}) }()
	wait(t, p.blocked, "an artifact")
	c.Kill()
	wait(t, c.Done(), "the end of the process")
	cancel()
	select {
	case err := <-result:
		var f *dispatch.TaskFailure
		if !errors.As(err, &f) {
			t.Errorf("the task: %v", err)
		}
	case <-time.After(patience):
		t.Error("the task does not end")
	}
}

// doomedPort kills the process just before it is given the task.
type doomedPort struct {
	*port
	conn *Conn
}

func (p doomedPort) Dispatched(int) {
	p.conn.Kill()
	<-p.conn.Done()
}

// A process that has ended did not get a task, whatever its connection thinks.
func TestEndedProcessGetsNothing(t *testing.T) {
	r := newFixture(t)
	for i := range 5 {
		c := r.conn(t, "badhandler", "")
		err := give(t.Context(), c, request(fmt.Sprint("t", i), "none"), doomedPort{newPort(), c}, Hooks{})
		if !errors.As(err, new(*Unsent)) {
			t.Errorf("the task: %v", err)
		}
	}
}

// A task may be given to a process whose end is being cleaned up: it fails at once, and Close waits for all that has begun.
func TestDoBesideClose(t *testing.T) {
	r := newFixture(t)
	for range 10 {
		c, err := r.start(t, "badhandler", "")
		if err != nil {
			t.Fatal(err)
		}
		c.Kill()
		wait(t, c.Done(), "the end of the process")
		var released atomic.Int32
		var tasks sync.WaitGroup
		task := func(id string) *port {
			var f *dispatch.TaskFailure
			p := newPort()
			err := give(context.Background(), c, request(id, "none"), p, Hooks{Released: func(bool) { released.Add(1) }})
			if !errors.As(err, &f) || f.Kind != dispatch.HandlerCrash {
				t.Errorf("task beside Close: %v", err)
			}
			if u := (*Unsent)(nil); id == "after" && !errors.As(err, &u) {
				t.Errorf("task after Close: %T %v", err, err)
			}
			return p
		}
		const beside = 8
		for i := range beside {
			tasks.Go(func() { task(fmt.Sprint("beside", i)) })
		}
		c.Close()
		tasks.Wait()
		if p := task("after"); p.pid != 0 {
			t.Error("a call was begun after Close")
		}
		if n := released.Load(); n != beside+1 {
			t.Errorf("%d of %d tasks were released", n, beside+1)
		}
	}
}

// A task has one outcome, and its call is released once, whatever ends both at the same time: the handler, the end of the
// context, that of the process, or all three.
func TestOneOutcome(t *testing.T) {
	r := newFixture(t)
	r.Timeouts = Timeouts{ExitDrain: time.Millisecond, LetGo: 50 * time.Millisecond}
	for _, kind := range []wire.TaskKind{wire.Request, wire.Pipe} {
		for _, text := range []string{"none", "hang", "status-flood 100"} {
			c, err := r.start(t, "badhandler", "")
			if err != nil {
				t.Fatal(err)
			}
			const tasks = 40
			var done, released [tasks]atomic.Int32
			var open sync.WaitGroup
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			for i := range tasks {
				task := request(fmt.Sprint("t", i), text)
				task.Kind = kind
				open.Add(2)
				c.Start(ctx, task, keptPort{newPort()}, Hooks{
					Done:     func(error) { done[i].Add(1); open.Done() },
					Released: func(bool) { released[i].Add(1); open.Done() },
				})
				if i == tasks/2 {
					go c.Kill()
					go cancel()
				}
			}
			ended := make(chan struct{})
			go func() { defer close(ended); open.Wait() }()
			wait(t, ended, "the end of all tasks")
			c.Close() // whatever would come twice has come then
			for i := range tasks {
				if d, r := done[i].Load(), released[i].Load(); d != 1 || r != 1 {
					t.Errorf("%v %s: task %d was done %d times and released %d times", kind, text, i, d, r)
				}
			}
		}
	}
}

// A process that keeps a pipe task after its result has let go of the call, however long the task goes on.
func TestKeptTaskIsLetGo(t *testing.T) {
	t.Parallel()
	r := newFixture(t)
	r.Timeouts.LetGo = 3 * time.Second // also on a busy machine
	c := r.conn(t, "badhandler", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	task := request("kept", "none")
	task.Kind = wire.Pipe
	kept, outcome, tainted := make(chan struct{}), make(chan error, 1), make(chan bool, 1)
	c.Start(ctx, task, asksPort{keptPort{newPort()}, kept}, Hooks{
		Done: func(err error) { outcome <- err }, Released: func(taint bool) { tainted <- taint },
	})
	wait(t, kept, "the result")
	select {
	case err := <-outcome:
		t.Errorf("it ends with its result: %v", err)
	case taint := <-tainted:
		t.Errorf("it is released with its result: %v", taint)
	case <-time.After(2 * r.Timeouts.LetGo): // the handler has let go; a deadline that still ran would have passed
	}
	cancel()
	if err := <-outcome; err != nil {
		t.Errorf("its outcome is %v", err)
	}
	if <-tainted {
		t.Error("the process is taken for one that did not let go")
	}
}

// A handler is asked to end as soon as its task is given up, whatever else it still does.
func TestGivenUpAtOnce(t *testing.T) {
	r := newFixture(t)
	r.Timeouts.LetGo = patience
	c := r.conn(t, "badhandler", "")
	p := newPort()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	released, done := make(chan struct{}), make(chan struct{})
	c.Start(ctx, request("t", "hang"), p, Hooks{Done: func(error) { close(done) }, Released: func(bool) { close(released) }})
	wait(t, p.changed, "the task to run")
	used, leave := make(chan struct{}), make(chan struct{})
	var use sync.WaitGroup
	use.Go(func() {
		_ = c.host.lookup("t").use(context.Background(), func(context.Context, dispatch.TaskPort) error {
			close(used)
			<-leave
			return nil
		})
	})
	wait(t, used, "the port to be used")
	cancel()
	wait(t, released, "the handler to let go")
	close(leave)
	use.Wait()
	wait(t, done, "the outcome")
}

// A task that has ended before the process has it is not given to the handler, which would have to let go of it.
func TestEndedTaskIsNotGiven(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "badhandler", "minimal") // knows no cancellation
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, tainted := newPort(), make(chan bool, 1)
	err := give(ctx, c, request("t", "hang"), p, Hooks{Released: func(taint bool) { tainted <- taint }})
	var f *dispatch.TaskFailure
	if !errors.As(err, &f) || f.Kind != dispatch.CallEnded {
		t.Errorf("its outcome is %v", err)
	}
	if <-tainted || p.pid != 0 {
		t.Error("the handler had it")
	}
}

// endingPort ends its task as it is about to be given to the handler, which has other tasks meanwhile.
type endingPort struct {
	*port
	end       context.CancelFunc
	meanwhile func()
}

func (p endingPort) Dispatched(int) {
	p.end()
	p.meanwhile()
}

// The handler is not asked to end what it does not have yet: it would not always remember that.
func TestGivenUpBehindItsStart(t *testing.T) {
	r := newFixture(t)
	r.Timeouts.LetGo = patience
	c := r.conn(t, "badhandler", "")
	ctx, cancel := context.WithCancel(t.Context())
	tainted := make(chan bool, 1)
	err := give(ctx, c, request("t", "hang"), endingPort{newPort(), cancel, func() {
		for i := range 20 {
			do(t, c, fmt.Sprint("other", i), "none")
		}
	}}, Hooks{Released: func(taint bool) { tainted <- taint }})
	var f *dispatch.TaskFailure
	if !errors.As(err, &f) || f.Kind != dispatch.CallEnded {
		t.Errorf("its outcome is %v", err)
	}
	if <-tainted {
		t.Error("the handler was not asked to let go, or before it had the task")
	}
}

// asksPort says when it was asked whether its task goes on.
type asksPort struct {
	keptPort
	asked chan struct{}
}

func (p asksPort) Detached() bool {
	close(p.asked)
	return true
}

// keptPort is that of a pipe task that goes on after its result.
type keptPort struct{ *port }

func (keptPort) Detached() bool                  { return true }
func (keptPort) End(*dispatch.TaskFailure) error { return nil }
