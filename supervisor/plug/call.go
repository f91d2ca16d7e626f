package plug

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
	handlerv1 "github.com/blocksd/blocksd/proto/blocks/handler/v1"
)

var errTaskEnded = errors.New("the task has ended")

// Hooks are called at the stages of a task. All but Done may be nil.
type Hooks struct {
	// Assigned is called when CancelTask knows the task, before the handler does. The task ends at once if it is false.
	Assigned func() bool
	// Done is called once, with the outcome of the task: nil, a *dispatch.TaskFailure, or an *Unsent with one. The port is not
	// used any more. It must not wait: the end of the call may come after it.
	Done func(error)
	// Released is called once, when the handler's call has ended or was cut off, perhaps after Done; taint is true when the
	// handler did not let go of the task by itself.
	Released func(taint bool)
}

func (h Hooks) released(taint bool) {
	if h.Released != nil {
		h.Released(taint)
	}
}

// Start gives a task to the process. It is done when the handler is done with it, for a pipe task when the task is over,
// when the process has ended, or when ctx has. One goroutine with a small stack waits for that: with thousands of tasks in
// flight, stacks are a third of the memory.
//
// A handler that goes on after ctx has ended is given LetGo to end its call, if it understands cancellation, before the
// call is cut off.
func (p *Conn) Start(ctx context.Context, task *wire.Task, port dispatch.TaskPort, hooks Hooks) {
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	// The call outlives ctx by LetGo at most, so it must not end with it.
	callCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k := &call{conn: p, task: task, a: newAssignment(port, endWork), hooks: hooks, cancel: cancel}
	k.a.cutOff = k.cutOff
	if !p.host.assign(task.ID, k.a) {
		cancel()
		endWork()
		hooks.released(false)
		hooks.Done(&dispatch.TaskFailure{Kind: dispatch.NoProcess, Public: publicTwice, Private: fmt.Sprintf("task %s was given to process %d twice", task.ID, p.PID())})
		return
	}
	if ctx.Err() != nil || hooks.Assigned != nil && !hooks.Assigned() {
		k.skip(&dispatch.TaskFailure{Kind: dispatch.CallEnded, Public: publicEnded, Private: fmt.Sprintf("task %s was canceled before handler %s had it", task.ID, p.config.Handler)})
		return
	}
	if !p.calls.begin() { // the process was picked just before its end
		k.skip(&Unsent{p.crash(task, "before it had")})
		return
	}
	growToSend()
	stop := context.AfterFunc(ctx, func() { k.giveUp(ctx) })
	go k.converse(ctx, work, k.open(callCtx), stop)
}

// skip ends a task that the handler has not had.
func (k *call) skip(err error) {
	close(k.a.started) // a CancelTask need not wait
	k.finish()
	k.hooks.released(false)
	k.decide(err)
}

// decide ends the task with its outcome, unless it has one.
func (k *call) decide(err error) {
	if k.first() {
		k.conclude(err)
	}
}

// first is true once, for whoever is to conclude the task.
func (k *call) first() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.decided
	k.decided = true
	return !before
}

// conclude waits for what still uses the port, and says the outcome.
func (k *call) conclude(err error) {
	k.a.end()
	k.conn.host.release(k.task.ID)
	k.hooks.Done(err)
}

// keep has the process keep a pipe task that goes on after its result, and reports whether that is one.
func (k *call) keep() (kept bool) {
	if k.task.Kind != wire.Pipe {
		return false
	}
	_ = k.a.own(func(port dispatch.TaskPort) error {
		if kept = port.Detached(); !kept {
			return nil
		}
		k.mu.Lock()
		k.answered = true
		k.mu.Unlock()
		if k.a.final {
			return port.End(nil) // an error means that it is over by itself
		}
		return nil
	})
	return kept
}

// await waits for the end of a pipe task that the process keeps: it fails with the process.
func (k *call) await(ctx context.Context) {
	p := k.conn
	select {
	case <-k.a.settled:
		return
	case <-p.Done():
	}
	if ctx.Err() != nil {
		k.decide(nil)
		return
	}
	failure := p.crash(k.task, "while it still had")
	p.explain(k.task, nil, failure)
	k.decide(failure)
}

// growToSend makes room for what a gRPC call needs at once. Without it the stack of a new goroutine is copied several times
// on the way down, which costs a trivial task a good part of its time.
//
//go:noinline
func growToSend() {
	var room [4 << 10]byte // makes a stack of twice the size
	runtime.KeepAlive(&room[0])
}

// growToWait makes room for no more than waiting for a message takes.
//
//go:noinline
func growToWait() {
	var room [2 << 10]byte
	runtime.KeepAlive(&room[0])
}

// call is one StartTask call.
type call struct {
	conn   *Conn
	task   *wire.Task
	a      *assignment
	hooks  Hooks
	cancel context.CancelFunc

	mu       sync.Mutex
	decided  bool // guarded by mu, like the fields below; the task has its outcome
	answered bool // the handler has answered, and the process keeps the task
	timer    *time.Timer
	patience time.Duration // of the timer
	busy     bool          // we are doing what the handler asked for, so the deadline does not apply
	overdue  bool          // the timer fired while we were busy
	finished bool
	cut      bool
}

