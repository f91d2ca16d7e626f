package logpump

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of a buffer, for each handler.
const (
	bufferLines = 1000
	bufferBytes = 256 << 10
	// lineBytes is how much of a message or an attribute is kept.
	lineBytes = 4 << 10
	// followBuffer is how many records wait for a slow reader before it misses some.
	followBuffer = 256
)

// Record is one line of a handler.
type Record struct {
	Time    time.Time
	Handler string
	PID     int
	Level   slog.Level
	Message string
	Attrs   []Pair
	// Missed is the number of records before this one that a slow reader did not get.
	Missed int64
	// Crash makes the record the crash of a process, without its lines: they are the records before. Nil for a line.
	Crash *Crash
}

// Pair is an attribute as text.
type Pair struct{ Key, Value string }

func (r Record) size() int {
	n := len(r.Message) + 64
	if r.Crash != nil {
		for _, line := range r.Crash.Panic {
			n += len(line) + 16
		}
	}
	for _, a := range r.Attrs {
		n += len(a.Key) + len(a.Value) + 32
	}
	return n
}

// Crash is what is known of the last process of a handler that ended without being asked to.
type Crash struct {
	Time   time.Time
	PID    int // 0 when there was no process
	Reason string
	Text   string   // one sentence
	Panic  []string // from the first line of a panic or traceback on; empty when there was none
	Lines  []string // the last lines of output, oldest first
}

// Buffer keeps the last records of all handlers, and their last crashes, in bounded memory. The zero value is ready for use,
// and so is nil, which keeps nothing.
type Buffer struct {
	mu      sync.Mutex
	recent  map[string]*recent   // by handler; guarded by mu
	readers map[*reader]struct{} // guarded by mu
	crashes map[string]Crash     // by handler; guarded by mu
}

// recent is the last records of one handler, oldest first.
type recent struct {
	records []Record
	bytes   int
}

type reader struct {
	handler string // "" for all
	records chan Record
	missed  int64 // guarded by Buffer.mu
}

func (b *Buffer) add(r Record) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.addLocked(r)
}

func (b *Buffer) addLocked(r Record) {
	if b.recent == nil {
		b.recent = map[string]*recent{}
	}
	p := b.recent[r.Handler]
	if p == nil {
		p = &recent{}
		b.recent[r.Handler] = p
	}
	p.records = append(p.records, r)
	p.bytes += r.size()
	drop := 0
	for len(p.records)-drop > bufferLines || p.bytes > bufferBytes && len(p.records)-drop > 1 {
		p.bytes -= p.records[drop].size()
		p.records[drop] = Record{} // let go of its texts
		drop++
	}
	p.records = p.records[drop:] // append moves them to a new array from time to time
	for rd := range b.readers {
		if rd.handler != "" && rd.handler != r.Handler {
			continue
		}
		r.Missed = rd.missed
		select {
		case rd.records <- r:
			rd.missed = 0
		default:
			rd.missed++
		}
	}
}

// Tail returns the last n records of a handler, or of all for "", oldest first.
func (b *Buffer) Tail(handler string, n int) []Record {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tailLocked(handler, n)
}

func (b *Buffer) tailLocked(handler string, n int) []Record {
	var all []Record
	for name, p := range b.recent {
		if handler == "" || name == handler {
			all = append(all, p.records[max(0, len(p.records)-n):]...)
		}
	}
	if handler == "" {
		slices.SortStableFunc(all, func(x, y Record) int { return x.Time.Compare(y.Time) })
	}
	return all[max(0, len(all)-n):]
}

// Follow hands out the last n records and then each new one, without a gap between, until ctx ends or yield fails. A
// reader that is too slow misses records, and learns how many.
func (b *Buffer) Follow(ctx context.Context, handler string, n int, yield func(Record) error) error {
	rd := &reader{handler: handler, records: make(chan Record, followBuffer)}
	b.mu.Lock()
	if b.readers == nil {
		b.readers = map[*reader]struct{}{}
	}
	b.readers[rd] = struct{}{}
	before := b.tailLocked(handler, n)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.readers, rd)
	}()
	for _, r := range before {
		if err := yield(r); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-rd.records:
			if err := yield(r); err != nil {
				return err
			}
		}
	}
}

// SetCrash remembers a crash instead of the one before, and makes it a record.
func (b *Buffer) SetCrash(handler string, c Crash) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.crashes == nil {
		b.crashes = map[string]Crash{}
	}
	b.crashes[handler] = c
	c.Lines = nil
	b.addLocked(Record{Time: c.Time, Handler: handler, PID: c.PID, Level: slog.LevelError, Message: cutText(c.Text), Crash: &c})
}

// Crash returns the last crash of a handler.
func (b *Buffer) Crash(handler string) (Crash, bool) {
	if b == nil {
		return Crash{}, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.crashes[handler]
	return c, ok
}

// Forget drops what is kept of a handler that was removed.
func (b *Buffer) Forget(handler string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.recent, handler)
	delete(b.crashes, handler)
}

// cutText bounds a text of a record without breaking a character.
func cutText(s string) string {
	if len(s) > lineBytes {
		s = strings.ToValidUTF8(s[:lineBytes], "") + "…"
	}
	return s
}
