package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
)

// warningPrinter is a slog.Handler that prints the warnings of a library for people, one line each: that the network is
// out of reach, for example. It is silent until on is set: until a task is submitted, the command's error says the same.
type warningPrinter struct {
	w  io.Writer
	on atomic.Bool
}

// Enabled implements slog.Handler.
func (p *warningPrinter) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && p.on.Load()
}

// Handle implements slog.Handler. The only attribute that it prints is the error.
func (p *warningPrinter) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" {
			text += ": " + a.Value.String()
		}
		return true
	})
	_, err := fmt.Fprintln(p.w, "warning: "+printable(strings.TrimSpace(text)))
	return err
}

// WithAttrs implements slog.Handler.
func (p *warningPrinter) WithAttrs([]slog.Attr) slog.Handler { return p }

// WithGroup implements slog.Handler.
func (p *warningPrinter) WithGroup(string) slog.Handler { return p }
