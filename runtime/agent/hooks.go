package agent

import (
	"fmt"
	"runtime/debug"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// Hooks tell a program that embeds an agent what becomes of its tasks; each may be nil. They watch and decide nothing.
// They are called in goroutines of the task's own, at the same time for different tasks, and outside of every lock, so
// they may block and may call the agent. When the agent stops it waits for them as it does for calls of a handler. A
// panic is logged and does no harm.
type Hooks struct {
	// OnStart is called before the handler is given the task, which waits for it.
	OnStart func(task *wire.Task)
	// OnCancel is called once the handler was told to end the task. A task that is canceled before its handler is called
	// has nobody to tell.
	OnCancel func(taskID string, reason dispatch.CancelReason)
	// OnError is called after the network has the terminal event of a task that failed. err is the handler's own, a
	// *dispatch.TaskFailure, or what the consumer reads where the handler did not fail, say because the task took too long.
	// Tasks that were lost with an earlier run of the program, and tasks that were refused, are not reported.
	OnError func(taskID string, err error)
}

// hook calls a hook and keeps a panic to itself.
func (j *job) hook(name string, call func()) {
	defer func() {
		if p := recover(); p != nil {
			j.log.Error("a hook panicked", "hook", name, "err", fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	call()
}

func (j *job) onStart() {
	if f := j.agent.cfg.Hooks.OnStart; f != nil {
		j.hook("OnStart", func() { f(&j.task) })
	}
}

func (j *job) onCancel(reason dispatch.CancelReason) {
	if f := j.agent.cfg.Hooks.OnCancel; f != nil {
		j.hook("OnCancel", func() { f(j.task.ID, reason) })
	}
}

func (j *job) onError(err error) {
	if f := j.agent.cfg.Hooks.OnError; f != nil {
		j.hook("OnError", func() { f(j.task.ID, err) })
	}
}
