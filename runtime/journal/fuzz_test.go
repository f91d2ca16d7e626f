package journal

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/blocksd/blocksd/network/wire"
)

// FuzzRecords: whatever bytes stand where a record should, decoding returns; what decodes encodes to the same bytes.
func FuzzRecords(f *testing.F) {
	o := wire.Terminal{State: wire.Failed, Error: "why", Reason: "r", CompletionReason: "c", Version: "v"}
	f.Add(appendTask(nil, Task{ID: "id", Message: []byte(`{"type":"StartTask"}`), Timetoken: "17", Accepted: time.UnixMilli(1_777_000_000_000), BillingMode: wire.Paid}))
	f.Add(oldTask)
	f.Add(appendTask(nil, Task{ID: "id", Accepted: time.UnixMilli(1), Streams: []Stream{{"id-1", "stream.a.id-1", wire.FormatBytes, "a-stream-0001-ab", "token"}, {}}}))
	f.Add(appendOutcome(nil, o))
	f.Add(appendFinished(nil, Finished{ID: "id", Outcome: o}))
	f.Add(appendTexts(nil, "channel", "17"))
	f.Add([]byte{recordVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		same := func(again []byte) {
			// Numbers have longer forms than the one that we write; a record in such a form is read, and is shorter when written.
			if len(again) > len(b) || len(again) == len(b) && !bytes.Equal(again, b) {
				t.Errorf("%x reads as %x", b, again)
			}
		}
		if v, err := decodeTask(b); err == nil && b[0] == taskVersion {
			same(appendTask(nil, v))
		}
		if v, err := decodeOutcome(b); err == nil {
			same(appendOutcome(nil, v))
		}
		if v, err := decodeFinished(b); err == nil {
			same(appendFinished(nil, v))
		}
		if v, err := decodeTexts(b, 2); err == nil {
			same(appendTexts(nil, v...))
		}
	})
}

// oldTask is the record of a task as version 1 wrote it.
var oldTask = []byte("\x01\x80\xa8\xa1\xd7\xb7\x67\x02id\x0217\x04{  }")

func TestReadsOldTasks(t *testing.T) {
	got, err := decodeTask(oldTask)
	want := Task{ID: "id", Message: []byte("{  }"), Timetoken: "17", Accepted: time.UnixMilli(1_777_000_000_000)}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
}

// FuzzSeal: no bytes open but those that were sealed for the address.
func FuzzSeal(f *testing.F) {
	s, err := newSealer(testSecret)
	if err != nil {
		f.Fatal(err)
	}
	s.salt = [saltBytes]byte{1} // the same in each process that fuzzes
	if s.own, err = s.derive(s.salt); err != nil {
		f.Fatal(err)
	}
	at, elsewhere := address("agent", "tasks", sequence(1)), address("agent", "tasks", sequence(2))
	good := s.seal(at, []byte("plain"))
	f.Add(good)
	f.Add(good[:sealHeader])
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := s.open(at, b)
		if (err == nil) != bytes.Equal(b, good) {
			t.Errorf("%x opened as %q, %v", b, plain, err)
		}
		if _, err := s.open(elsewhere, b); err == nil {
			t.Errorf("%x opened at another address", b)
		}
	})
}

// FuzzOpen: whatever the file is, it is opened or refused.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	j := open(f, dir, nil)
	b := agent(f, j, "worker")
	e := b.Accept(Task{ID: "a", Message: make([]byte, 100)}, nil)
	e.Decide(done, nil)
	b.Accept(Task{ID: "b", Message: make([]byte, 5000)}, nil)
	flush(f, j, b)
	shut(f, j)
	f.Add(image(f, dir))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		putImage(t, dir, content)
		j, err := Open(Config{Dir: dir, Secret: testSecret, mapBytes: 4096, logBytes: testLogBytes})
		if err == nil {
			shut(t, j)
		}
	})
}
