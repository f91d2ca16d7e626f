package calls

import (
	"context"
	"errors"
	"time"

	"github.com/blocksd/blocksd/client"
	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/internal/retry"
)

// settleTimeout is how long a task that may have been sent is looked for.
const settleTimeout = time.Minute

// settleBackoff is the pause between two attempts.
var settleBackoff = retry.Backoff{First: time.Second, Max: 10 * time.Second}

// unclear is a call whose answer was lost: the task may run, and nobody knows its id.
type unclear struct {
	task     *Task
	err      *client.UnclearError
	detached bool
	release  func() // of the credentials
}

// inDoubt takes care of a call that has failed. The task that it may have sent is canceled: at once, unless the handler may
// call again with the same key, which finds it; else at the end of the calling task.
func (t *Task) inDoubt(r dispatch.CallRequest, err error, release func()) {
	lost, ok := errors.AsType[*client.UnclearError](err)
	if !ok {
		release()
		return
	}
	u := &unclear{t, lost, r.Detached, release}
	key := r.IdempotencyKey
	t.mu.Lock()
	keep := key != "" && !t.ended
	var before *unclear
	if keep {
		if t.unclear == nil {
			t.unclear = map[string]*unclear{}
		}
		before = t.unclear[key]
		t.unclear[key] = u
	}
	t.mu.Unlock()
	if before != nil {
		before.release() // it is the same task
	}
	if !keep {
		u.detached = u.detached && key != "" // without a key nobody will ever know of it
		u.settle()
	}
}

// clear: a call with this key has an answer.
func (t *Task) clear(key string) {
	t.mu.Lock()
	u := t.unclear[key]
	delete(t.unclear, key)
	t.mu.Unlock()
	if u != nil {
		u.release()
	}
}

// settle cancels the task if there is one, in the background, unless it is detached.
func (u *unclear) settle() {
	if u.detached || !u.task.pool.background(u.cancel) {
		u.release()
	}
}

func (u *unclear) cancel() {
	defer u.release()
	p := u.task.pool
	over := time.Now().Add(settleTimeout)
	for n := 1; ; n++ {
		ctx, stop := context.WithTimeout(context.Background(), cancelTimeout)
		err := u.err.Cancel(ctx)
		stop()
		if err == nil {
			return
		}
		var temporary interface{ Temporary() bool }
		again := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &temporary) && temporary.Temporary()
		if again && time.Now().Before(over) && p.pause(settleBackoff.Delay(n)) {
			continue
		}
		p.cfg.Log.Warn("a task may run that was sent for another one, because the answer was lost and it cannot be found", "agent", u.err.Agent, "for", u.task.id, "err", err)
		return
	}
}

// pause waits, and is false when Close ends the wait.
func (p *Pool) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.closing:
		return false
	}
}
