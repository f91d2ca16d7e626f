package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
)

// notes shows people the warnings of a library, such as that the network is out of reach, one line each. It is silent
// until on is set: before a task is submitted, an error says the same.
type notes struct {
	w  io.Writer
	on atomic.Bool
}

// Enabled implements slog.Handler.
func (n *notes) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && n.on.Load()
}

// Handle implements slog.Handler. Of the attributes only the error is for people.
func (n *notes) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" {
			text += ": " + a.Value.String()
		}
		return true
	})
	_, err := fmt.Fprintln(n.w, "note: "+printable(strings.TrimSpace(text)))
	return err
}

// WithAttrs implements slog.Handler.
func (n *notes) WithAttrs([]slog.Attr) slog.Handler { return n }

// WithGroup implements slog.Handler.
func (n *notes) WithGroup(string) slog.Handler { return n }
