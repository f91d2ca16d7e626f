package journal

import "github.com/blocksd/blocksd/network/wire"

// Entry is one task of an agent, from its acceptance until the network has its outcome.
type Entry struct {
	Task Task
	// Outcome is what was recorded before the journal was opened, nil for none. It says nothing about later decisions.
	Outcome *wire.Terminal

	agent  *AgentJournal
	number uint64
	// void: the acceptance could not be written. It belongs to the owner goroutine.
	void bool
}

// Note records what the outcome of a task is to be if the daemon ends before it is decided: that of a task which was
// asked to end. It becomes durable some time later, at once after Flush. Entry.Outcome shows it after a restart; a later
// Note, or Decide, takes its place.
func (e *Entry) Note(o wire.Terminal) {
	e.agent.journal.post(post{kind: decided, agent: e.agent, entry: e, done: Finished{Outcome: o}})
}

// Update records the task as it is now, with its streams. durable is called as by Accept, and may be nil: then it becomes
// durable some time later. What cannot be written is not written later either.
func (e *Entry) Update(t Task, durable func(error)) {
	e.agent.journal.postOrAnswer(post{kind: updated, agent: e.agent, entry: e, task: t, durable: durable})
}

// Flush has the journal write now what was posted. It does not wait.
func (e *Entry) Flush() { e.agent.journal.wakeOwner() }

// Decide records the outcome of a task. durable is called as by Accept; after an error the outcome is still written as
// soon as that is possible, unless the daemon ends before.
func (e *Entry) Decide(o wire.Terminal, durable func(error)) {
	e.agent.journal.postOrAnswer(post{kind: decided, agent: e.agent, entry: e, done: Finished{Outcome: o}, durable: durable})
}

// Drop forgets the task, as if it had never been accepted. It becomes durable some time later.
func (e *Entry) Drop() {
	e.agent.journal.post(post{kind: dropped, agent: e.agent, entry: e})
}

// Finish records that the network has the outcome, or that it was given up, and moves the task to the finished ones. It
// becomes durable some time later.
func (e *Entry) Finish(f Finished) {
	e.agent.journal.post(post{kind: finished, agent: e.agent, entry: e, done: f})
}
