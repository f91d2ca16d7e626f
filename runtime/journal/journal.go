// Package journal keeps on disk what must survive a crash of the daemon: each accepted task with its tokens, the outcome
// of each task until the network has acknowledged it, the outcomes of the last hour, and of each agent its instance id
// and how far it has read its control channel.
//
// Nobody waits for the disk: what is to be kept is posted, and a function is called once it is durable. One goroutine
// writes. While it writes, more is posted; it all goes to disk together with the next write, so that any number of
// tasks share the cost of one. What is posted becomes durable in its order, never a later post without an earlier one.
package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// FileName is the name of the journal in its directory.
const FileName = "journal.db"

// Config of a Journal. Dir and Secret are required.
type Config struct {
	// Dir is the state directory; the journal and nothing else of this package is in it.
	Dir string
	// Secret seals the records; see the function Secret.
	Secret []byte
	// Remember is how long outcomes are kept after the network has acknowledged them; MaxRemembered bounds their number
	// for each agent. Defaults 1 h and 65,536.
	Remember      time.Duration
	MaxRemembered int

	Log      *slog.Logger // nil to discard
	Now      func() time.Time
	Timeouts Timeouts
	// OpenFile opens the file; nil for os.OpenFile. It is for tests of disks that fail.
	OpenFile func(string, int, os.FileMode) (*os.File, error)
	// mapBytes is how much address space the file gets at first, and how large it is, mostly unused and taking no room;
	// growing takes a moment each time it doubles. Smaller in tests, which copy it.
	mapBytes int
}

// Timeouts bound the waits of a journal; a zero member takes the default.
type Timeouts struct {
	// Lock is how long Open waits for another process that has the journal open. Default 5 s.
	Lock time.Duration
	// FlushDelay is how long what nobody waits for may stay unwritten. Default 200 ms.
	FlushDelay time.Duration
	// Retry is how long after a failed write the next one is tried. Default 2 s.
	Retry time.Duration
}

// ErrClosed is what posts after Close are answered with.
var ErrClosed = errors.New("the journal is closed")

// Journal is an open journal. Its methods are safe for concurrent use and never wait for the disk, except Open, Close
// and the methods of AgentJournal that read.
type Journal struct {
	cfg  Config
	path string
	log  *slog.Logger

	// wake wakes the owner; it holds at most one wake-up. stop closes when it shall end, ended when it has.
	wake, stop, ended chan struct{}

	// What follows up to mu belongs to the owner goroutine.
	store *store
	// unwritten are posts that failed once and whose posters know it. They are written when that is possible again.
	unwritten []post
	// gaveUp: no further write is tried.
	gaveUp bool

	// mu guards what follows. It is never held over I/O.
	mu         sync.Mutex
	queue      []post
	dirty      map[*AgentJournal]struct{} // agents whose cursor has moved since the last write
	flushTimer *time.Timer                // fires for posts that nobody waits for
	armed      bool
	closed     bool
	agents     map[string]*AgentJournal
	health     error
	change     chan struct{} // closes when health changes
}

// post is something to write, or to read, in its order.
type post struct {
	kind    postKind
	agent   *AgentJournal
	entry   *Entry
	task    Task     // of an acceptance
	done    Finished // of a task that is finished; its Outcome also of a decision
	text    string   // of an instance id
	read    func(*view) error
	durable func(error) // may be nil
}

type postKind int

const (
	accepted postKind = iota + 1
	decided
	finished
	dropped
	instance
	reading
)

// Open opens the journal in its directory, or makes one, and checks every record in it. An error is a sentence for the
// operator; the file is then as it was.
func Open(cfg Config) (*Journal, error) {
	if cfg.Dir == "" || len(cfg.Secret) < minSecretBytes {
		return nil, errors.New("open the journal: a directory and a key of 32 bytes are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OpenFile == nil {
		cfg.OpenFile = os.OpenFile
	}
	if cfg.mapBytes == 0 {
		cfg.mapBytes = 16 << 20
	}
	if cfg.MaxRemembered <= 0 {
		cfg.MaxRemembered = 1 << 16
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&cfg.Remember, time.Hour}, {&cfg.Timeouts.Lock, 5 * time.Second}, {&cfg.Timeouts.FlushDelay, 200 * time.Millisecond},
		{&cfg.Timeouts.Retry, 2 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.fallback
		}
	}
	j := &Journal{
		cfg: cfg, path: filepath.Join(cfg.Dir, FileName), log: cfg.Log,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{}),
		dirty: map[*AgentJournal]struct{}{}, agents: map[string]*AgentJournal{}, change: make(chan struct{}),
	}
	var err error
	if j.store, err = openStore(cfg, j.path); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", j.path, err)
	}
	j.flushTimer = time.AfterFunc(time.Hour, j.wakeOwner)
	j.flushTimer.Stop()
	go j.own()
	return j, nil
}

