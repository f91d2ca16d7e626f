package cli

import (
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

const (
	// stacksFile in the state directory is what the goroutines were doing when the watchdog ended the daemon.
	stacksFile = "watchdog-stacks.txt"
	// maxStacks bounds its bytes.
	maxStacks = 16 << 20
	// exitAborted is what Go ends with on SIGABRT.
	exitAborted = 2
)

// stacksOnAbort makes SIGABRT, with which systemd's watchdog ends a daemon that hangs, write what all goroutines are doing
// into a file in dir and one record about it into the log. Go itself would write thousands of lines to standard error, each a
// record of the journal. closeLog is called before the process ends.
func stacksOnAbort(dir string, log *slog.Logger, closeLog func()) (stop func()) {
	signals, quit, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, syscall.SIGABRT)
	go func() {
		defer close(done)
		select {
		case <-quit:
			return
		case <-signals:
		}
		const what = "the daemon was ended by SIGABRT, which systemd's watchdog sends to a daemon that does not answer"
		path := filepath.Join(dir, stacksFile)
		if err := os.WriteFile(path, stacks(maxStacks), 0o600); err != nil {
			log.Error(what+"; what it was doing could not be written down", "err", err)
		} else {
			log.Error(what+": see what it was doing", "stacks", path)
		}
		closeLog()
		os.Exit(exitAborted)
	}()
	return func() {
		signal.Stop(signals)
		close(quit)
		<-done
	}
}

// stacks returns the stacks of all goroutines, cut at limit bytes.
func stacks(limit int) []byte {
	for size := 1 << 20; ; size *= 2 {
		size = min(size, limit)
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size == limit {
			return b[:n]
		}
	}
}
