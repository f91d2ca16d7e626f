package journal

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The owner goroutine. It shares with those who post what take empties, and nothing else.

// own is the owner goroutine: the only one that touches the store.
func (j *Journal) own() {
	defer close(j.ended)
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	for {
		select {
		case <-j.wake:
			j.work()
		case <-retry.C:
			j.repair()
		case <-j.stop:
			j.work()
			if _, why := j.Health(); why != nil {
				j.repair()
			}
			return
		}
		if _, why := j.Health(); why != nil && !j.gaveUp {
			retry.Reset(j.cfg.Timeouts.Retry)
		}
	}
}

// work writes all that is queued in one go, answers the posters, and then does what is to be read.
func (j *Journal) work() {
	b, reads := j.take()
	_, unhealthy := j.Health()
	tried := unhealthy == nil && (!b.empty() || b.whole && !j.store.pending.empty())
	if tried {
		unhealthy = j.write(b)
	}
	if unhealthy != nil {
		j.keepUnwritten(b, tried)
	}
	answer(b.posts, unhealthy)
	j.read(reads)
}

// take empties the queue. Cursors are taken in the same step, so that none is ahead of what was posted before it.
func (j *Journal) take() (b batch, reads []post) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b.posts = j.inbox.queue
	j.inbox.queue = nil
	for _, p := range b.posts {
		if p.kind == reading {
			reads = append(reads, p)
		}
	}
	if b.whole = len(reads) > 0; b.whole {
		b.posts = slices.DeleteFunc(b.posts, func(p post) bool { return p.kind == reading })
	}
	for agent := range j.inbox.dirty {
		b.cursors = append(b.cursors, cursorOf{agent, agent.cursor})
	}
	clear(j.inbox.dirty)
	j.inbox.armed = false
	j.inbox.flushTimer.Stop()
	return b, reads
}

func answer(posts []post, err error) {
	for _, p := range posts {
		if p.durable != nil {
			p.durable(err)
		}
	}
}

func (j *Journal) read(reads []post) {
	for _, p := range reads {
		p.durable(j.store.view(p.agent.name, p.read))
	}
}

// write gives b to the store. An error is what Health says from then on.
func (j *Journal) write(b batch) error {
	began := j.cfg.Now()
	err := j.store.commit(b)
	if j.cfg.OnCommit != nil {
		j.cfg.OnCommit(j.cfg.Now().Sub(began))
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, errBroken) {
		return j.giveUp(err)
	}
	err = fmt.Errorf("write journal %s: %w: no new tasks are taken until it can be written: free space on its disk or repair it", j.path, err)
	j.setHealth(err)
	return err
}

// keepUnwritten keeps what could not be written. An acceptance is not kept, because its task is refused now; if the write
// was tried, it may have reached the disk all the same, and is to be removed. Nothing else of such a task is kept, so that
// refused tasks take no memory, however many there are.
func (j *Journal) keepUnwritten(b batch, tried bool) {
	for _, p := range b.posts {
		p.durable = nil
		switch {
		case p.kind == accepted:
			p.entry.void = true
			if tried {
				j.unwritten = append(j.unwritten, post{kind: dropped, agent: p.agent, entry: p.entry})
			}
		case p.kind == updated: // by then it would say what is over
		case p.entry == nil || !p.entry.void:
			j.unwritten = append(j.unwritten, p)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range b.cursors {
		j.inbox.dirty[c.agent] = struct{}{} // its newest cursor is written with the rest
	}
}

// repair tries to write what is unwritten. The file is opened again first: after a failed write nobody knows which part of
// it is on the disk and which in the memory of the kernel.
func (j *Journal) repair() {
	if j.gaveUp {
		return
	}
	err := j.store.reopen()
	if err == nil {
		b, reads := j.take()
		all := b
		all.posts, all.probe = slices.Concat(j.unwritten, b.posts), true
		if err = j.store.commit(all); err != nil {
			j.keepUnwritten(b, true)
			_, unhealthy := j.Health()
			answer(b.posts, unhealthy)
		} else {
			j.unwritten = nil
			answer(b.posts, nil)
			if err = j.store.commit(batch{}); err == nil { // gives the room of the probe free
				j.setHealth(nil)
			}
		}
		j.read(reads)
	}
	if err != nil {
		j.log.Debug("journal still cannot be written", "err", err)
		if errors.Is(err, errBroken) {
			j.giveUp(err)
		}
	}
}

// giveUp stops trying to write.
func (j *Journal) giveUp(err error) error {
	j.gaveUp = true
	err = fmt.Errorf("write journal %s: %w: no new tasks are taken: see the operator's manual on a damaged journal, then restart", j.path, err)
	j.setHealth(err)
	return err
}
