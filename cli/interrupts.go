package cli

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/blocksd/blocksd/daemon/logging"
)

// Interrupts are closed at the first and the second signal that asks the program to end. The first ends it properly, the
// second at once; a third exits on the spot. Nil channels never fire.
type Interrupts struct {
	First, Second <-chan struct{}
	// Hangups makes SIGHUP a request to read the configuration again: from the call on, each is a value in the channel and
	// interrupts nothing. Nil where SIGHUP cannot be had, and where the terminal that the program was started on is gone.
	Hangups func() <-chan struct{}
}

// exitKilled is the exit code after the third signal, as for a process that SIGINT has killed.
const exitKilled = 130

// repeatWindow is how long after a signal another one counts as the same: a shell sends SIGHUP twice when its terminal
// closes, and timeout(1) signals the process and then its group.
const repeatWindow = time.Second

// interruptCounter counts the signals that ask the program to end.
type interruptCounter struct {
	window time.Duration
	count  int
	last   time.Time
}

// take returns the number of a signal that arrives at now, and whether it is a new one.
func (c *interruptCounter) take(now time.Time) (number int, isNew bool) {
	if c.count > 0 && now.Sub(c.last) < c.window {
		return c.count, false
	}
	c.count, c.last = c.count+1, now
	return c.count, true
}

// hangups are SIGHUPs of a program that has asked for them.
type hangups struct {
	asked atomic.Bool
	// terminal is the one that the program was started on, nil for none. When that is closed, SIGHUP means what it always has.
	terminal *os.File
	signals  chan struct{} // capacity 1: two at once are one
}

// take reports whether a SIGHUP is a request that has been passed on.
func (h *hangups) take() bool {
	if !h.asked.Load() || h.terminal != nil && !logging.IsTerminal(h.terminal) {
		return false
	}
	select {
	case h.signals <- struct{}{}:
	default:
	}
	return true
}

// catchSignals counts SIGINT, SIGTERM and SIGHUP. If SIGHUP is ignored at the start, as under nohup, it stays ignored.
func catchSignals(window time.Duration) (in Interrupts, stop func()) {
	signals := make(chan os.Signal, 3)
	caught := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		caught = append(caught, syscall.SIGHUP)
	}
	signal.Notify(signals, caught...)
	hup := &hangups{signals: make(chan struct{}, 1)}
	if logging.IsTerminal(os.Stdin) {
		hup.terminal = os.Stdin
	}
	first, second, quit := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		counter := interruptCounter{window: window}
		for {
			select {
			case <-quit:
				return
			case s := <-signals:
				if s == syscall.SIGHUP && hup.take() {
					continue
				}
			}
			number, isNew := counter.take(time.Now())
			switch {
			case !isNew:
			case number == 1:
				close(first)
			case number == 2:
				close(second)
			default:
				os.Exit(exitKilled)
			}
		}
	}()
	ask := func() <-chan struct{} {
		hup.asked.Store(true)
		return hup.signals
	}
	return Interrupts{first, second, ask}, func() {
		signal.Stop(signals)
		close(quit)
	}
}

// surviveBrokenPipes keeps the process alive when the reader of its standard output or error has ended: writes fail, but
// the process continues. Otherwise the next log record would kill the daemon and cut off its tasks. The signal is caught
// and not ignored, because handlers would inherit an ignored signal. It says nothing: a connection that breaks off sends it,
// too, as long as it is caught.
func surviveBrokenPipes() (stop func()) {
	broken := make(chan os.Signal, 1) // needs no reader
	signal.Notify(broken, syscall.SIGPIPE)
	return func() { signal.Stop(broken) }
}

// interruptible returns a context that ends with ctx, or with the cause errInterrupted at the first interrupt.
func (a *app) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return until(ctx, a.Interrupts.First)
}

// interruptibleAgain is interruptible for what comes later: if the first interrupt has ended something else, the second
// counts.
func (a *app) interruptibleAgain(ctx context.Context) (context.Context, context.CancelFunc) {
	return until(ctx, a.nextInterrupt())
}

// nextInterrupt is the first interrupt, or the second if the first has come.
func (a *app) nextInterrupt() <-chan struct{} {
	select {
	case <-a.Interrupts.First:
		return a.Interrupts.Second
	default:
		return a.Interrupts.First
	}
}

func until(ctx context.Context, interrupted <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-interrupted:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}
