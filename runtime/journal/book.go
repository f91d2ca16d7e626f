package journal

import (
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
}

// Finished is a task whose outcome the network has acknowledged, or that was given up.
type Finished struct {
	ID      string
	Outcome wire.Terminal
	// At is kept to the second.
	At time.Time
}

// Book is the part of a journal that belongs to one agent. Its methods are safe for concurrent use; those that write do
// not wait.
type Book struct {
	journal *Journal
	name    string

	// What follows is guarded by the lock of the journal.
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

// Entry is one task in a book, from its acceptance until it is settled.
type Entry struct {
	Task Task
	// Outcome is what was recorded before the journal was opened, nil for none. It says nothing about later decisions.
	Outcome *wire.Terminal

	book   *Book
	number uint64
	// void: the acceptance could not be written. It belongs to the owner goroutine.
	void bool
}

// Book returns the book of an agent, a new one if there is none. It reads from the disk.
func (j *Journal) Book(agent string) (*Book, error) {
	if agent == "" || strings.Contains(agent, "/") {
		return nil, fmt.Errorf("open the book of agent %q: that is no name of an agent", agent)
	}
	j.mu.Lock()
	b := j.books[agent]
	j.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b = &Book{journal: j, name: agent}
	var r bookRecord
	err := b.read(func(v *view) (err error) {
		r, err = v.book()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the book of agent %s in journal %s: %w", agent, j.path, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if other := j.books[agent]; other != nil {
		return other, nil
	}
	b.id, b.cursor, b.last = r.instance, r.cursor, r.last
	j.books[agent] = b
	return b, nil
}

// read has the owner read, after all that was posted before.
func (b *Book) read(f func(*view) error) error {
	answer := make(chan error, 1)
	if !b.journal.post(post{kind: reading, book: b, read: f, durable: func(err error) { answer <- err }}) {
		return ErrClosed
	}
	return <-answer
}

// InstanceID returns the instance id that was recorded last, empty for none.
func (b *Book) InstanceID() string {
	b.journal.mu.Lock()
	defer b.journal.mu.Unlock()
	return b.id
}

// SetInstanceID records an instance id.
func (b *Book) SetInstanceID(id string) {
	b.journal.mu.Lock()
	same := b.id == id
	b.id = id
	b.journal.mu.Unlock()
	if !same {
		b.journal.post(post{kind: instance, book: b, text: id, durable: func(error) {}})
	}
}

// Cursor returns how far the channel was read, empty if that is not known.
func (b *Book) Cursor(channel string) string {
	b.journal.mu.Lock()
	defer b.journal.mu.Unlock()
	if b.cursor.channel != channel {
		return ""
	}
	return b.cursor.timetoken
}

// SetCursor records that everything on the channel up to the timetoken was dealt with. It becomes durable some time
// later, and never before the acceptances that were posted before it.
func (b *Book) SetCursor(channel, timetoken string) {
	j := b.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	b.cursor = cursor{channel, timetoken}
	if !j.closed {
		j.dirty[b] = struct{}{}
		j.lingerOn()
	}
}

// Open returns the tasks that were accepted and not settled, oldest first. It reads from the disk.
func (b *Book) Open() ([]*Entry, error) {
	var entries []*Entry
	err := b.read(func(v *view) error {
		records, err := v.tasks()
		for _, r := range records {
			entries = append(entries, &Entry{Task: r.task, Outcome: r.outcome, book: b, number: r.number})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the open tasks of agent %s from journal %s: %w", b.name, b.journal.path, err)
	}
	return entries, nil
}

// Finished returns the tasks that ended within the time that they are remembered, oldest first. It reads from the disk.
func (b *Book) Finished() ([]Finished, error) {
	var all []Finished
	oldest := b.journal.cfg.Now().Add(-b.journal.cfg.Remember)
	err := b.read(func(v *view) error {
		return v.finished(func(f Finished) {
			if f.At.After(oldest) {
				all = append(all, f)
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read the finished tasks of agent %s from journal %s: %w", b.name, b.journal.path, err)
	}
	return all, nil
}

// Accept records a task. durable is called once, from another goroutine, when the record is on the disk, or with the
// reason why it will not be; it must not block. After an error the entry is void: the task must not be begun, and what
// is posted about it is dropped.
func (b *Book) Accept(t Task, durable func(error)) *Entry {
	j := b.journal
	j.mu.Lock()
	b.last++
	e := &Entry{book: b, number: b.last}
	j.mu.Unlock()
	if !j.post(post{kind: accepted, book: b, entry: e, task: t, durable: durable}) && durable != nil {
		go durable(ErrClosed)
	}
	return e
}

// Note records what the outcome of a task is to be if the daemon ends before it is decided: that of a task which was
// asked to end. It becomes durable some time later, at once after Hurry. Entry.Outcome shows it after a restart; a later
// Note, or Decide, takes its place.
func (e *Entry) Note(o wire.Terminal) {
	e.book.journal.post(post{kind: decided, book: e.book, entry: e, done: Finished{Outcome: o}})
}

// Hurry has the journal write now what was posted, because it should not become durable some time later only. It does not
// wait.
func (e *Entry) Hurry() { e.book.journal.rouse() }

// Decide records the outcome of a task. durable is called as by Accept; after an error the outcome is still written as
// soon as that is possible, unless the daemon ends before.
func (e *Entry) Decide(o wire.Terminal, durable func(error)) {
	p := post{kind: decided, book: e.book, entry: e, done: Finished{Outcome: o}, durable: durable}
	if !e.book.journal.post(p) && durable != nil {
		go durable(ErrClosed)
	}
}

// Drop forgets the task, as if it had never been accepted. It becomes durable some time later.
func (e *Entry) Drop() {
	e.book.journal.post(post{kind: dropped, book: e.book, entry: e})
}

// Settle records that the network has the outcome, or that it was given up, and moves the task to the finished ones. It
// becomes durable some time later.
func (e *Entry) Settle(f Finished) {
	e.book.journal.post(post{kind: settled, book: e.book, entry: e, done: f})
}
