package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The buckets. A journal has "journal" with the form of the file, a record that only the right key opens and the state of
// the log, and "agents" with one bucket for each agent:
//
//	agents/NAME           "instance" and "cursor"
//	agents/NAME/tasks     number → accepted task
//	agents/NAME/outcomes  number of the task → its outcome, until the network has it
//	agents/NAME/finished  number → when (seconds), then the id and the outcome of a task that is over
var (
	bucketJournal  = []byte("journal")
	bucketAgents   = []byte("agents")
	bucketTasks    = []byte("tasks")
	bucketOutcomes = []byte("outcomes")
	bucketFinished = []byte("finished")

	keyForm     = []byte("form")
	keyCheck    = []byte("check")
	keyProbe    = []byte("probe")
	keyLog      = []byte("log")
	keyInstance = []byte("instance")
	keyCursor   = []byte("cursor")
)

const (
	form  = "blocksd journal 1"
	check = "this record opens with the right key"
)

// probeBytes is how much room there must be before a journal that could not be written counts as writable again. It
// stays in the file as free room.
const probeBytes = 256 << 10

var (
	// errBroken marks damage in the file, as opposed to a disk that cannot be written.
	errBroken  = errors.New("the file is damaged")
	errNotOpen = errors.New("the file could not be opened again")
	errBehind  = errors.New("what was written last is not where it could be read yet, because the disk takes nothing")
	errForeign = errors.New("it is not a journal of this program")
)

// store is the file and its log. Only the owner goroutine uses it, after Open.
type store struct {
	cfg  Config
	path string
	db   *bolt.DB
	seal *sealer
	log  *logFile // nil when db is
	// pending is what only the log has; begun are the places of acceptances in it.
	pending batch
	begun   map[taskKey]int
	frame   []byte // of the last batch, before it was sealed
	// counts of finished tasks by agent, to bound them.
	finished map[string]int
	commits  int
}

// batch is what one commit writes.
type batch struct {
	posts   []post
	cursors []cursorOf
	// probe has the commit fail unless there is some room on the disk.
	probe bool
	// whole has everything go to the store, which alone is read.
	whole bool
}

type cursorOf struct {
	agent  *AgentJournal
	cursor cursor
}