// cutOff cancels the call after d, of waiting for the handler, unless it ends before; the shortest deadline counts.
func (k *call) cutOff(d time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.finished, k.timer != nil && k.patience <= d:
		return
	case k.timer != nil:
		k.patience = d
		k.timer.Reset(d)
		return
	}
	k.patience = d
	k.timer = time.AfterFunc(d, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.busy {
			k.overdue = true
			return
		}
		k.cut = !k.finished
		k.cancel()
	})
}

// work does what the handler has asked for, however long it takes. A deadline that passes meanwhile begins anew, because
// what the handler has sent behind is not read yet.
func (k *call) work(f func() error) error {
	k.mu.Lock()
	k.busy = true
	k.mu.Unlock()
	err := f()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.busy = false
	if k.overdue {
		k.overdue = false
		k.timer.Reset(k.patience)
	}
	return err
}

// finish reports whether the call had to be cut off.
func (k *call) finish() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.finished = true
	if k.timer != nil {
		k.timer.Stop()
	}
	k.cancel()
	return k.cut
}

// conversation is what a handler says in its call.
type conversation struct {
	stream grpc.ServerStreamingClient[handlerv1.StartTaskResponse]
	chunks assembler
	heard  int64 // messages
}

// open makes the call. It returns nil when that failed; then the task has its outcome.
func (k *call) open(ctx context.Context) *conversation {
	p, task, a := k.conn, k.task, k.a
	_ = a.own(func(port dispatch.TaskPort) error { port.Dispatched(p.PID()); return nil })
	if closed(p.Done()) { // the connection need not know that yet, and would seem to take the request
		close(a.started)
		k.decide(&Unsent{p.crash(task, "before it had")})
		return nil
	}
	stream, err := p.client.StartTask(ctx, &handlerv1.StartTaskRequest{Task: message(task)})
	close(a.started)
	if err != nil {
		err = p.unsent(task, err)
		p.explain(task, a, err)
		k.decide(err)
		return nil
	}
	return &conversation{stream: stream, chunks: assembler{limit: p.config.MaxArtifactBytes, handler: p.config.Spool}}
}

// converse reads the handler's messages until the call has ended. What the call asks for is done with work, which ends with
// the task.
func (k *call) converse(ctx, work context.Context, c *conversation, stop func() bool) {
	growToWait()
	kept := false
	if c != nil {
		more, over, err := k.hear(work, c)
		if more {
			// The next message may take hours, and a stack that has grown for this one does not shrink.
			go k.converse(ctx, work, c, stop)
			return
		}
		c.chunks.close()
		kept = k.answer(c, over, err)
	}
	taint := k.finish()
	if kept {
		k.await(ctx)
	}
	stop()
	if k.task.Kind == wire.Pipe {
		<-k.a.settled // the process may have it beyond the call
	}
	k.hooks.released(taint)
	k.conn.calls.end()
}

// answer gives the task its outcome, unless the process keeps it, and waits for the end of the call; over says that it has
// ended.
func (k *call) answer(c *conversation, over bool, err error) (kept bool) {
	k.conn.explain(k.task, k.a, err)
	kept = err == nil && k.keep()
	if !kept {
		k.decide(err)
	}
	if !over {
		// Whatever follows the final message is ignored; the end of the call shows that the handler has let go.
		k.cutOff(k.conn.timeouts.LetGo)
		for err = nil; err == nil; {
			_, err = c.stream.Recv()
		}
	}
	return kept
}

// hear reads the handler's messages up to a status, behind which there are more, or until the outcome is known; over says
// that the call has ended with it. What the handler has sent is published whatever becomes of the call: only the end of the
// task stops that.
func (k *call) hear(work context.Context, c *conversation) (more, over bool, err error) {
	p, task, a := k.conn, k.task, k.a
	for {
		a.hear(c.heard)
		m, err := c.stream.Recv()
		c.heard++
		if err != nil {
			return false, true, p.broken(task, err)
		}
		switch e := m.GetEvent().(type) {
		case *handlerv1.StartTaskResponse_Status:
			_ = a.own(func(port dispatch.TaskPort) error { port.Status(foreign(e.Status, maxReason)); return nil })
			return true, false, nil
		case *handlerv1.StartTaskResponse_Artifact:
			artifact, err := c.chunks.add(e.Artifact)
			if err != nil {
				return false, false, p.refused(task, err)
			}
			if artifact == nil {
				continue
			}
			err = k.work(func() error {
				return a.own(func(port dispatch.TaskPort) error { return port.Artifact(work, *artifact) })
			})
			if err != nil && !errors.Is(err, errTaskEnded) {
				return false, false, &dispatch.TaskFailure{
					Kind: dispatch.HandlerError, Public: publicArtifact,
					Private: fmt.Sprintf("publish an artifact of task %s: %v", task.ID, err),
				}
			}
		case *handlerv1.StartTaskResponse_Result:
			if c.chunks.open {
				return false, false, p.refused(task, errors.New("the last chunk of an artifact is missing"))
			}
			a.final = e.Result.GetFinal()
			return false, false, nil
		case *handlerv1.StartTaskResponse_Error:
			return false, false, handlerFailure(e.Error)
		}
		// Any other event comes from a newer SDK; the contract lets us ignore it.
	}
}
