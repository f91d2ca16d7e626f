// Package logging sets up the daemon's log: text for people and for the journal, JSON for everything else.
package logging

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Config of a logger.
type Config struct {
	// Writer receives one Write per record.
	Writer io.Writer
	// Level is debug, info, warn or error.
	Level string
	// Format is text, json or auto: text on a terminal and for the journal, else JSON.
	Format string
	// Journal puts the priority of each record before it, as the journal understands it (sd-daemon(3)), and leaves out
	// the time, which the journal adds.
	Journal bool
	// Terminal says that Writer is one; only for the format auto.
	Terminal bool
}

// New returns a logger and its level, which may be changed at any time.
func New(c Config) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.Level))); err != nil {
		return nil, nil, fmt.Errorf("log level must be debug, info, warn or error, not %q", c.Level)
	}
	format := c.Format
	if format == "auto" {
		format = "json"
		if c.Journal || c.Terminal {
			format = "text"
		}
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: withUnit}
	if c.Journal {
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr { return withUnit(groups, dropTime(groups, a)) }
	}
	var make func(io.Writer) slog.Handler
	switch format {
	case "text":
		make = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, options) }
	case "json":
		make = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, options) }
	default:
		return nil, nil, fmt.Errorf("log format must be auto, text or json, not %q", c.Format)
	}
	if !c.Journal {
		return slog.New(make(c.Writer)), level, nil
	}
	out := &journal{w: c.Writer}
	return slog.New(&journalHandler{out: out, inner: make(out)}), level, nil
}

// InJournal reports whether f is connected to the systemd journal: JOURNAL_STREAM holds the device and inode of the
// stream that systemd gave us, and f may have been redirected since.
func InJournal(f *os.File, journalStream string) bool {
	var dev, ino uint64
	if n, err := fmt.Sscanf(journalStream, "%d:%d", &dev, &ino); n != 2 || err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && uint64(st.Dev) == dev && st.Ino == ino
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}

// withUnit makes a duration text, such as 1.5s. In JSON it would be a number of nanoseconds, which nothing says.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

func dropTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// journal writes records behind their priority. mu guards the fields that follow and makes a record one Write.
type journal struct {
	mu       sync.Mutex
	w        io.Writer
	priority int
	buf      bytes.Buffer
}

// Write is called by the inner handler while mu is held by journalHandler.Handle.
func (j *journal) Write(record []byte) (int, error) {
	j.buf.Reset()
	fmt.Fprintf(&j.buf, "<%d>", j.priority)
	j.buf.Write(record)
	if _, err := j.w.Write(j.buf.Bytes()); err != nil {
		return 0, err
	}
	return len(record), nil
}

type journalHandler struct {
	out   *journal
	inner slog.Handler
}

func (h *journalHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.inner.Enabled(ctx, l)
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.priority = priority(r.Level)
	return h.inner.Handle(ctx, r)
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{h.out, h.inner.WithAttrs(attrs)}
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{h.out, h.inner.WithGroup(name)}
}

// priority maps a level to that of syslog(3).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
