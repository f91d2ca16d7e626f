package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Interrupts are the first and the second signal that asks the program to end. The first asks nicely, the second says
// hurry; a third ends the process on the spot. Nil channels never fire.
type Interrupts struct{ First, Second <-chan struct{} }

// exitKilled is that of a process that was interrupted the hard way.
const exitKilled = 130

func catchSignals() (in Interrupts, stop func()) {
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	first, second, quit := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		for count := 1; ; count++ {
			select {
			case <-quit:
				return
			case <-signals:
			}
			switch count {
			case 1:
				close(first)
			case 2:
				close(second)
			default:
				os.Exit(exitKilled)
			}
		}
	}()
	return Interrupts{first, second}, func() {
		signal.Stop(signals)
		close(quit)
	}
}

// interruptible ends with ctx, or with cause errInterrupted at the first interrupt.
func (a *app) interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-a.Interrupts.First:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}
