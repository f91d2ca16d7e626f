// Package journal keeps on disk what must survive a crash of the daemon: each accepted task with its tokens, the outcome
// of each task until the network has acknowledged it, the outcomes of the last hour, and of each agent its instance id
// and how far it has read its control channel.
//
// Nobody waits for the disk: what is to be kept is posted, and a function is called once it is durable. One goroutine
// writes. While it writes, more is posted; it all goes to disk together with the next write, so that any number of
// tasks share the cost of one. What is posted becomes durable in its order, never a later post without an earlier one. It
// goes to a log first, and from there to the store: log.go, checkpoint.go and store.go say how.
//
// The clock is injected: Config.Now is what records are dated and forgotten by. Waits for the disk are real.
package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// FileName is the name of the journal in its directory. LogName is what belongs to it.
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

	// OnCommit, if it is not nil, is told how long each write to the disk took.
	OnCommit func(took time.Duration)

	Log      *slog.Logger // nil to discard
	Now      func() time.Time
	Timeouts Timeouts
	// OpenFile opens the files; nil for os.OpenFile. It is for tests of disks that fail.
	OpenFile func(string, int, os.FileMode) (*os.File, error)
	// mapBytes is how much address space the file gets at first, and how large it is, mostly unused and taking no room;
	// growing takes a moment each time it doubles. Smaller in tests, which copy it.
	mapBytes int
	// logBytes is the size of the log.
	logBytes int64
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

// ErrUnusable matches the errors of a journal that stays useless until somebody changes something: it is damaged, another
// program's, or its key is missing, wrong or open to others.
var ErrUnusable = errors.New("the journal cannot be used as it is")

// unusable makes err match ErrUnusable without another word.
func unusable(err error) error { return unusableError{err} }

type unusableError struct{ error }

func (e unusableError) Unwrap() error        { return e.error }
func (e unusableError) Is(target error) bool { return target == ErrUnusable }

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
	mu     sync.Mutex
	inbox  inbox
	closed bool
	agents map[string]*AgentJournal
	health error
	change chan struct{} // closes when health changes
}

// inbox is what the owner is to write. Journal.mu guards it.
type inbox struct {
	queue []post
	dirty map[*AgentJournal]struct{} // agents whose cursor has moved since the last write
	// flushTimer fires for what nobody waits for, while armed.
	flushTimer *time.Timer
	armed      bool
}

// post is something to write, or to read, in its order.
type post struct {
	kind    postKind
	agent   *AgentJournal
	entry   *Entry
	task    Task     // of an acceptance and an update
	done    Finished // of a task that is finished; its Outcome also of a decision
	text    string   // of an instance id
	read    func(*view) error
	durable func(error) // may be nil
}

type postKind int

const (
	accepted postKind = iota + 1
	updated
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
	if cfg.logBytes == 0 {
		cfg.logBytes = 2 << 20
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
		inbox: inbox{dirty: map[*AgentJournal]struct{}{}}, agents: map[string]*AgentJournal{}, change: make(chan struct{}),
	}
	var err error
	if j.store, err = openStore(cfg, j.path); err != nil {
		return nil, fmt.Errorf("open journal %s: %w", j.path, err)
	}
	j.inbox.flushTimer = time.AfterFunc(time.Hour, j.wakeOwner)
	j.inbox.flushTimer.Stop()
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
	j.inbox.flushTimer.Stop()
	err := j.store.finish()
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
	j.inbox.queue = append(j.inbox.queue, p)
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
	if !j.inbox.armed {
		j.inbox.armed = true
		j.inbox.flushTimer.Reset(j.cfg.Timeouts.FlushDelay)
	}
}

// wakeOwner wakes the owner. It never blocks.
func (j *Journal) wakeOwner() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}
