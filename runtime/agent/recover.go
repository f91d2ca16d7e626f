package agent

import (
	"context"
	"errors"
	"time"

	"github.com/blocksd/blocksd/event"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
	"github.com/blocksd/blocksd/runtime/journal"
)

// lostText is what a consumer reads of a task that was running when the daemon ended without being asked to.
const lostText = "The agent was restarted while it worked on the task, so the task was not finished."

// maxRecovering bounds how many outcomes from before a restart are on their way at the same time.
const maxRecovering = 32

// recoverTasks publishes the outcomes of the tasks that were open when the agent ended: the recorded one, or that the
// task was lost. It does not wait.
func (a *Agent) recoverTasks(s *session) {
	a.mu.Lock()
	open := make([]*journal.Entry, 0, len(a.tasks.recovering))
	for _, e := range a.tasks.recovering {
		open = append(open, e)
	}
	a.mu.Unlock()
	if len(open) == 0 {
		return
	}
	a.log.Info("publishing the outcomes of tasks from before the restart", "tasks", len(open))
	turn := make(chan struct{}, maxRecovering)
	for _, e := range open {
		a.work.Go(func() {
			ctx, end := s.work()
			defer end()
			select {
			case turn <- struct{}{}:
				a.recoverTask(ctx, s, e)
				<-turn
			case <-ctx.Done():
			}
		})
	}
}

func (a *Agent) recoverTask(ctx context.Context, s *session, e *journal.Entry) {
	log := a.log.With("task", wire.CutText(e.Task.ID, maxLoggedID))
	c, err := wire.DecodeControl(e.Task.Message, nil)
	if bad := (*wire.StartTaskError)(nil); c.Start == nil || err != nil && !errors.As(err, &bad) {
		// It was read once, so another version of this program wrote it.
		log.Error("a task from before the restart cannot be read; the network will end it by itself", "err", err)
		a.recovered(e, wire.Terminal{State: wire.Failed, Error: lostText}, rejected)
		return
	}
	if mode := e.Task.BillingMode; mode.Valid() && mode != s.mode { // the agent has moved since
		if s, err = a.sessionOf(mode, s); err != nil {
			log.Error("the outcome of a task from before the restart cannot be published; it will be tried at the next start", "err", err)
			return
		}
	}
	var outcome wire.Terminal
	if e.Outcome != nil {
		outcome = *e.Outcome
	} else {
		outcome = wire.Terminal{State: wire.Failed, Error: lostText}
		durable := make(chan struct{})
		e.Decide(outcome, func(error) { close(durable) }) // published all the same if it cannot be recorded
		select {
		case <-durable:
		case <-ctx.Done():
			return
		}
		a.emitEnded(event.Event{TaskID: e.Task.ID, Duration: a.cfg.Now().Sub(e.Task.Accepted)}, outcome)
	}
	if len(e.Task.Streams) > 0 {
		a.endLostStreams(ctx, s, e.Task)
	}
	// A token that should have expired is tried all the same: only the network knows how long it is really good.
	left := max(e.Task.Accepted.Add(a.cfg.Timeouts.WriteToken).Sub(a.cfg.Now()), a.cfg.Timeouts.Refusal)
	ctx, cancel := context.WithTimeout(ctx, min(left, a.cfg.Timeouts.WriteToken))
	defer cancel()
	result, err := a.deliver(ctx, s, delivery{
		taskID: e.Task.ID,
		message: link.Message{
			Channel: wire.TaskChannel(c.Start.Task.OrgID, e.Task.ID), Token: c.Start.WriteToken,
			Meta: wire.EventMeta(a.name(), e.Task.ID, outcome.Version), Body: wire.TerminalEvent(e.Task.ID, outcome), Store: true,
		},
		uncertain: func() bool { return true },
	})
	switch result {
	case delivered:
		log.Info("a task from before the restart has its outcome", "state", outcome.State)
	case rejected:
		log.Error("the outcome of a task from before the restart could not be published; the network will end the task by itself", "err", err)
	case interrupted:
		return // the next start
	case elsewhere:
		e.Drop()
		a.countDelivery(e.Task.ID, true)
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.tasks.recovering, e.Task.ID)
		return
	}
	a.recovered(e, outcome, result)
}

// recovered forgets a task from before the restart and remembers its outcome.
func (a *Agent) recovered(e *journal.Entry, outcome wire.Terminal, result deliveryResult) {
	now := a.cfg.Now()
	e.Finish(journal.Finished{ID: e.Task.ID, Outcome: outcome, At: now.Truncate(time.Second)})
	a.countDelivery(e.Task.ID, result == delivered)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.tasks.recovering, e.Task.ID)
	a.tasks.finished.store(e.Task.ID, outcome, now)
}
