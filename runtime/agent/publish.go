package agent

import (
	"context"
	"errors"

	"github.com/blocksd/blocksd/runtime/journal"
)

// publish sends one event, for as long as it takes. Only the terminal is missed when it is refused: whoever reads the
// task's channel waits for it.
func (j *job) publish(ctx context.Context, o outgoing) {
	if o.last {
		j.publishTerminal(ctx, o.body)
		return
	}
	if err := j.publishEvent(ctx, o.body); err != nil && !errors.Is(err, errTaskOver) {
		j.log.Warn("event could not be published", "channel", j.channel.name, "err", err)
	}
}

func (j *job) publishTerminal(ctx context.Context, body []byte) {
	a := j.agent
	result, err := a.deliver(ctx, j.session, delivery{taskID: j.task.ID, message: j.message(body), uncertain: j.isUncertain})
	switch {
	case result == interrupted && j.entry != nil:
		j.log.Warn("the outcome of the task is not published yet; it will be at the next start", "channel", j.channel.name, "err", err)
	case result == rejected || result == interrupted:
		j.log.Error("the outcome of the task could not be published; the network will end the task by itself", "channel", j.channel.name, "err", err)
	}
	switch {
	case j.entry == nil || result == interrupted:
	case result == elsewhere:
		j.entry.Drop()
	default:
		j.mu.Lock()
		outcome := j.machine.Outcome()
		j.mu.Unlock()
		j.entry.Finish(journal.Finished{ID: j.task.ID, Outcome: outcome, At: a.cfg.Now()})
	}
	decided := a.countDelivery(j.task.ID, result == delivered || result == elsewhere)
	if result == delivered {
		j.meterDelivery(decided)
	}
}

// publishEvent publishes an event that is not the terminal. Like the terminal, it asks the network first when uncertain:
// nothing may follow a terminal event that the network published itself.
func (j *job) publishEvent(ctx context.Context, body []byte) error {
	if err := j.checkOpen(ctx, j.isUncertain()); err != nil {
		return err
	}
	m := j.message(body)
	began := j.agent.cfg.Now()
	m.Again = func(ctx context.Context) error {
		return j.checkOpen(ctx, j.isUncertainSince(began))
	}
	timetoken, err := j.session.link.Publish(ctx, m)
	if err == nil {
		j.channel.newest = timetoken
	}
	return err
}
