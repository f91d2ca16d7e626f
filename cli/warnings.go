package cli

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
)

// warningPrinter is a slog.Handler that prints the warnings of a library for people, one line each: that the network is
// out of reach, for example. It is silent until it gets say: until a task is submitted, the command's error says the same.
type warningPrinter struct {
	say atomic.Pointer[func(line string)]
}

func (p *warningPrinter) begin(say func(line string)) { p.say.Store(&say) }

// Enabled implements slog.Handler.
func (p *warningPrinter) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && p.say.Load() != nil
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
	(*p.say.Load())("warning: " + strings.TrimSpace(text))
	return nil
}

// WithAttrs implements slog.Handler.
func (p *warningPrinter) WithAttrs([]slog.Attr) slog.Handler { return p }

// WithGroup implements slog.Handler.
func (p *warningPrinter) WithGroup(string) slog.Handler { return p }
