package logging_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blocksd/blocksd/daemon/logging"
)

// stuck is a reader of a log that reads nothing until it is let.
type stuck struct {
	entered, let chan struct{}
	once         sync.Once

	mu  sync.Mutex
	got bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.entered) })
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

// TestStuckReader: whoever logs goes on while nobody reads; when somebody reads again he gets what there was room for, in
// order, and is told how much is missing.
func TestStuckReader(t *testing.T) {
	out := &stuck{entered: make(chan struct{}), let: make(chan struct{})}
	p := logging.NewPump(out)
	log, _, err := logging.New(logging.Config{Writer: p, Level: "info", Format: "text"})
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan int, 10)
	p.Lost = func(n int) {
		log.Warn("records left out", "count", n)
		told <- n
	}
	log.Info("first")
	<-out.entered
	filler := strings.Repeat("x", 1000)
	const many = 3000 // more than there is room for
	for i := range many {
		log.Info("more", "n", i, "filler", filler)
	}
	close(out.let)
	var lost int
	select {
	case lost = <-told:
	case <-time.After(3 * time.Minute):
		t.Fatal("nobody was told that records are missing")
	}
	p.Close()
	log.Info("too late")
	out.mu.Lock()
	defer out.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(out.got.String()), "\n")
	if !strings.Contains(lines[0], "first") || !strings.Contains(lines[1], "n=0 ") || !strings.Contains(lines[len(lines)-1], "records left out") {
		t.Errorf("log begins %.80q, %.80q and ends %.80q", lines[0], lines[1], lines[len(lines)-1])
	}
	if got := len(lines) - 2; got+lost != many || lost == 0 || got < 500 {
		t.Errorf("%d records came and %d were counted as left out, of %d", got, lost, many)
	}
}

// TestLostAtTheEnd: what was left out is told also when the log is read again only at the end.
func TestLostAtTheEnd(t *testing.T) {
	out := &stuck{entered: make(chan struct{}), let: make(chan struct{})}
	p := logging.NewPump(out)
	p.Lost = func(n int) { fmt.Fprintf(p, "%d left out\n", n) }
	fmt.Fprintln(p, "first")
	<-out.entered
	for range 3 {
		fmt.Fprintln(p, strings.Repeat("x", 1<<19))
	}
	time.AfterFunc(10*time.Millisecond, func() { close(out.let) }) // most likely during Close
	p.Close()
	out.mu.Lock()
	defer out.mu.Unlock()
	if got := out.got.String(); !strings.HasSuffix(got, "\n2 left out\n") {
		t.Errorf("the log ends %q", got[max(0, len(got)-40):])
	}
}

// TestPumpFlushes: what was logged before the end is in the log.
func TestPumpFlushes(t *testing.T) {
	var out bytes.Buffer
	p := logging.NewPump(&out)
	log := slog.New(slog.NewTextHandler(p, nil))
	for range 1000 {
		log.Info("x")
	}
	p.Close()
	if n := strings.Count(out.String(), "\n"); n != 1000 {
		t.Errorf("%d of 1000 records", n)
	}
	if n, err := io.WriteString(p, "later"); n != 5 || err != nil {
		t.Error(n, err)
	}
}
