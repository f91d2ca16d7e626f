package agent

import (
	"context"
	"net/http"
	"time"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
)

// maxRefusing bounds the answers on their way to tasks that were not accepted, so that a flood during an outage costs
// bounded memory. What is over it is left to the network, which ends tasks that nobody answers.
const maxRefusing = 1024

// refuse answers a task that is not accepted and remembers the answer: a terminal event is an outcome, so the task must
// not be run when it is delivered again, also not after a restart.
func (a *Agent) refuse(s *session, o order, t wire.Terminal) {
	a.mu.Lock()
	a.counts.Refused++
	a.tasks.finished.store(o.start.Task.ID, t, a.cfg.Now())
	a.mu.Unlock()
	a.emitRefused(o.start.Task.ID, t)
	var record func(durable func(error)) *journal.Entry
	if a.journal != nil {
		record = func(durable func(error)) *journal.Entry {
			e := a.journal.Accept(a.entryOf(s, o.start.Task.ID, o.received), nil)
			e.Decide(t, durable)
			return e
		}
	}
	a.answer(s, o, t, record)
}

// answer publishes the outcome of a task that is not in flight, after record has made it durable. A nil record means that
// the outcome is an old one, of a task that was delivered again. It does not wait.
func (a *Agent) answer(s *session, o order, t wire.Terminal, record func(durable func(error)) *journal.Entry) {
	a.mu.Lock()
	if a.tasks.refusing >= maxRefusing {
		held, ok := a.throttle.allow("refusing", a.cfg.Now())
		a.mu.Unlock()
		if ok {
			a.log.Error("too many answers to refused tasks are on their way, leaving this one to the network", "more_like_it", held)
		}
		return
	}
	a.tasks.refusing++
	a.mu.Unlock()

	durable := make(chan struct{})
	var entry *journal.Entry
	if record != nil {
		entry = record(func(error) { close(durable) }) // what cannot be recorded is answered all the same
	} else {
		close(durable)
	}
	a.work.Go(func() {
		<-durable
		life, end := s.work()
		defer end()
		ctx, cancel := context.WithTimeout(life, a.cfg.Timeouts.Refusal)
		defer cancel()
		err := a.publishAnswer(ctx, s, o, t, record == nil)
		if err != nil {
			a.log.Error("the answer to a task that was not accepted could not be published", "task", wire.CutText(o.start.Task.ID, maxLoggedID), "err", err)
		}
		if entry != nil && life.Err() == nil {
			entry.Finish(journal.Finished{ID: o.start.Task.ID, Outcome: t, At: a.cfg.Now()})
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.tasks.refusing--
		if err != nil {
			a.counts.Undelivered++
		}
		a.checkIdleLocked()
	})
}

// publishAnswer publishes the answer, unless the network says that it is not needed. Where the network may not be asked an
// old outcome is published once more: consumers keep the first.
func (a *Agent) publishAnswer(ctx context.Context, s *session, o order, t wire.Terminal, old bool) error {
	start := o.start
	m := link.Message{
		Channel: wire.TaskChannel(start.Task.OrgID, start.Task.ID),
		Token:   start.WriteToken,
		Meta:    wire.EventMeta(a.name(), start.Task.ID, t.Version),
		Body:    wire.TerminalEvent(start.Task.ID, t),
		Store:   true,
	}
	if o.broadcast { // every instance has the same to say: the first that does speaks for all
		if wait := time.Duration(a.cfg.Jitter() * float64(a.cfg.Timeouts.Spread)); retry.Pause(ctx, wait) != nil {
			return ctx.Err()
		}
	}
	if old || o.late || o.broadcast {
		answer, err := a.askNetwork(ctx, s, m, start.Task.ID)
		// An old outcome needs no second copy; where it is new another instance may have the task, and our answer would be
		// its end.
		if err != nil || answer.over || answer.begun && !old {
			return err
		}
	}
	_, err := s.link.Publish(ctx, m)
	if m.Token != "" && status(err) == http.StatusForbidden {
		m.Token = "" // the control channel's
		_, err = s.link.Publish(ctx, m)
	}
	return err
}
