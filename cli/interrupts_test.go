package cli

import (
	"bytes"
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

func TestSignals(t *testing.T) {
	in, stop := catchSignals(0) // every signal counts
	defer stop()
	select {
	case <-in.First:
		t.Fatal("interrupted without a signal")
	default:
	}
	for _, step := range []struct {
		signal syscall.Signal
		done   <-chan struct{}
	}{{syscall.SIGTERM, in.First}, {syscall.SIGHUP, in.Second}} {
		if err := syscall.Kill(syscall.Getpid(), step.signal); err != nil {
			t.Fatal(err)
		}
		select {
		case <-step.done:
		case <-time.After(callLimit):
			t.Fatalf("%s was not noticed", step.signal)
		}
	}
}

func TestRepeatedSignals(t *testing.T) {
	c := interruptCounter{window: time.Second}
	begin := time.Unix(0, 0)
	for _, step := range []struct {
		at     time.Duration
		number int
		isNew  bool
	}{{0, 1, true}, {time.Millisecond, 1, false}, {999 * time.Millisecond, 1, false}, {time.Second, 2, true}, {1500 * time.Millisecond, 2, false}, {time.Hour, 3, true}} {
		if number, isNew := c.take(begin.Add(step.at)); number != step.number || isNew != step.isNew {
			t.Errorf("the signal after %v is number %d, new %t", step.at, number, isNew)
		}
	}
}

func TestWarningPrinter(t *testing.T) {
	var out bytes.Buffer
	p := &warningPrinter{}
	log := slog.New(p).With("channel", "u.x").WithGroup("g")
	log.Warn("too early")
	p.begin((&callPrinter{errors: &out}).remark)
	log.Info("not worth it")
	log.Warn("subscription lost", "attempt", 1, "err", errors.New("no\nroute"))
	if got, want := out.String(), "warning: subscription lost: no route\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A SIGHUP is a request to reload once somebody has asked for those, unless the terminal is gone.
func TestHangups(t *testing.T) {
	h := &hangups{signals: make(chan struct{}, 1)}
	if h.take() {
		t.Error("nobody has asked, but it is taken")
	}
	h.asked.Store(true)
	taken := []bool{h.take(), h.take()}
	if !taken[0] || !taken[1] || len(h.signals) != 1 {
		t.Errorf("two at once are not one: %d", len(h.signals))
	}
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	h.terminal = slave
	if !h.take() {
		t.Error("with its terminal it is not taken")
	}
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	if h.take() {
		t.Error("the terminal was closed, but it is taken for a request to reload")
	}
}
