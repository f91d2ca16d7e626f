package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The buckets. A journal has "journal" with the form of the file and a record that only the right key opens, and
// "agents" with one bucket for each agent:
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
	errForeign = errors.New("it is no journal of this program")
)

// store is the file. Only the owner goroutine uses it, after Open.
type store struct {
	cfg  Config
	path string
	db   *bolt.DB
	seal *sealer
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
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		cfg.Log.Warn("the journal was open to others than its owner; its mode was corrected", "path", path)
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	return s, nil
}

// reopen closes the file, if it is open, and opens it, with a check of all that is in it.
func (s *store) reopen() error {
	if err := s.close(); err != nil {
		return err
	}
	err := guard(func() (err error) {
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
		return fmt.Errorf("%w: %w: move it away to start without the tasks in it", errBroken, err)
	case errors.Is(err, errBroken):
		s.db = nil // after a panic what it holds cannot be given back
		return fmt.Errorf("%w: move it away to start without the tasks in it", err)
	case err != nil:
		return fmt.Errorf("%w: make it readable and writable for this user, or free space on its disk", bare(err))
	}
	if err := guard(s.prepare); err != nil {
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
			return fmt.Errorf("%w: move it away, or use another state directory", errForeign)
		}
		if plain, err := s.seal.open(keyCheck, b.Get(keyCheck)); err != nil || string(plain) != check {
			return errors.New("it was written with another key, or is damaged: put the key back, or move the journal away to start without the tasks in it")
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
				return fmt.Errorf("the records of agent %s: %w: move the journal away to start without the tasks in it", name, err)
			}
			return nil
		})
	})
}

func (s *store) close() error {
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	return guard(db.Close)
}

func (b batch) empty() bool { return len(b.posts) == 0 && len(b.cursors) == 0 }

// view has f read the records of an agent.
func (s *store) view(agent string, f func(*view) error) error {
	if s.db == nil {
		return errNotOpen
	}
	return guard(func() error {
		return s.db.View(func(tx *bolt.Tx) error { return f(&view{s, agent, tx.Bucket(bucketAgents).Bucket([]byte(agent))}) })
	})
}

// commit writes b as one step: all of it is on the disk or nothing. An empty batch removes the probe.
func (s *store) commit(b batch) error {
	if s.db == nil {
		return errNotOpen
	}
	s.commits++
	err := guard(func() error { return s.db.Update(func(tx *bolt.Tx) error { return s.apply(tx, b) }) })
	if errors.Is(err, errBroken) {
		s.db = nil // its locks are lost
	}
	return bare(err)
}

func (s *store) apply(tx *bolt.Tx, b batch) error {
	j := tx.Bucket(bucketJournal)
	if b.probe {
		// Not compressible, for disks that compress.
		if err := j.Put(keyProbe, s.seal.seal(keyProbe, make([]byte, probeBytes))); err != nil {
			return err
		}
	} else if b.empty() {
		return j.Delete(keyProbe)
	}
	open := map[*AgentJournal]*buckets{}
	of := func(agent *AgentJournal) (*buckets, error) {
		if o := open[agent]; o != nil {
			return o, nil
		}
		o, err := openBuckets(tx, agent.name)
		open[agent] = o
		return o, err
	}
	for _, p := range b.posts {
		o, err := of(p.agent)
		if err == nil {
			err = s.put(o, p)
		}
		if err != nil {
			return err
		}
	}
	for _, c := range b.cursors {
		o, err := of(c.agent)
		if err == nil {
			err = o.agent.Put(keyCursor, s.sealed(o, "", keyCursor, appendTexts(nil, c.cursor.channel, c.cursor.timetoken)))
		}
		if err != nil {
			return err
		}
	}
	for agent, o := range open {
		if err := s.forget(o, agent.name); err != nil {
			return err
		}
	}
	return nil
}

// buckets of one agent during one commit.
type buckets struct {
	name                             string
	agent, tasks, outcomes, finished *bolt.Bucket
	added                            int // finished tasks
}

func openBuckets(tx *bolt.Tx, name string) (*buckets, error) {
	o := &buckets{name: name}
	var err error
	open := func(in *bolt.Bucket, name []byte) *bolt.Bucket {
		b := in.Bucket(name)
		if b == nil && err == nil {
			b, err = in.CreateBucket(name)
		}
		return b
	}
	if o.agent = open(tx.Bucket(bucketAgents), []byte(name)); err != nil {
		return nil, err
	}
	for _, sub := range []struct {
		name []byte
		to   **bolt.Bucket
	}{{bucketTasks, &o.tasks}, {bucketOutcomes, &o.outcomes}, {bucketFinished, &o.finished}} {
		if *sub.to = open(o.agent, sub.name); err != nil {
			return nil, err
		}
	}
	o.tasks.FillPercent, o.finished.FillPercent = appended, appended
	return o, nil
}

// appended is how full pages get whose keys only grow.
const appended = 0.95

// sealed seals a record for its place.
func (s *store) sealed(o *buckets, bucket string, key, plain []byte) []byte {
	return s.seal.seal(place(o.name, bucket, key), plain)
}

// place names where a record stands. Agent names have no slash.
func place(agent, bucket string, key []byte) []byte {
	b := make([]byte, 0, len(agent)+len(bucket)+len(key)+2)
	b = append(append(b, agent...), '/')
	b = append(append(b, bucket...), '/')
	return append(b, key...)
}