func openStore(cfg Config, path string) (*store, error) {
	s := &store{cfg: cfg, path: path}
	var err error
	if s.seal, err = newSealer(cfg.Secret); err != nil {
		return nil, err
	}
	if err := s.reopen(); err != nil {
		return nil, err
	}
	if err := closeToOthers(cfg, path); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// closeToOthers corrects the mode of a file that others than its owner may read or write.
func closeToOthers(cfg Config, path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	cfg.Log.Warn("the journal was open to others than its owner; its mode was corrected", "path", path)
	return os.Chmod(path, 0o600)
}

// reopen closes the file, if it is open, and opens it, with a check of all that is in it.
func (s *store) reopen() error {
	if err := s.close(); err != nil {
		return err
	}
	info, err := os.Stat(s.path)
	isNew := errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0
	err = guard(func() (err error) {
		if err = verify(s.path); err != nil {
			return err
		}
		s.db, err = bolt.Open(s.path, 0o600, &bolt.Options{
			Timeout: s.cfg.Timeouts.Lock, FreelistType: bolt.FreelistMapType, InitialMmapSize: s.cfg.mapBytes, NoStatistics: true, OpenFile: s.cfg.OpenFile,
		})
		return err
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return errors.New("another process has it open: end that one, or use another state directory")
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return unusable(fmt.Errorf("%w: %w: move it away to start without the tasks in it", errBroken, err))
	case errors.Is(err, errBroken):
		s.db = nil // after a panic what it holds cannot be given back
		return unusable(fmt.Errorf("%w: move it away to start without the tasks in it", err))
	case err != nil:
		if isNew { // half of a file, on a full disk, would be taken for a damaged one
			_ = os.Remove(s.path)
		}
		return fmt.Errorf("%w: make it readable and writable for this user, or free space on its disk", bare(err))
	}
	if err = guard(s.prepare); err == nil {
		err = s.recover()
	}
	if err != nil {
		if errors.Is(err, errBroken) && !errors.Is(err, ErrUnusable) {
			err = unusable(fmt.Errorf("%w: move %s and %s away to start without the tasks in them", err, FileName, LogName))
		}
		return errors.Join(err, s.close())
	}
	return nil
}

// prepare makes the buckets of a new file and reads all of an old one.
func (s *store) prepare() error {
	s.finished = map[string]int{}
	var isNew bool
	if err := s.db.View(func(tx *bolt.Tx) error {
		k, _ := tx.Cursor().First()
		isNew = k == nil
		return nil
	}); err != nil {
		return err
	}
	if isNew {
		return s.db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucket(bucketJournal)
			if err != nil {
				return err
			}
			_, err = tx.CreateBucket(bucketAgents)
			return errors.Join(err, b.Put(keyForm, []byte(form)), b.Put(keyCheck, s.seal.seal(keyCheck, []byte(check))))
		})
	}
	return s.db.View(func(tx *bolt.Tx) error {
		b, agents := tx.Bucket(bucketJournal), tx.Bucket(bucketAgents)
		if b == nil || agents == nil || string(b.Get(keyForm)) != form {
			return unusable(fmt.Errorf("%w: move it away, or use another state directory", errForeign))
		}
		if plain, err := s.seal.open(keyCheck, b.Get(keyCheck)); err != nil || string(plain) != check {
			return unusable(errors.New("it was written with another key, or is damaged: put the key back, or move the journal away to start without the tasks in it"))
		}
		return agents.ForEachBucket(func(name []byte) error {
			v := &view{s, string(name), agents.Bucket(name)}
			_, err := v.record()
			if err == nil {
				_, err = v.tasks()
			}
			if err == nil {
				err = v.finished(func(Finished) { s.finished[v.agent]++ })
			}
			if err != nil {
				return unusable(fmt.Errorf("the records of agent %s: %w: move the journal away to start without the tasks in it", name, err))
			}
			return nil
		})
	})
}

// close closes the files as they are.
func (s *store) close() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.close())
		s.log = nil
	}
	s.pending, s.begun = batch{}, nil
	if db := s.db; db != nil {
		s.db = nil
		errs = append(errs, guard(db.Close))
	}
	return errors.Join(errs...)
}

// finish moves what is in the log into the store and closes both. What cannot be moved stays in the log.
func (s *store) finish() error {
	if s.db != nil {
		if err := s.checkpoint(batch{}, false); err != nil {
			s.cfg.Log.Debug("what is in the journal's log could not be moved; the next start does it", "err", err)
		}
	}
	return s.close()
}

func (b batch) empty() bool { return len(b.posts) == 0 && len(b.cursors) == 0 }

// view has f read the records of an agent, after a whole commit.
func (s *store) view(agent string, f func(*view) error) error {
	if s.db == nil {
		return errNotOpen
	}
	if !s.pending.empty() {
		return errBehind
	}
	return guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error { return f(&view{s, agent, tx.Bucket(bucketAgents).Bucket([]byte(agent))}) })
	})
}

// commit makes b durable as one step: all of it is on the disk or nothing. It goes to the log while that has room, else
// to the store with all that the log has. An empty batch removes the probe.
func (s *store) commit(b batch) error {
	if s.db == nil {
		return errNotOpen
	}
	s.commits++
	if !b.probe && !b.whole && !b.empty() {
		if int64(cap(s.frame)) > s.cfg.logBytes { // of a flood
			s.frame = nil
		}
		s.frame = appendFrame(s.frame[:0], b)
		if written, err := s.log.append(s.frame); written {
			if err == nil {
				s.keep(b)
			}
			return bare(err)
		}
	}
	return s.checkpoint(b, true)
}

// guard calls f and turns a panic into an error: the store panics when it meets damage, and reading a mapped file that
// is shorter than it should be is a fault.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errBroken, p)
		}
	}()
	return f()
}
