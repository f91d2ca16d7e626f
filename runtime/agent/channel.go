package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/blocksd/blocksd/network/link"
)

// taskChannel is where the events of a task are published.
type taskChannel struct {
	name, token string // the token allows to write
	meta        []byte
	outbox      queue
	// begun closes when the first event has been sent, or never will be.
	begun chan struct{}
	// abandonArtifacts ends the publishing of artifacts; release frees all contexts of the job.
	abandonArtifacts, release context.CancelFunc

	// newest is the timetoken of the last event that was published, uploads the file ids of the artifacts that were
	// uploaded. Only what the outbox sends touches them, one at a time.
	newest  string
	uploads []string
}

func (j *job) message(body []byte) link.Message {
	return link.Message{Channel: j.channel.name, Token: j.channel.token, Meta: j.channel.meta, Body: body, Store: true}
}

// uncertain says of a task whether the network may have ended it by itself, because the connection was lost for a while.
// An answer of the network clears what was uncertain when it was asked, so that a task which goes on asks once and not
// before each event.
type uncertain struct {
	raised  atomic.Int64 // how often there was a reason
	cleared atomic.Int64 // the value of raised up to which all is clear
	askedAt atomic.Int64 // when that was asked, or the task accepted; Unix time in ns
}

// raise notes a reason.
func (u *uncertain) raise() { u.raised.Add(1) }

// errTaskOver answers what comes after the task's outcome was decided, here or by the network.
var errTaskOver = errors.New("the task is over")

// isUncertain reports whether the network may have ended the task by itself.
func (j *job) isUncertain() bool {
	if j.uncertain.raised.Load() != j.uncertain.cleared.Load() {
		return true
	}
	j.agent.mu.Lock()
	presence := j.agent.conn.presence
	j.agent.mu.Unlock()
	return presence != nil && presence.LapsedSince(time.Unix(0, j.uncertain.askedAt.Load()))
}

// isUncertainSince is isUncertain about something that has been tried since began: if that is long ago, the network may
// have taken us for lost.
func (j *job) isUncertainSince(began time.Time) bool {
	return j.isUncertain() || j.agent.cfg.Now().Sub(began) >= j.agent.cfg.Timeouts.Uncertain
}

// checkOpen asks the network, if it is uncertain whether the task still runs, and returns errTaskOver if it does not.
func (j *job) checkOpen(ctx context.Context, uncertain bool) error {
	if !uncertain {
		return nil
	}
	known, err := j.askNetwork(ctx)
	if err == nil && known.over {
		err = errTaskOver
	}
	return err
}

// askNetwork asks the network about the task, which clears the uncertainty if the network sees the instance.
func (j *job) askNetwork(ctx context.Context) (taskStatus, error) {
	a := j.agent
	raised, at := j.uncertain.raised.Load(), a.cfg.Now()
	a.mu.Lock()
	aware := a.life.Aware(at)
	a.mu.Unlock()
	known, err := a.askNetwork(ctx, j.session, j.message(nil), j.task.ID)
	if err == nil && aware {
		j.uncertain.cleared.Store(raised)
		j.uncertain.askedAt.Store(at.UnixNano())
	}
	return known, err
}
