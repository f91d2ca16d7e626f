package agent

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
	"github.com/blocksd/blocksd/runtime/task"
)

// This file is what an agent does with its book in the journal. Without one everything works the same, but a crash loses
// the outcomes of the tasks in flight, what was sent meanwhile, and which tasks were done already.

// remember takes from the book what the agent was before it was restarted. It is part of New.
func (a *Agent) remember(book *journal.Book) error {
	if book == nil {
		return nil
	}
	a.book, a.formerID = book, book.InstanceID()
	book.SetInstanceID(a.cfg.InstanceID)
	finished, err := book.Finished()
	if err != nil {
		return err
	}
	for _, f := range finished {
		a.finished.store(f.ID, f.Outcome, f.At)
	}
	open, err := book.Open()
	if err != nil {
		return err
	}
	for _, e := range open {
		a.recovering[e.Task.ID] = e
	}
	a.counts.Outbox = int64(len(open))
	return nil
}

// openBook returns the agent's book, nil without a journal, and the instance id in it.
func (c *Config) openBook() (*journal.Book, error) {
	if c.Journal == nil {
		return nil, nil
	}
	book, err := c.Journal.Book(c.Card.AgentName)
	if err != nil {
		return nil, fmt.Errorf("serve agent %s: %w", c.Card.AgentName, err)
	}
	if c.InstanceID == "" {
		c.InstanceID = book.InstanceID()
	}
	return book, nil
}

// illness says why the journal cannot take tasks, nil if it can; the channel closes when that changes and is nil when it
// never does.
func (a *Agent) illness() (changed <-chan struct{}, why error) {
	if a.book == nil {
		return nil, nil
	}
	return a.cfg.Journal.Health()
}

func (a *Agent) ill() error {
	_, err := a.illness()
	return err
}

// entryOf is a task that came through s as the journal keeps it.
func (a *Agent) entryOf(s *session, id string, r link.Received) journal.Task {
	return journal.Task{ID: id, Message: r.Body, Timetoken: r.Timetoken, BillingMode: s.mode, Accepted: a.cfg.Now()}
}

// dealtWith notes that everything on the control channel up to r needs no second look after a restart. Whatever r led
// to was given to the journal before.
func (a *Agent) dealtWith(r link.Received) {
	if a.book != nil {
		a.book.SetCursor(r.Channel, r.Timetoken)
	}
}

// resume returns where to begin to read the control channel: where the agent was before it was restarted, or now. Now is
// asked for and noted, so that a crash before the first message loses nothing either.
func (a *Agent) resume(ctx context.Context, s *session, channel string) string {
	if a.book == nil {
		return ""
	}
	a.mu.Lock()
	first := !a.resumed
	a.resumed = true
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
	defer cancel()
	before := a.cfg.Now()
	now, err := s.link.Time(ctx)
	if err == nil {
		// Before the first message, which may be an old one.
		if offset, err := clockOffset(now, before, a.cfg.Now()); err == nil {
			a.mu.Lock()
			a.clockOffset = offset
			a.mu.Unlock()
		}
	}
	if first {
		if cursor := a.book.Cursor(channel); cursor != "" {
			if v, err := strconv.ParseInt(now, 10, 64); err == nil {
				a.mu.Lock()
				a.resumedAt = v
				a.mu.Unlock()
			}
			a.log.Info("reading the control channel on from where it was left", "channel", channel, "cursor", cursor)
			return cursor
		}
	}
	if err != nil {
		a.log.Warn("the network's time could not be read, so a crash before the next message may lose messages", "err", err)
		return ""
	}
	a.book.SetCursor(channel, now)
	return now
}

// late reports whether a message was sent so long ago that the network may have taken us for lost since, or before the
// agent was restarted: when it left in order, the network gave what it had not begun to others at once.
func (a *Agent) late(r link.Received) bool {
	sent, err := strconv.ParseInt(r.Timetoken, 10, 64) // of 100 ns
	a.mu.Lock()
	now, resumedAt := a.cfg.Now().Add(a.clockOffset), a.resumedAt
	a.mu.Unlock()
	return err == nil && (sent < resumedAt || now.Sub(time.Unix(0, 0).Add(time.Duration(sent)*100)) > a.cfg.Timeouts.Late)
}

// record has the acceptance made durable; the task begins then. mu is held.
func (j *job) record() {
	a := j.agent
	j.entry = a.book.Accept(a.entryOf(j.session, j.task.ID, j.order.received), func(err error) {
		a.work.Go(func() { // the journal must not wait for what follows
			if err != nil {
				if j.withdraw() {
					j.log.Warn("StartTask refused", "reason", wire.ReasonAtCapacity, "err", err, "broadcast", j.order.broadcast)
					if !j.order.broadcast { // another instance may take it
						a.refuse(j.session, j.order, wire.Terminal{State: wire.Failed, Error: wire.ReasonAtCapacity})
					}
				}
				return
			}
			j.startUnlessTaken()
		})
	})
}

// startUnlessTaken starts the job, unless its order is an old one and the network says that another instance took the
// task: it would be done twice.
func (j *job) startUnlessTaken() {
	if j.order.late {
		life, end := j.session.work()
		defer end()
		s, err := j.ask(life)
		if err != nil {
			return // the agent ended; the next start asks whose it is
		}
		if s.taken() && j.withdraw() {
			j.log.Info("an old StartTask is left alone: the network gave the task to another instance meanwhile")
			if j.entry != nil {
				j.entry.Drop()
			}
			return
		}
	}
	j.start()
}

// withdraw takes an acceptance back before the task begins. It reports false when the task has its outcome already,
// because it was canceled.
func (j *job) withdraw() bool {
	j.mu.Lock()
	if j.machine.Phase() != task.Waiting {
		j.mu.Unlock()
		return false
	}
	j.withdrawn = true
	j.mu.Unlock()
	a := j.agent
	j.finish()
	a.freeSlot()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts.Accepted--
	delete(a.jobs, j.task.ID)
	a.checkIdle()
	return true
}

// conclude publishes the outcome once it is durable, so that after a crash the daemon says the same again. When it cannot
// be made durable it is published all the same: waiting would lose more. mu is held.
func (j *job) conclude(t wire.Terminal) {
	j.emitAcceptedLocked()
	last := outgoing{body: wire.TerminalEvent(j.task.ID, t), last: true}
	publish := func(error) {
		j.emitEnded(t)
		j.outbox.put(last)
	}
	if j.entry == nil {
		publish(nil)
		return
	}
	j.entry.Decide(t, publish)
}
