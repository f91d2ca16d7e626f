package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/blocksd/blocksd/network/wire"
)

// TestAgainstModel posts at random and compares with a model after each reopening: after a clean end, and after a power
// loss at any point of the last commit. A power loss leaves of what was being written any part.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		now := time.UnixMilli(1_777_000_000_000)
		cfg := func(c *Config) {
			c.Now = func() time.Time { return now }
			c.MaxRemembered = 8
			c.Timeouts.FlushDelay = time.Hour // only what is waited for is written
		}
		j := open(rt, dir, cfg)
		b := agent(rt, j, "worker")
		model := &model{entries: map[int]*modelEntry{}}
		check := func(want contents, when string) {
			if diff := gocmp.Diff(want, read(rt, b)); diff != "" {
				rt.Fatalf("%s: -want +got:\n%s", when, diff)
			}
		}
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"accept", "accept", "note", "decide", "finish", "cursor", "instance", "close", "crash"}).Draw(rt, "step") {
			case "accept":
				model.made++
				task := Task{
					ID: fmt.Sprint("task", model.made), Message: bytes.Repeat([]byte("m"), rapid.SampledFrom([]int{0, 1, 500, 6000}).Draw(rt, "size")),
					Timetoken: fmt.Sprint(model.made), Accepted: now.Add(time.Duration(model.made) * time.Millisecond),
				}
				e, done := accept(b, task)
				b.SetCursor(testChannel, task.Timetoken)
				model.entries[model.made] = &modelEntry{entry: e, task: task}
				model.cursor = task.Timetoken
				wait(rt, done)
			case "decide":
				if e := model.pick(rt, false); e != nil {
					o := wire.Terminal{State: wire.Failed, Error: fmt.Sprint("why of ", e.task.ID)}
					e.outcome = &o
					wait(rt, decide(e.entry, o))
				}
			case "note": // replaced by what follows it
				if e := model.pick(rt, false); e != nil {
					model.made++ // another text each time
					o := wire.Terminal{State: wire.Canceled, Reason: fmt.Sprint("note ", model.made)}
					e.noted = &o
					e.entry.Note(o)
				}
			case "finish":
				if e := model.pick(rt, true); e != nil {
					f := Finished{ID: e.task.ID, Outcome: *e.outcome, At: time.Unix(now.Unix(), 0)}
					e.entry.Finish(f)
					model.finish(e, f)
				}
			case "cursor":
				model.cursor += "0"
				b.SetCursor(testChannel, model.cursor)
			case "instance":
				model.instance += "i"
				b.SetInstanceID(model.instance)
			case "close":
				shut(rt, j)
				j = open(rt, dir, cfg)
				b = agent(rt, j, "worker")
				check(model.contents(), "after a clean end")
				model.rebind(rt, b)
			case "crash":
				flush(rt, j, b)
				before, beforeContents := imageOf(rt, dir), model.contents()
				model.made++
				task := Task{ID: fmt.Sprint("task", model.made), Message: bytes.Repeat([]byte("c"), 5000), Timetoken: model.cursor + "1", Accepted: now}
				b.Accept(task, nil) // goes to the disk with the cursor, when there is something to wait for
				b.SetCursor(testChannel, task.Timetoken)
				flush(rt, j, b)
				after := imageOf(rt, dir)
				shut(rt, j)
				torn, through := tear(rt, before, after)
				torn.put(rt, dir)
				j = open(rt, dir, cfg)
				b = agent(rt, j, "worker")
				if through {
					model.entries[model.made] = &modelEntry{task: task}
					model.cursor = task.Timetoken
					check(model.contents(), "after a power loss behind a commit")
				} else {
					check(beforeContents, "after a power loss in a commit")
				}
				model.rebind(rt, b)
			}
		}
		flush(rt, j, b)
		check(model.contents(), "at the end")
		shut(rt, j)
	})
}

// journalImage is what the disk holds of a journal.
type journalImage struct{ store, log []byte }

func imageOf(rt *rapid.T, dir string) journalImage {
	return journalImage{fileOf(rt, dir, FileName), fileOf(rt, dir, LogName)}
}

func (i journalImage) put(rt *rapid.T, dir string) {
	putFile(rt, dir, FileName, i.store)
	putFile(rt, dir, LogName, i.log)
}