// Close writes what was posted, as far as that is possible, and closes the file. Later posts are answered with
// ErrClosed.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		<-j.ended
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	close(j.stop)
	<-j.ended
	j.flushTimer.Stop()
	err := j.store.close()
	if _, why := j.Health(); why != nil {
		err = errors.Join(why, err)
	}
	if err != nil {
		return fmt.Errorf("close journal %s: %w", j.path, err)
	}
	return nil
}

// Health returns as why nil while the journal can be written, else one sentence that says why not. The channel closes at
// the next change.
func (j *Journal) Health() (changed <-chan struct{}, why error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.change, j.health
}

// setHealth is called by the owner.
func (j *Journal) setHealth(why error) {
	j.mu.Lock()
	same := (why == nil) == (j.health == nil) && (why == nil || why.Error() == j.health.Error())
	if !same {
		j.health = why
		close(j.change)
		j.change = make(chan struct{})
	}
	j.mu.Unlock()
	if same {
		return
	}
	if why != nil {
		j.log.Error("journal cannot be written", "err", why)
	} else {
		j.log.Info("journal can be written again", "path", j.path)
	}
}

// post queues p. It reports false, and does nothing, when the journal is closed.
func (j *Journal) post(p post) bool {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return false
	}
	j.queue = append(j.queue, p)
	if p.durable == nil && p.kind != reading {
		j.scheduleFlushLocked()
		j.mu.Unlock()
		return true
	}
	j.mu.Unlock()
	j.wakeOwner()
	return true
}

// postOrAnswer queues p, and answers it at once when the journal is closed.
func (j *Journal) postOrAnswer(p post) {
	if !j.post(p) && p.durable != nil {
		p.durable(ErrClosed)
	}
}

// scheduleFlushLocked has the owner write soon.
func (j *Journal) scheduleFlushLocked() {
	if !j.armed {
		j.armed = true
		j.flushTimer.Reset(j.cfg.Timeouts.FlushDelay)
	}
}

// wakeOwner wakes the owner. It never blocks.
func (j *Journal) wakeOwner() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

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
	tried := unhealthy == nil && !b.empty()
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
	b.posts = j.queue
	j.queue = nil
	for _, p := range b.posts {
		if p.kind == reading {
			reads = append(reads, p)
		}
	}
	if len(reads) > 0 {
		b.posts = slices.DeleteFunc(b.posts, func(p post) bool { return p.kind == reading })
	}
	for agent := range j.dirty {
		b.cursors = append(b.cursors, cursorOf{agent, agent.cursor})
	}
	clear(j.dirty)
	j.armed = false
	j.flushTimer.Stop()
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
	err := j.store.commit(b)
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

// keepUnwritten keeps what could not be written. An acceptance is not kept, because its task is refused now; in case that it did
// reach the disk, where that was tried, it is to be removed. Nothing else of such a task is kept: so the tasks that are
// refused, of which there can be any number, take no memory.
func (j *Journal) keepUnwritten(b batch, tried bool) {
	for _, p := range b.posts {
		p.durable = nil
		switch {
		case p.kind == accepted:
			p.entry.void = true
			if tried {
				j.unwritten = append(j.unwritten, post{kind: dropped, agent: p.agent, entry: p.entry})
			}
		case p.entry == nil || !p.entry.void:
			j.unwritten = append(j.unwritten, p)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range b.cursors {
		j.dirty[c.agent] = struct{}{} // its newest cursor is written with the rest
	}
}

// repair tries to write what is unwritten. The file is opened anew first: after a failed write nobody knows what of it is in
// the memory of the system and what on the disk.
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

// giveUp gives the journal up.
func (j *Journal) giveUp(err error) error {
	j.gaveUp = true
	err = fmt.Errorf("write journal %s: %w: no new tasks are taken: see the operator's manual on a damaged journal, then restart", j.path, err)
	j.setHealth(err)
	return err
}
