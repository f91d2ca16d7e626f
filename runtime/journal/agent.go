package journal

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// Task is an accepted task.
type Task struct {
	ID string
	// Message is the StartTask as it was received, with its tokens.
	Message []byte
	// Timetoken is that of the message on the control channel.
	Timetoken string
	// BillingMode names the environment that the task is in, which need not be that of the agent any more. Empty if it was
	// accepted by a version that did not note it.
	BillingMode wire.BillingMode
	// Accepted is kept to the millisecond.
	Accepted time.Time
	// Streams are the live streams of the task that are open and whose readers wait for a mark of the end.
	Streams []Stream
}

// Stream is a live stream that the task has open.
type Stream struct {
	ID      string
	Channel string
	Format  wire.StreamFormat
	// UserID is who writes it, Token what permits that.
	UserID, Token string
}

// Finished is a task whose outcome the network has acknowledged, or that was given up.
type Finished struct {
	ID      string
	Outcome wire.Terminal
	// At is kept to the second.
	At time.Time
}

// AgentJournal is the part of a journal that belongs to one agent. Its methods are safe for concurrent use; those that
// write do not wait.
type AgentJournal struct {
	journal *Journal
	name    string

	// Journal.mu guards what follows.
	id     string
	cursor cursor
	last   uint64 // number of the newest task
}

// cursor is how far a control channel has been read.
type cursor struct{ channel, timetoken string }

// record is a task as it was read.
type record struct {
	number  uint64
	task    Task
	outcome *wire.Terminal
}

// Agent returns the part of an agent, a new one if there is none. It reads from the disk.
func (j *Journal) Agent(name string) (*AgentJournal, error) {
	if name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("open the journal of agent %q: an agent cannot have this name", name)
	}
	j.mu.Lock()
	a := j.agents[name]
	j.mu.Unlock()
	if a != nil {
		return a, nil
	}
	a = &AgentJournal{journal: j, name: name}
	var r agentRecord
	err := a.read(func(v *view) (err error) {
		r, err = v.record()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the part of agent %s in journal %s: %w", name, j.path, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if other := j.agents[name]; other != nil {
		return other, nil
	}
	a.id, a.cursor, a.last = r.instance, r.cursor, r.last
	j.agents[name] = a
	return a, nil
}

// read has the owner read, after all that was posted before.
func (a *AgentJournal) read(f func(*view) error) error {
	answer := make(chan error, 1)
	if !a.journal.post(post{kind: reading, agent: a, read: f, durable: func(err error) { answer <- err }}) {
		return ErrClosed
	}
	return <-answer
}

// InstanceID returns the instance id that was recorded last, empty for none.
func (a *AgentJournal) InstanceID() string {
	a.journal.mu.Lock()
	defer a.journal.mu.Unlock()
	return a.id
}

// SetInstanceID records an instance id.
func (a *AgentJournal) SetInstanceID(id string) {
	a.journal.mu.Lock()
	same := a.id == id
	a.id = id
	a.journal.mu.Unlock()
	if !same {
		a.journal.post(post{kind: instance, agent: a, text: id, durable: func(error) {}})
	}
}

// Cursor returns how far the channel was read, empty if that is not known.
func (a *AgentJournal) Cursor(channel string) string {
	a.journal.mu.Lock()
	defer a.journal.mu.Unlock()
	if a.cursor.channel != channel {
		return ""
	}
	return a.cursor.timetoken
}

// SetCursor records that everything on the channel up to the timetoken was dealt with. It becomes durable some time
// later, and never before the acceptances that were posted before it.
func (a *AgentJournal) SetCursor(channel, timetoken string) {
	j := a.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	a.cursor = cursor{channel, timetoken}
	if !j.closed {
		j.inbox.dirty[a] = struct{}{}
		j.scheduleFlushLocked()
	}
}

// RecordCursor is SetCursor for what has to be durable: it returns when the cursor is on the disk, or why it is not, at the
// latest with ctx.
func (a *AgentJournal) RecordCursor(ctx context.Context, channel, timetoken string) error {
	a.SetCursor(channel, timetoken)
	written := make(chan error, 1)
	// Any post that is waited for takes the cursors along.
	a.journal.postOrAnswer(post{kind: instance, agent: a, text: a.InstanceID(), durable: func(err error) { written <- err }})
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return fmt.Errorf("record the position of agent %s in its control channel: %w", a.name, context.Cause(ctx))
	}
}

// Open returns the tasks that were accepted and have not finished, oldest first. It reads from the disk.
func (a *AgentJournal) Open() ([]*Entry, error) {
	var entries []*Entry
	err := a.read(func(v *view) error {
		records, err := v.tasks()
		for _, r := range records {
			entries = append(entries, &Entry{Task: r.task, Outcome: r.outcome, agent: a, number: r.number})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the open tasks of agent %s from journal %s: %w", a.name, a.journal.path, err)
	}
	return entries, nil
}

// Finished returns the tasks that ended within the time that they are remembered, oldest first. It reads from the disk.
func (a *AgentJournal) Finished() ([]Finished, error) {
	var all []Finished
	oldest := a.journal.cfg.Now().Add(-a.journal.cfg.Remember)
	err := a.read(func(v *view) error {
		return v.finished(func(f Finished) {
			if f.At.After(oldest) {
				all = append(all, f)
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the finished tasks of agent %s from journal %s: %w", a.name, a.journal.path, err)
	}
	return all, nil
}

// Accept records a task. durable is called once, when the record is on the disk, or with the reason why it will not be:
// by the journal's goroutine, or before Accept returns when the journal is closed. It must not block, and must not need a
// lock that the caller of Accept holds. After an error the entry is void: the task must not be begun, and what is posted
// about it is dropped.
func (a *AgentJournal) Accept(t Task, durable func(error)) *Entry {
	j := a.journal
	j.mu.Lock()
	a.last++
	e := &Entry{agent: a, number: a.last}
	j.mu.Unlock()
	j.postOrAnswer(post{kind: accepted, agent: a, entry: e, task: t, durable: durable})
	return e
}
