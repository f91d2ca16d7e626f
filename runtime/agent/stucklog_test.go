package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/dispatch"
	"github.com/blocksd/blocksd/network/wire"
)

// toldDispatcher says when it has told how a task ended.
type toldDispatcher struct {
	*FuncDispatcher
	told chan struct{}
}

func (d toldDispatcher) Start(ctx context.Context, handler string, task *wire.Task, port dispatch.TaskPort, done func(error)) {
	d.FuncDispatcher.Start(ctx, handler, task, port, func(err error) {
		done(err)
		close(d.told)
	})
}

// blockedLog takes no record with a text until it is released.
type blockedLog struct {
	slog.Handler
	text     string
	released chan struct{}
}

func (l *blockedLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *blockedLog) WithAttrs([]slog.Attr) slog.Handler       { return l }

func (l *blockedLog) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, l.text) {
		<-l.released
	}
	return nil
}

// TestStuckLogOfFailure: whoever tells how a task ended, and has its slot to give back, does not wait for the log.
func TestStuckLogOfFailure(t *testing.T) {
	n := newNetwork(t, true)
	log := &blockedLog{Handler: slog.DiscardHandler, text: "did not finish", released: make(chan struct{})}
	d := toldDispatcher{NewFuncDispatcher(func(context.Context, *wire.Task, dispatch.TaskPort) error { return errors.New("it fails") }), make(chan struct{})}
	a := n.serve(cardOf(t, "worker", 1, ""), d, func(c *Config) { c.Log = slog.New(log) })
	defer close(log.released)
	a.await(StateOnline)
	a.control(startTask("t1", ""))
	n.terminal("t1")
	select {
	case <-d.told:
	case <-time.After(patience):
		t.Error("the end is not told while the log is stuck")
	}
}
