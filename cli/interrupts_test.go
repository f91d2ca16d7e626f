package cli

import (
	"bytes"
	"errors"
	"log/slog"
	"syscall"
	"testing"
	"time"
)

func TestSignals(t *testing.T) {
	in, stop := catchSignals()
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
			t.Fatalf("%s is not noticed", step.signal)
		}
	}
}

func TestNotes(t *testing.T) {
	var out bytes.Buffer
	n := &notes{w: &out}
	log := slog.New(n).With("channel", "u.x").WithGroup("g")
	log.Warn("too early")
	n.on.Store(true)
	log.Info("not worth it")
	log.Warn("subscription lost", "attempt", 1, "err", errors.New("no\nroute"))
	if got, want := out.String(), "note: subscription lost: no route\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
