package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/blocksd/blocksd/daemon"
	"github.com/blocksd/blocksd/daemon/logging"
)

// liveEvery is the time between updates of the live line.
const liveEvery = 500 * time.Millisecond

// liveLine keeps one line at the bottom of a terminal and writes everything else above it. Without a terminal there is
// no such line.
type liveLine struct {
	terminal bool
	mu       sync.Mutex // guards the fields that follow
	w        io.Writer
	line     string
}

func (a *app) newLiveLine() *liveLine { return &liveLine{terminal: isTerminal(a.Stdout), w: a.Stdout} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && logging.IsTerminal(f)
}

// eraseLine goes to the start of the line and clears it.
const eraseLine = "\r\x1b[K"

// Write puts p above the live line.
func (l *liveLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.line == "" {
		return l.w.Write(p)
	}
	text := append([]byte(eraseLine), p...)
	if bytes.HasSuffix(p, []byte("\n")) {
		text = append(text, l.line...)
	}
	if _, err := l.w.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l *liveLine) set(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if line == l.line {
		return
	}
	l.line = line
	fmt.Fprint(l.w, eraseLine+line)
}

// width is that of the terminal, 80 when it does not say.
func (l *liveLine) width() int {
	if f, ok := l.w.(*os.File); ok {
		if n := terminalWidth(f); n > 1 {
			return n
		}
	}
	return defaultWidth
}

// run shows the daemon's counters until ctx ends.
func (l *liveLine) run(ctx context.Context, d *daemon.Daemon) {
	if !l.terminal {
		<-ctx.Done() // the log shows what happens
		return
	}
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		n, all, s := online(d)
		text := fmt.Sprintf("%d of %d agents online, %d running, %d completed, %d failed, %d canceled", n, all, s.Tasks.Running, s.Tasks.Completed, s.Tasks.Failed, s.Tasks.Canceled)
		l.set(cut(text, l.width()-1)) // in the last column a terminal would go to the next line
		select {
		case <-ctx.Done():
			l.set("")
			fmt.Fprintln(l, "draining; press Ctrl-C again to cancel the running tasks")
			return
		case <-tick.C:
		}
	}
}
