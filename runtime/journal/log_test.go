package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/blocksd/blocksd/network/wire"
)

// crashed copies the files of a journal in which nothing is being written into a new directory, as a crash leaves them.
func crashed(t *testing.T, dir string) string {
	t.Helper()
	copied := t.TempDir()
	for _, name := range []string{FileName, LogName} {
		putFile(t, copied, name, fileOf(t, dir, name))
	}
	return copied
}

// TestLogTakesPosts: what is posted goes to the log alone, and a crash leaves it there for the next start.
func TestLogTakesPosts(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	defer shut(t, j)
	b := agent(t, j, "worker")
	before := image(t, dir)
	_, written := accept(b, Task{ID: "open", Message: []byte("m"), Streams: []Stream{{ID: "s", Channel: "c"}}})
	wait(t, written)
	noted, written := accept(b, Task{ID: "noted"})
	wait(t, written)
	noted.Note(wire.Terminal{State: wire.Canceled})
	over, written := accept(b, Task{ID: "over"})
	wait(t, written)
	wait(t, decide(over, done))
	over.Finish(Finished{ID: "over", Outcome: done, At: time.Now()})
	dropped, written := accept(b, Task{ID: "dropped"})
	wait(t, written)
	dropped.Drop()
	b.SetCursor(testChannel, "17")
	b.SetInstanceID("me")
	flush(t, j, b)
	if !bytes.Equal(before, image(t, dir)) {
		t.Error("the store was written to")
	}

	next := open(t, crashed(t, dir), nil)
	got := read(t, agent(t, next, "worker"))
	shut(t, next)
	if diff := cmp.Diff(read(t, b), got); diff != "" {
		t.Errorf("-before +after the crash:\n%s", diff)
	}
	if len(got.Open) != 2 || len(got.Finished) != 1 || got.Cursor != "17" || got.Instance != "me" {
		t.Errorf("after the crash there is %+v", got)
	}
}

// TestLogFills: a log that is full goes to the store and begins anew; what is larger than the log goes there at once.
func TestLogFills(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	defer shut(t, j)
	b := agent(t, j, "worker")
	for i := range 100 { // several times as much as the log holds
		size := 10
		if i%30 == 7 {
			size = 2 * testLogBytes
		}
		e, written := accept(b, Task{ID: fmt.Sprint(i), Message: make([]byte, size)})
		wait(t, written)
		if i%3 > 0 {
			wait(t, decide(e, done))
			e.Finish(Finished{ID: fmt.Sprint(i), Outcome: done, At: time.Now()})
		}
	}
	flush(t, j, b)
	next := open(t, crashed(t, dir), nil)
	got := read(t, agent(t, next, "worker"))
	shut(t, next)
	if diff := cmp.Diff(read(t, b), got); diff != "" {
		t.Errorf("-before +after the crash:\n%s", diff)
	}
	if len(got.Open) != 34 || len(got.Finished) != 66 {
		t.Errorf("%d tasks are open and %d finished", len(got.Open), len(got.Finished))
	}
}

// TestFinishedTasksSpareTheStore: of a task that comes and goes between two checkpoints only the outcome is written.
func TestFinishedTasksSpareTheStore(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, func(c *Config) { c.logBytes = 1 << 20 })
	b := agent(t, j, "worker")
	message := make([]byte, 5000)
	for i := range 100 {
		e, written := accept(b, Task{ID: fmt.Sprint(i), Message: message})
		wait(t, written)
		e.Finish(Finished{ID: fmt.Sprint(i), Outcome: done, At: time.Now()})
	}
	shut(t, j)
	if n := len(image(t, dir)); n > 100_000 {
		t.Errorf("the store has %d bytes", n)
	}
}

