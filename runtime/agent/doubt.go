package agent

import (
	"context"
	"sync/atomic"
	"time"
)

// doubt of a task: whether the network may have ended it by itself, because the connection was lost for a while. An
// answer of the network settles what was in doubt when it was asked, so that a task which goes on asks once and not
// before each event.
type doubt struct {
	raised  atomic.Int64 // how often there was a reason
	cleared atomic.Int64 // the value of raised up to which all is settled
	settled atomic.Int64 // when that was asked, or the task accepted; Unix time in ns
}

// raise notes a reason.
func (d *doubt) raise() { d.raised.Add(1) }

// awareAfter is how long after a reconnect the network is taken to know that the instance is there again. Until then it
// may still end the task, so an answer settles nothing.
const awareAfter = time.Second

// doubtful reports whether the network may have ended the task by itself.
func (j *job) doubtful() bool {
	if j.doubt.raised.Load() != j.doubt.cleared.Load() {
		return true
	}
	j.agent.mu.Lock()
	presence := j.agent.presence
	j.agent.mu.Unlock()
	return presence != nil && presence.LapsedSince(time.Unix(0, j.doubt.settled.Load()))
}

// doubtfulSince is doubtful of something that has been tried since began: if that is long ago, the network may have taken
// us for lost.
func (j *job) doubtfulSince(began time.Time) bool {
	return j.doubtful() || j.agent.cfg.Now().Sub(began) >= j.agent.cfg.Timeouts.Doubt
}

// stillOpen returns errTaskOver when in doubt the network says that the task has its terminal.
func (j *job) stillOpen(ctx context.Context, doubt bool) error {
	if !doubt {
		return nil
	}
	known, err := j.ask(ctx)
	if err == nil && known.over {
		err = errTaskOver
	}
	return err
}

// ask asks the network about the task, which settles the doubt if the network sees the instance.
func (j *job) ask(ctx context.Context) (standing, error) {
	a := j.agent
	raised, at := j.doubt.raised.Load(), time.Now()
	a.mu.Lock()
	aware := a.connected && at.Sub(a.connectedAt) >= awareAfter
	a.mu.Unlock()
	known, err := a.ask(ctx, j.session, j.message(nil), j.task.ID)
	if err == nil && aware {
		j.doubt.cleared.Store(raised)
		j.doubt.settled.Store(at.UnixNano())
	}
	return known, err
}
