package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/blocksd/blocksd/network/wire"
)

// This file is the form of the records before they are sealed: a version byte, then numbers and length-prefixed texts.
// Whatever does not read to its very end is damage, never a shorter record.

// The first byte of every record is the version of its form. A later form takes the next number, and the earlier ones can
// still be read.
const (
	recordVersion = 1
	// taskVersion is that of tasks, which name their billing mode since 2 and their streams since 3. A task without streams
	// is written in the form 2, which earlier programs can read.
	taskVersion       = 3
	streamlessVersion = 2
)

var errRecord = errors.New("the record is damaged")

func appendText[T ~string | ~[]byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendTask(b []byte, t Task) []byte {
	version := byte(taskVersion)
	if len(t.Streams) == 0 {
		version = streamlessVersion
	}
	b = append(b, version)
	b = binary.AppendVarint(b, t.Accepted.UnixMilli())
	b = appendText(b, t.ID)
	b = appendText(b, t.Timetoken)
	b = appendText(b, t.Message)
	b = appendText(b, t.BillingMode)
	if version == streamlessVersion {
		return b
	}
	b = binary.AppendVarint(b, int64(len(t.Streams)))
	for _, s := range t.Streams {
		for _, text := range [...]string{s.ID, s.Channel, string(s.Format), s.UserID, s.Token} {
			b = appendText(b, text)
		}
	}
	return b
}

func decodeTask(b []byte) (Task, error) {
	r := newReader(b, taskVersion)
	t := Task{Accepted: time.UnixMilli(r.varint()), ID: r.text(), Timetoken: r.text()}
	t.Message = []byte(r.text())
	if r.version >= 2 {
		t.BillingMode = wire.BillingMode(r.text())
	}
	if r.version >= 3 {
		for n := r.varint(); n > 0 && !r.bad; n-- {
			s := Stream{ID: r.text(), Channel: r.text(), Format: wire.StreamFormat(r.text()), UserID: r.text(), Token: r.text()}
			t.Streams = append(t.Streams, s)
		}
	}
	return t, r.end()
}

func appendOutcome(b []byte, o wire.Terminal) []byte {
	b = append(b, recordVersion)
	return appendTerminal(b, o)
}

func appendTerminal(b []byte, o wire.Terminal) []byte {
	for _, s := range [...]string{string(o.State), o.Error, o.Reason, o.CompletionReason, o.Version} {
		b = appendText(b, s)
	}
	return b
}

func decodeOutcome(b []byte) (wire.Terminal, error) {
	r := newReader(b, recordVersion)
	o := r.terminal()
	return o, r.end()
}

func appendFinished(b []byte, f Finished) []byte {
	b = append(b, recordVersion)
	b = appendText(b, f.ID)
	return appendTerminal(b, f.Outcome)
}

func decodeFinished(b []byte) (Finished, error) {
	r := newReader(b, recordVersion)
	f := Finished{ID: r.text()}
	f.Outcome = r.terminal()
	return f, r.end()
}

func appendTexts(b []byte, texts ...string) []byte {
	b = append(b, recordVersion)
	for _, s := range texts {
		b = appendText(b, s)
	}
	return b
}

func decodeTexts(b []byte, n int) ([]string, error) {
	r := newReader(b, recordVersion)
	texts := make([]string, n)
	for i := range texts {
		texts[i] = r.text()
	}
	return texts, r.end()
}

// reader reads a record from front to back; after the first fault everything reads as nothing.
type reader struct {
	version byte
	b       []byte
	bad     bool
}

// newReader begins to read a record of any version up to newest.
func newReader(b []byte, newest byte) *reader {
	if len(b) == 0 || b[0] == 0 || b[0] > newest {
		return &reader{bad: true}
	}
	return &reader{version: b[0], b: b[1:]}
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || v > uint64(len(r.b)-n) {
		r.bad = true
		return ""
	}
	s := string(r.b[n : n+int(v)])
	r.b = r.b[n+int(v):]
	return s
}

func (r *reader) terminal() wire.Terminal {
	o := wire.Terminal{State: wire.TaskState(r.text()), Error: r.text(), Reason: r.text(), CompletionReason: r.text(), Version: r.text()}
	r.bad = r.bad || !o.State.Final()
	return o
}

func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return errRecord
	}
	return nil
}

// sequence is the key of tasks and of finished ones: a number, so that keys sort by age and new ones are appended.
func sequence(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func decodeSequence(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("a key of %d bytes is not one of ours", len(key))
	}
	return binary.BigEndian.Uint64(key), nil
}
