package agent

import (
	"context"
	"errors"
	"net/http"

	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// maxRefusing bounds the answers on their way to tasks that were not accepted, so that a flood during an outage costs
// bounded memory. What is over it is left to the network, which ends tasks that nobody answers.
const maxRefusing = 1024

// refuse answers a task that is not accepted and remembers the answer: a terminal event is an outcome, so the task must
// not be run when it is delivered again.
func (a *Agent) refuse(s *session, start *wire.StartTask, t wire.Terminal) {
	a.mu.Lock()
	a.counts.Refused++
	a.finished.store(start.Task.ID, t, a.cfg.Now())
	a.mu.Unlock()
	a.answer(s, start, t)
}

// answer publishes the outcome of a task that is not in flight. It does not wait.
func (a *Agent) answer(s *session, start *wire.StartTask, t wire.Terminal) {
	a.mu.Lock()
	if a.refusing >= maxRefusing {
		held, ok := a.quiet.allow("refusing", a.cfg.Now())
		a.mu.Unlock()
		if ok {
			a.log.Error("too many answers to refused tasks are on their way, leaving this one to the network", "more_like_it", held)
		}
		return
	}
	a.refusing++
	a.mu.Unlock()

	a.work.Go(func() {
		life, end := s.work()
		defer end()
		ctx, cancel := context.WithTimeout(life, a.cfg.Timeouts.Refusal)
		defer cancel()
		m := link.Message{
			Channel: wire.TaskChannel(start.Task.OrgID, start.Task.ID),
			Token:   start.WriteToken,
			Meta:    wire.EventMeta(a.name, start.Task.ID, t.Version),
			Body:    wire.TerminalEvent(start.Task.ID, t),
			Store:   true,
		}
		_, err := s.link.Publish(ctx, m)
		if m.Token != "" && status(err) == http.StatusForbidden {
			m.Token = "" // the control channel's
			_, err = s.link.Publish(ctx, m)
		}
		if err != nil {
			a.log.Error("the answer to a task that was not accepted could not be published", "task", wire.CutText(start.Task.ID, maxLoggedID), "err", err)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.refusing--
		if err != nil {
			a.counts.Undelivered++
		}
		a.checkIdle()
	})
}

// status returns the HTTP status with which the network refused a publish, 0 for any other error and for none.
func status(err error) int {
	var refusal *link.StatusError
	if errors.As(err, &refusal) {
		return refusal.Status
	}
	return 0
}