// TestDamagedLog: damage in what was durable is refused in one sentence, and nothing is changed; what a crash can leave
// behind the last frame is not damage.
func TestDamagedLog(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	b := agent(t, j, "worker")
	for i := range 5 {
		_, written := accept(b, Task{ID: fmt.Sprint(i)})
		wait(t, written)
	}
	live := crashed(t, dir)
	shut(t, j)
	whole := fileOf(t, live, LogName)
	damaged := func(change func(b []byte)) []byte {
		b := slices.Clone(whole)
		change(b)
		return b
	}
	last := func(b []byte) int { // where the last frame begins
		at := 0
		for i := logBlock; i < len(b); i += logBlock {
			if string(b[i:i+4]) == frameMagic && binary.BigEndian.Uint64(b[i+8:]) > binary.BigEndian.Uint64(b[at+8:])*uint64(min(at, 1)) {
				at = i
			}
		}
		return at
	}
	for _, c := range []struct {
		name string
		log  []byte // nil: removed
		open int    // tasks after the start; -1: refused
	}{
		{"whole", whole, 5},
		{"missing", nil, -1},
		{"empty", []byte{}, -1},
		{"text", []byte(strings.Repeat("no log\n", 5000)), -1},
		{"head", damaged(func(b []byte) { b[0] ^= 1 }), -1},
		{"of another journal", damaged(func(b []byte) { b[len(logHead)] ^= 1 }), -1},
		{"cut", whole[:logBlock], -1},
		{"first frame", damaged(func(b []byte) { b[logBlock+60] ^= 1 }), -1},
		{"length of the first frame", damaged(func(b []byte) { b[logBlock+4] = 0xff }), -1},
		{"last frame in parts", damaged(func(b []byte) { b[last(b)+60] ^= 1 }), 4},
		{"last frame not there", damaged(func(b []byte) { clear(b[last(b):][:logBlock]) }), 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := crashed(t, live)
			path := filepath.Join(dir, LogName)
			if c.log == nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				putFile(t, dir, LogName, c.log)
			}
			store := image(t, dir)
			j, err := Open(Config{Dir: dir, Secret: testSecret, mapBytes: 4096, logBytes: testLogBytes})
			if c.open < 0 {
				if err == nil {
					shut(t, j)
				}
				says(t, err, dir, LogName, "move")
				unusableAsItIs(t, err)
				if !bytes.Equal(store, image(t, dir)) {
					t.Error("the store was changed")
				}
				if log, err := os.ReadFile(path); c.log != nil && !bytes.Equal(log, c.log) || c.log == nil && !errors.Is(err, os.ErrNotExist) {
					t.Error("the log was changed")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := len(read(t, agent(t, j, "worker")).Open); got != c.open {
				t.Errorf("%d tasks are open", got)
			}
			shut(t, j)
		})
	}
}

// TestLogOfAnother: a journal that was moved away leaves its log, which a new journal puts aside.
func TestLogOfAnother(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	_, written := accept(agent(t, j, "worker"), Task{ID: "a"})
	wait(t, written)
	live := crashed(t, dir)
	shut(t, j)
	old := fileOf(t, live, LogName)
	if err := os.Rename(filepath.Join(live, FileName), filepath.Join(live, FileName+".damaged")); err != nil {
		t.Fatal(err)
	}
	j = open(t, live, nil)
	if got := read(t, agent(t, j, "worker")); len(got.Open) != 0 {
		t.Errorf("the new journal has %+v", got)
	}
	shut(t, j)
	if !bytes.Equal(old, fileOf(t, live, LogName+".aside")) {
		t.Error("the log of the other journal is not kept")
	}
}

// TestLogAfterClean: a clean end leaves all in the store, so that the log may be lost; its next start makes one.
func TestLogAfterClean(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	_, written := accept(agent(t, j, "worker"), Task{ID: "a"})
	wait(t, written)
	shut(t, j)
	if err := os.Remove(filepath.Join(dir, LogName)); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, nil)
	defer shut(t, j)
	if got := read(t, agent(t, j, "worker")); len(got.Open) != 1 {
		t.Errorf("there is %+v", got)
	}
	info, err := os.Stat(filepath.Join(dir, LogName))
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != testLogBytes {
		t.Errorf("the new log is %v, %v", info, err)
	}
}

// TestJournalWithoutLog: the journal of an earlier version, which had no log, gets one.
func TestJournalWithoutLog(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir, nil)
	_, written := accept(agent(t, j, "worker"), Task{ID: "a"})
	wait(t, written)
	shut(t, j)
	if err := os.Remove(filepath.Join(dir, LogName)); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketJournal).Delete(keyLog) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	j = open(t, dir, nil)
	b := agent(t, j, "worker")
	_, written = accept(b, Task{ID: "b"})
	wait(t, written)
	if got := read(t, b); len(got.Open) != 2 {
		t.Errorf("there is %+v", got)
	}
	shut(t, j)
}

// FuzzFrame: whatever a frame holds, decoding returns; what decodes encodes to what decodes the same.
func FuzzFrame(f *testing.F) {
	a := &AgentJournal{name: "worker"}
	e := &Entry{number: 7}
	f.Add(appendFrame(nil, batch{
		posts: []post{
			{kind: accepted, agent: a, entry: e, task: Task{ID: "id", Accepted: time.UnixMilli(5)}},
			{kind: updated, agent: a, entry: e, task: Task{ID: "id", Accepted: time.UnixMilli(5), Streams: []Stream{{ID: "s"}}}},
			{kind: decided, agent: a, entry: e, done: Finished{Outcome: done}},
			{kind: finished, agent: a, entry: e, done: Finished{ID: "id", Outcome: done, At: time.Unix(9, 0)}},
			{kind: dropped, agent: a, entry: e},
			{kind: instance, agent: a, text: "i"},
		},
		cursors: []cursorOf{{a, cursor{"c", "17"}}},
	}))
	f.Add([]byte{frameVersion, byte(accepted), 1, 'a', 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	agentOf := func(name string) *AgentJournal { return &AgentJournal{name: name} }
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := decodeFrame(b, agentOf)
		if err != nil {
			return
		}
		again := appendFrame(nil, all)
		second, err := decodeFrame(again, agentOf)
		if err != nil || !bytes.Equal(again, appendFrame(nil, second)) {
			t.Errorf("%x reads as %x, %v", b, again, err)
		}
	})
}
