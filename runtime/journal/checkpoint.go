package journal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

// A checkpoint moves what only the log has into the store. The store keeps, in the same step, up to where that was.

// logState is what the store knows of the log.
type logState struct {
	id      logID
	applied uint64 // number of the last frame that is in the store
	open    bool   // frames may follow it
}

const logStateBytes = len(logID{}) + 8 + 1

func (s *store) sealedLogState(l logState) []byte {
	b := append(make([]byte, 0, logStateBytes), l.id[:]...)
	b = append(b, sequence(l.applied)...)
	if l.open {
		return s.seal.seal(keyLog, append(b, 1))
	}
	return s.seal.seal(keyLog, append(b, 0))
}

// logState reads the state; known is false in a journal that never had a log.
func (s *store) logState() (l logState, known bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		sealed := tx.Bucket(bucketJournal).Get(keyLog)
		if sealed == nil {
			return nil
		}
		plain, err := s.seal.open(keyLog, sealed)
		if err == nil && len(plain) != logStateBytes {
			err = errRecord
		}
		if err != nil {
			return fmt.Errorf("%w: what it says of its log: %w", errBroken, err)
		}
		known = true
		n := copy(l.id[:], plain)
		l.applied, err = decodeSequence(plain[n : n+8])
		l.open = plain[n+8] == 1
		return err
	})
	return l, known, err
}

// recover opens the log, makes it if need be, and moves what a crash has left in it into the store.
func (s *store) recover() error {
	var (
		state logState
		known bool
	)
	err := guard(func() (err error) {
		state, known, err = s.logState()
		return err
	})
	if err != nil {
		return err
	}
	path := filepath.Join(filepath.Dir(s.path), LogName)
	if !known {
		rand.Read(state.id[:]) // never fails
	}
	if err := s.findLog(path, state); err != nil {
		return err
	}
	var left batch
	agents := map[string]*AgentJournal{}
	agentOf := func(name string) *AgentJournal {
		a := agents[name]
		if a == nil {
			a = &AgentJournal{name: name}
			agents[name] = a
		}
		return a
	}
	s.log, err = openLog(s.cfg, path, s.seal, state.id, state.applied, func(plain []byte) error {
		b, err := decodeFrame(plain, agentOf)
		left.posts = append(left.posts, b.posts...)
		left.cursors = append(left.cursors, b.cursors...)
		return err
	})
	if err != nil {
		if errors.Is(err, errBroken) {
			return err
		}
		return fmt.Errorf("%w: make %s readable and writable for this user, or free space on its disk", bare(err), path)
	}
	s.keep(left)
	if left.empty() && state.open {
		return nil
	}
	if err := s.checkpoint(batch{}, true); err != nil {
		return fmt.Errorf("%w: free space on its disk", err)
	}
	return nil
}

// findLog sees to it that the log of the state is at path. A log of another journal is kept under another name: somebody
// moved the journal away that it belongs to.
func (s *store) findLog(path string, state logState) error {
	owner, ok, err := ownerOf(path)
	if err == nil && !(ok && owner == state.id) {
		_, missing := os.Stat(path)
		switch {
		case state.open && errors.Is(missing, fs.ErrNotExist):
			return fmt.Errorf("%w: its log %s is missing", errBroken, LogName)
		case state.open:
			return fmt.Errorf("%w: its log %s belongs to another journal or is damaged itself", errBroken, LogName)
		case missing == nil:
			aside := path + ".aside"
			if err = os.Rename(path, aside); err == nil {
				s.cfg.Log.Warn("the log of another journal was put aside", "path", aside)
			}
		}
		if err == nil {
			err = makeLog(s.cfg, path, state.id)
		}
	}
	if err != nil {
		return fmt.Errorf("its log %s: %w: make it readable and writable for this user, or free space on its disk", path, bare(err))
	}
	return os.Chmod(path, 0o600)
}

// keep adds what the log has now. Of a task that is over, what it was is not needed any more.
func (s *store) keep(b batch) {
	if s.begun == nil {
		s.begun = map[taskKey]int{}
	}
	for _, p := range b.posts {
		switch p.kind {
		case accepted:
			s.begun[keyOf(p)] = len(s.pending.posts)
		case finished, dropped:
			if at, ok := s.begun[keyOf(p)]; ok {
				s.pending.posts[at].task = Task{}
			}
		}
		p.durable = nil
		s.pending.posts = append(s.pending.posts, p)
	}
	s.pending.cursors = append(s.pending.cursors, b.cursors...)
}

// checkpoint writes what only the log has, and then b, to the store as one step. open says that the log will be used on.
func (s *store) checkpoint(b batch, open bool) error {
	all := s.pending
	all.posts = append(all.posts[:len(all.posts):len(all.posts)], b.posts...)
	all.cursors = append(all.cursors[:len(all.cursors):len(all.cursors)], b.cursors...)
	all.probe = b.probe
	state := logState{id: s.log.id, applied: s.log.next - 1, open: open}
	err := guard(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			if err := s.apply(tx, all); err != nil {
				return err
			}
			return tx.Bucket(bucketJournal).Put(keyLog, s.sealedLogState(state))
		})
	})
	if err != nil {
		if errors.Is(err, errBroken) {
			s.db = nil // its locks are lost
		}
		return bare(err)
	}
	clear(s.begun)
	clear(s.pending.posts) // for the collector of garbage
	clear(s.pending.cursors)
	s.pending.posts, s.pending.cursors = s.pending.posts[:0], s.pending.cursors[:0]
	s.log.restart()
	return nil
}
