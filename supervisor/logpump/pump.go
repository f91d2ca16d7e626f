// Package logpump turns what handlers write into log records of the daemon, and keeps the last lines for crash records.
// It reads to the end of the output, so that a handler never blocks on a full pipe, and its memory is bounded whatever is
// written.
package logpump

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Limits of a pump.
const (
	MaxLine = 64 << 10 // bytes of a line; the rest is dropped and the record says so
	Kept    = 200      // lines kept for the crash record
	// maxSkew is how far a handler's own time may be from ours before the record gets ours.
	maxSkew = time.Minute
)

// Config of a pump.
type Config struct {
	// Log receives the records. Its attributes say which handler and process wrote them.
	Log *slog.Logger
	// Now defaults to time.Now.
	Now func() time.Time
	// Buffer keeps the records for later, under the name Handler; nil keeps none.
	Buffer  *Buffer
	Handler string
}

// Pump takes the output of one process, from several sources at once.
type Pump struct {
	log     *slog.Logger
	now     func() time.Time
	buffer  *Buffer
	handler string
	pid     int
	ring    ring
	panics  panicText
	limit   limiter
}

// New returns a pump.
func New(c Config) (*Pump, error) {
	if c.Log == nil {
		return nil, errors.New("logpump: Config.Log is missing")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Pump{log: c.Log, now: c.Now, buffer: c.Buffer, handler: c.Handler, ring: ring{size: Kept}}, nil
}

// SetProcess names the process once it runs, and replaces the log by one that names it too. Call it before the first line.
func (p *Pump) SetProcess(pid int, log *slog.Logger) { p.pid, p.log = pid, log }

// Close logs how many lines were dropped since the last report, if any. Call it after the last line.
func (p *Pump) Close() { p.reportDropped(true) }

func (p *Pump) reportDropped(closed bool) {
	if n := p.limit.take(closed); n > 0 {
		lines := "lines"
		if n == 1 {
			lines = "line"
		}
		p.write(Entry{Level: slog.LevelWarn, Message: fmt.Sprintf("dropped %d %s of output that came faster than %d a second", n, lines, Rate), Attrs: []slog.Attr{slog.Int64("dropped", n)}}, false)
	}
}

// Note makes something that is not output of the handler a record beside it: why a task of the handler failed. The log has
// it from elsewhere.
func (p *Pump) Note(level slog.Level, message string, attrs ...Pair) {
	r := Record{Time: p.now(), Handler: p.handler, PID: p.pid, Level: level, Message: cutText(strings.ToValidUTF8(message, "\uFFFD"))}
	for _, a := range attrs {
		r.Attrs = append(r.Attrs, Pair{a.Key, cutText(a.Value)})
	}
	p.buffer.add(r)
}

// Panic returns the first lines of the last panic or traceback, as the handler wrote them.
func (p *Pump) Panic() []string { return p.panics.get() }

// Copy reads lines from r until it ends, whatever the reason.
func (p *Pump) Copy(r io.Reader) {
	var s source
	br := bufio.NewReaderSize(r, MaxLine)
	for {
		line, err := br.ReadSlice('\n')
		cut := errors.Is(err, bufio.ErrBufferFull)
		if len(line) > 0 {
			p.line(&s, line, cut)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = br.ReadSlice('\n')
		}
		if err != nil {
			return
		}
	}
}

// Tail returns the last n lines, oldest first.
func (p *Pump) Tail(n int) []string { return p.ring.last(n) }

func (p *Pump) line(s *source, line []byte, cut bool) {
	line = bytes.TrimRight(line, "\r\n")
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	p.ring.add(line)
	e := Parse(line)
	if inside, first := s.take(line, e.structured); inside {
		e.Level = max(e.Level, slog.LevelError)
		p.panics.add(line, first)
	}
	if p.limit.allow(p.now(), len(line), e.Level >= slog.LevelError, func() { p.reportDropped(false) }) {
		p.write(e, cut)
	}
}

// write hands a record to the buffer, whatever its level, and to the log.
func (p *Pump) write(e Entry, cut bool) {
	at := p.now()
	if d := at.Sub(e.Time); d > -maxSkew && d < maxSkew {
		at = e.Time
	}
	if cut {
		e.Attrs = append(e.Attrs, slog.Bool("cut", true))
	}
	if p.buffer != nil {
		r := Record{Time: at, Handler: p.handler, PID: p.pid, Level: e.Level, Message: cutText(e.Message)}
		for _, a := range e.Attrs {
			r.Attrs = append(r.Attrs, Pair{cutText(a.Key), cutText(a.Value.String())})
		}
		p.buffer.add(r)
	}
	ctx := context.Background()
	if !p.log.Enabled(ctx, e.Level) {
		return
	}
	r := slog.NewRecord(at, e.Level, e.Message, 0)
	r.AddAttrs(e.Attrs...)
	_ = p.log.Handler().Handle(ctx, r) // a log that cannot be written must not stop the reading
}

// Writer is a stream of lines for writers that bring their output in pieces. Close it to emit an unfinished last line.
type Writer struct {
	pump *Pump
	mu   sync.Mutex
	s    source // guarded by mu, like the fields below
	buf  []byte
	cut  bool
}

// Writer returns a new stream of lines.
func (p *Pump) Writer() *Writer { return &Writer{pump: p} }

// Write never fails.
func (w *Writer) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(b)
	for {
		line, rest, found := bytes.Cut(b, []byte("\n"))
		if room := MaxLine - len(w.buf); len(line) > room {
			line, w.cut = line[:room], true
		}
		w.buf = append(w.buf, line...)
		if !found {
			return n, nil
		}
		w.flushLocked()
		b = rest
	}
}

// Close emits what is left.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushLocked()
	return nil
}

func (w *Writer) flushLocked() {
	if len(w.buf) > 0 {
		w.pump.line(&w.s, w.buf, w.cut)
	}
	w.buf, w.cut = w.buf[:0], false
}
