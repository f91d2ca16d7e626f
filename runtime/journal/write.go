package journal

import (
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// What a commit does to the file.

// taskKey names a task.
type taskKey struct {
	agent  string
	number uint64
}

func keyOf(p post) taskKey { return taskKey{p.agent.name, p.entry.number} }

// apply writes a batch. Of a task that is over by the end of it only the outcome is written.
func (s *store) apply(tx *bolt.Tx, b batch) error {
	j := tx.Bucket(bucketJournal)
	if b.probe {
		// Not compressible, for disks that compress.
		if err := j.Put(keyProbe, s.seal.seal(keyProbe, make([]byte, probeBytes))); err != nil {
			return err
		}
	} else if err := j.Delete(keyProbe); err != nil {
		return err
	}
	over, begun := map[taskKey]bool{}, map[taskKey]bool{}
	for _, p := range b.posts {
		if p.kind == finished || p.kind == dropped {
			over[keyOf(p)] = true
		}
	}
	open := map[string]*buckets{}
	of := func(agent *AgentJournal) (*buckets, error) {
		if o := open[agent.name]; o != nil {
			return o, nil
		}
		o, err := openBuckets(tx, agent.name)
		open[agent.name] = o
		return o, err
	}
	for _, p := range b.posts {
		o, err := of(p.agent)
		if err != nil {
			return err
		}
		switch p.kind {
		case accepted:
			if over[keyOf(p)] {
				begun[keyOf(p)] = true
				continue
			}
		case updated, decided:
			if over[keyOf(p)] {
				continue
			}
		}
		inStore := p.entry == nil || !begun[keyOf(p)]
		if err := s.put(o, p, inStore); err != nil {
			return err
		}
	}
	cursors := map[string]cursorOf{} // the last one of each agent counts
	for _, c := range b.cursors {
		cursors[c.agent.name] = c
	}
	for _, c := range cursors {
		o, err := of(c.agent)
		if err == nil {
			err = o.agent.Put(keyCursor, s.sealed(o, "", keyCursor, appendTexts(nil, c.cursor.channel, c.cursor.timetoken)))
		}
		if err != nil {
			return err
		}
	}
	for name, o := range open {
		if err := s.forget(o, name); err != nil {
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

// sealed seals a record for its address.
func (s *store) sealed(o *buckets, bucket string, key, plain []byte) []byte {
	return s.seal.seal(address(o.name, bucket, key), plain)
}

// address names where a record stands. Agent names have no slash.
func address(agent, bucket string, key []byte) []byte {
	b := make([]byte, 0, len(agent)+len(bucket)+len(key)+2)
	b = append(append(b, agent...), '/')
	b = append(append(b, bucket...), '/')
	return append(b, key...)
}

// put writes one post. inStore says that the task that it is about may be in the store.
func (s *store) put(o *buckets, p post, inStore bool) error {
	var key []byte
	if p.entry != nil {
		key = sequence(p.entry.number)
	}
	switch p.kind {
	case accepted:
		return o.tasks.Put(key, s.sealed(o, "tasks", key, appendTask(nil, p.task)))
	case updated:
		// Only what is there can change: the task may be over by now.
		if p.entry.void || o.tasks.Get(key) == nil {
			return nil
		}
		return o.tasks.Put(key, s.sealed(o, "tasks", key, appendTask(nil, p.task)))
	case decided:
		if p.entry.void {
			return nil
		}
		return o.outcomes.Put(key, s.sealed(o, "outcomes", key, appendOutcome(nil, p.done.Outcome)))
	case dropped, finished:
		if inStore {
			if err := errors.Join(o.tasks.Delete(key), o.outcomes.Delete(key)); err != nil {
				return err
			}
		}
		if p.kind == dropped || p.entry.void {
			return nil
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