// tear returns what the disk may hold when the power fails during the commit that turned before into after. A commit
// writes either the log or the store.
func tear(rt *rapid.T, before, after journalImage) (torn journalImage, through bool) {
	torn = after
	if !bytes.Equal(before.store, after.store) {
		torn.store, through = tearStore(rt, before.store, after.store)
		return torn, through
	}
	torn.log = bytes.Clone(after.log)
	first := -1
	sectors(before.log, torn.log, 0, func(at, end int) {
		if first < 0 {
			first = at
		}
		if rapid.Bool().Draw(rt, "old") {
			copy(torn.log[at:end], before.log[at:end])
		}
	})
	// What is behind the frame in its last block says nothing.
	end := first + frameHead + int(binary.BigEndian.Uint32(after.log[first+4:]))
	return torn, bytes.Equal(torn.log[first:end], after.log[first:end])
}

// sectors calls changed with the bounds of each sector in which two files differ.
func sectors(before, after []byte, from int, changed func(at, end int)) {
	const sector = 512
	for at := from; at < len(after); at += sector {
		if end := at + sector; !bytes.Equal(slice(before, at, end), after[at:end]) {
			changed(at, end)
		}
	}
}

// tearStore tears a checkpoint: of the sectors that are not those of the two head pages any may be old or new, and the
// head of the commit may be there in part, because it is written when all else is safe.
func tearStore(rt *rapid.T, before, after []byte) (torn []byte, through bool) {
	const page = 4096
	how := rapid.SampledFrom([]string{"data", "head", "through"}).Draw(rt, "power fails in")
	torn = bytes.Clone(after)
	switch how {
	case "through":
		return torn, true
	case "data":
		copy(torn, before[:2*page])
		sectors(before, torn, 2*page, func(at, end int) {
			if rapid.Bool().Draw(rt, "old") {
				copy(torn[at:end], slice(before, at, end))
			}
		})
		return torn, false
	}
	for at := range 2 { // of the head that changed only a part is there
		old, new := before[at*page:(at+1)*page], torn[at*page:(at+1)*page]
		if bytes.Equal(old, new) {
			continue
		}
		first, last := -1, 0
		for i := range old {
			if old[i] != new[i] {
				if first < 0 {
					first = i
				}
				last = i
			}
		}
		cut := rapid.IntRange(first+1, last).Draw(rt, "cut")
		copy(new[cut:], old[cut:])
	}
	return torn, false
}

// slice is b[from:to] of a file, which reads as zero beyond its end.
func slice(b []byte, from, to int) []byte {
	out := make([]byte, to-from)
	if from < len(b) {
		copy(out, b[from:])
	}
	return out
}

type model struct {
	made             int
	instance, cursor string
	entries          map[int]*modelEntry
	finished         []Finished
}

type modelEntry struct {
	entry   *Entry
	task    Task
	noted   *wire.Terminal
	outcome *wire.Terminal
}

// pick returns a task that is decided or not, nil if there is none.
func (m *model) pick(rt *rapid.T, decided bool) *modelEntry {
	var all []*modelEntry
	for n := 1; n <= m.made; n++ {
		if e := m.entries[n]; e != nil && (e.outcome != nil) == decided {
			all = append(all, e)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[rapid.IntRange(0, len(all)-1).Draw(rt, "task")]
}

func (m *model) finish(e *modelEntry, f Finished) {
	for n, other := range m.entries {
		if other == e {
			delete(m.entries, n)
		}
	}
	m.finished = append(m.finished, f)
	if len(m.finished) > 8 {
		m.finished = m.finished[1:]
	}
}

func (m *model) contents() contents {
	c := contents{Instance: m.instance, Cursor: m.cursor, Finished: append([]Finished(nil), m.finished...)}
	for n := 1; n <= m.made; n++ {
		if e := m.entries[n]; e != nil {
			c.Open = append(c.Open, openTask{e.task, cmp.Or(e.outcome, e.noted)})
		}
	}
	return c
}

// rebind takes the entries of the reopened agent.
func (m *model) rebind(rt *rapid.T, b *AgentJournal) {
	entries, err := b.Open()
	if err != nil {
		rt.Fatal(err)
	}
	for _, e := range entries {
		for _, own := range m.entries {
			if own.task.ID == e.Task.ID {
				own.entry = e
			}
		}
	}
}
