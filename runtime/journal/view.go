package journal

import (
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

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
	plain, err := v.s.seal.open(address(v.agent, "", key), sealed)
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
		plain, err := v.s.seal.open(address(v.agent, "tasks", k), sealed)
		if err != nil {
			return err
		}
		r := record{number: n}
		if r.task, err = decodeTask(plain); err != nil {
			return err
		}
		if sealed := outcomes.Get(k); sealed != nil {
			orphans--
			if plain, err = v.s.seal.open(address(v.agent, "outcomes", k), sealed); err != nil {
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
		plain, err := v.s.seal.open(address(v.agent, "finished", k), value[8:])
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