func (s *store) put(o *buckets, p post) error {
	var key []byte
	if p.entry != nil {
		key = sequence(p.entry.number)
	}
	switch p.kind {
	case accepted:
		return o.tasks.Put(key, s.sealed(o, "tasks", key, appendTask(nil, p.task)))
	case decided:
		if p.entry.void {
			return nil
		}
		return o.outcomes.Put(key, s.sealed(o, "outcomes", key, appendOutcome(nil, p.done.Outcome)))
	case dropped:
		return errors.Join(o.tasks.Delete(key), o.outcomes.Delete(key))
	case finished:
		if err := errors.Join(o.tasks.Delete(key), o.outcomes.Delete(key)); err != nil || p.entry.void {
			return err
		}
		n, err := o.finished.NextSequence()
		if err != nil {
			return err
		}
		o.added++
		at := sequence(n)
		value := binary.BigEndian.AppendUint64(nil, uint64(p.done.At.Unix()))
		return o.finished.Put(at, append(value, s.sealed(o, "finished", at, appendFinished(nil, p.done))...))
	case instance:
		return o.agent.Put(keyInstance, s.sealed(o, "", keyInstance, appendTexts(nil, p.text)))
	}
	return fmt.Errorf("post of unknown kind %d", p.kind)
}

// forget removes finished tasks that are too old or too many. It does a bounded share of the work each time.
func (s *store) forget(o *buckets, name string) error {
	n := s.finished[name] + o.added
	oldest := s.cfg.Now().Add(-s.cfg.Remember).Unix()
	c := o.finished.Cursor()
	for budget := 2*o.added + 16; budget > 0; budget-- {
		k, v := c.First()
		if k == nil || n <= s.cfg.MaxRemembered && len(v) >= 8 && int64(binary.BigEndian.Uint64(v)) > oldest {
			break
		}
		if err := o.finished.Delete(k); err != nil {
			return err
		}
		n--
	}
	s.finished[name] = n // a commit that fails leaves it wrong by a little until the file is opened anew, which follows
	return nil
}

// view reads the records of one agent.
type view struct {
	s      *store
	agent  string
	bucket *bolt.Bucket
}

type agentRecord struct {
	instance string
	cursor   cursor
	last     uint64 // number of the newest task
}

func (v *view) text(key []byte, n int) ([]string, error) {
	sealed := v.bucket.Get(key)
	if sealed == nil {
		return make([]string, n), nil
	}
	plain, err := v.s.seal.open(place(v.agent, "", key), sealed)
	if err != nil {
		return nil, err
	}
	return decodeTexts(plain, n)
}

func (v *view) record() (agentRecord, error) {
	if v.bucket == nil {
		return agentRecord{}, nil
	}
	id, err := v.text(keyInstance, 1)
	if err != nil {
		return agentRecord{}, err
	}
	at, err := v.text(keyCursor, 2)
	if err != nil {
		return agentRecord{}, err
	}
	err = v.bucket.ForEach(func(k, sealed []byte) error {
		switch string(k) {
		case string(keyInstance), string(keyCursor), string(bucketTasks), string(bucketOutcomes), string(bucketFinished):
			return nil
		}
		return errRecord
	})
	if err != nil {
		return agentRecord{}, err
	}
	r := agentRecord{instance: id[0], cursor: cursor{at[0], at[1]}}
	if b := v.bucket.Bucket(bucketTasks); b != nil {
		if k, _ := b.Cursor().Last(); k != nil {
			r.last, err = decodeSequence(k)
		}
	}
	return r, err
}

// tasks returns the tasks whose outcome the network has not acknowledged, oldest first.
func (v *view) tasks() ([]record, error) {
	if v.bucket == nil {
		return nil, nil
	}
	tasks, outcomes := v.bucket.Bucket(bucketTasks), v.bucket.Bucket(bucketOutcomes)
	if tasks == nil || outcomes == nil {
		return nil, nil
	}
	orphans := 0
	if err := outcomes.ForEach(func(k, _ []byte) error {
		orphans++
		return nil
	}); err != nil {
		return nil, err
	}
	var all []record
	err := tasks.ForEach(func(k, sealed []byte) error {
		n, err := decodeSequence(k)
		if err != nil {
			return err
		}
		plain, err := v.s.seal.open(place(v.agent, "tasks", k), sealed)
		if err != nil {
			return err
		}
		r := record{number: n}
		if r.task, err = decodeTask(plain); err != nil {
			return err
		}
		if sealed := outcomes.Get(k); sealed != nil {
			orphans--
			if plain, err = v.s.seal.open(place(v.agent, "outcomes", k), sealed); err != nil {
				return err
			}
			o, err := decodeOutcome(plain)
			if err != nil {
				return err
			}
			r.outcome = &o
		}
		all = append(all, r)
		return nil
	})
	if err == nil && orphans != 0 {
		err = fmt.Errorf("an outcome without its task: %w", errRecord)
	}
	return all, err
}

// finished passes the tasks that are over to each, oldest first.
func (v *view) finished(each func(Finished)) error {
	if v.bucket == nil {
		return nil
	}
	b := v.bucket.Bucket(bucketFinished)
	if b == nil {
		return nil
	}
	return b.ForEach(func(k, value []byte) error {
		if len(value) < 8 {
			return errRecord
		}
		plain, err := v.s.seal.open(place(v.agent, "finished", k), value[8:])
		if err != nil {
			return err
		}
		f, err := decodeFinished(plain)
		if err != nil {
			return err
		}
		f.At = time.Unix(int64(binary.BigEndian.Uint64(value)), 0)
		each(f)
		return nil
	})
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
