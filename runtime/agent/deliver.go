package agent

import (
	"context"
	"errors"
	"net/http"

	"github.com/blocksd/blocksd/internal/retry"
	"github.com/blocksd/blocksd/network/backend"
	"github.com/blocksd/blocksd/network/link"
	"github.com/blocksd/blocksd/network/wire"
)

// delivery is a terminal event on its way to the network.
type delivery struct {
	taskID  string
	message link.Message
	// uncertain reports whether the network may have ended the task already: we did before a crash, or the network itself
	// did when it took us for lost.
	uncertain func() bool
}

// deliveryResult is what became of a delivery.
type deliveryResult int

const (
	// delivered: the network has a terminal event of the task.
	delivered deliveryResult = iota + 1
	// rejected: it will never take ours.
	rejected
	// interrupted: the agent stopped first.
	interrupted
	// elsewhere: another instance has the task, so the event was not published.
	elsewhere
)

// deliver publishes a terminal event for as long as it takes, without giving the task a second one: if the task may have
// one already, the network is asked first. That includes a publish that takes longer than the presence timeout, because by
// then the network may have taken the agent for lost.
func (a *Agent) deliver(ctx context.Context, s *session, d delivery) (deliveryResult, error) {
	for uncertain := d.uncertain(); ; uncertain = true {
		if uncertain {
			answer, err := a.askNetwork(ctx, s, d.message, d.taskID)
			if err != nil {
				return gaveUp(ctx), err
			}
			if answer.over {
				a.log.Info("the network has ended the task already, so its outcome is not published again", "task", wire.CutText(d.taskID, maxLoggedID))
				return delivered, nil
			}
			if answer.elsewhere {
				a.log.Info("the network gave the task to another instance meanwhile, so it is not ended here", "task", wire.CutText(d.taskID, maxLoggedID))
				return elsewhere, nil
			}
		}
		once, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Uncertain)
		_, err := s.link.Publish(once, d.message)
		late := once.Err() != nil
		cancel()
		switch {
		case err == nil:
			return delivered, nil
		case ctx.Err() != nil:
			return gaveUp(ctx), err
		case errors.Is(err, link.ErrClosed):
			return interrupted, err
		case !late:
			return rejected, err
		}
	}
}

// gaveUp is the result of a delivery whose context ended: by a deadline, that of its token, or by the end of the agent.
func gaveUp(ctx context.Context) deliveryResult {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return rejected
	}
	return interrupted
}

// taskStatus is what the network knows of a task.
type taskStatus struct {
	begun bool // an instance runs it or did
	over  bool // it has a terminal event
	// elsewhere: all that has begun it are other instances. Only the task's channel shows that.
	elsewhere bool
}

func (s taskStatus) taken() bool { return s.begun || s.over }

// askNetwork asks the network about a task: the task's channel with the write token, or else its table, which lags behind.
// Where neither may be read it knows nothing. It asks for as long as ctx lasts, which is the only error.
func (a *Agent) askNetwork(ctx context.Context, s *session, m link.Message, taskID string) (taskStatus, error) {
	for n := 1; ; n++ {
		answer, err := a.askOnce(ctx, s, m, taskID)
		if err == nil {
			return answer, nil
		}
		a.log.Debug("could not ask the network about a task, trying again", "task", wire.CutText(taskID, maxLoggedID), "err", err)
		if err := retry.Pause(ctx, a.cfg.backoff().Delay(n)); err != nil {
			return taskStatus{}, err
		}
	}
}

// askOnce returns an error when asking again may help.
func (a *Agent) askOnce(ctx context.Context, s *session, m link.Message, taskID string) (taskStatus, error) {
	once, cancel := context.WithTimeout(ctx, a.cfg.Timeouts.Connect)
	defer cancel()
	var answer taskStatus
	ours := false
	// From the newest back, because what follows a terminal event are at most some events that did not know of it.
	_, err := s.link.Search(once, m.Channel, m.Token, func(m link.Stored) bool {
		e, err := wire.DecodeEvent(m.Body)
		answer.over = answer.over || err == nil && e.Type == wire.EventTerminal
		if err == nil && (e.Type == wire.EventProgress || e.Type == wire.EventArtifact) {
			answer.begun = true
			ours = ours || m.Publisher == "" || m.Publisher == a.cfg.InstanceID || m.Publisher == a.formerID
		}
		return answer.over
	})
	answer.elsewhere = answer.begun && !ours
	if err == nil {
		return answer, nil
	}
	answer = taskStatus{}
	switch status(err) {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound:
	default:
		return answer, err
	}
	row, err := s.auth.GetTask(once, taskID)
	if err == nil {
		return taskStatus{begun: row.State == wire.Running, over: row.State.Final()}, nil
	}
	if final(err) {
		a.fail(err)
	}
	if failed := (*backend.Error)(nil); once.Err() != nil || errors.As(err, &failed) && failed.Temporary() {
		return answer, err
	}
	return answer, nil // it may not be read, or the network does not know it
}
