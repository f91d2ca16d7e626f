package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// systemd is the other end of a notify socket.
type systemd struct {
	path string
	conn *net.UnixConn
}

func newSystemd(t *testing.T) *systemd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "n")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &systemd{path, conn}
}

// next returns the next message.
func (s *systemd) next(t *testing.T) string {
	t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(waitLimit)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := s.conn.Read(buf)
	if err != nil {
		t.Fatalf("systemd was not told: %v", err)
	}
	return string(buf[:n])
}

// mark sends a message of the test's own: what comes before it was sent before. The room of the socket may be taken, so it
// waits in the background until the test reads.
func (s *systemd) mark(t *testing.T, text string) {
	t.Helper()
	conn, err := net.Dial("unixgram", s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() { _, _ = conn.Write([]byte(text)) }() // next notices that it has not come
}

func (s *systemd) env(more map[string]string) func(string) string {
	return func(name string) string {
		if name == "NOTIFY_SOCKET" {
			return s.path
		}
		return more[name]
	}
}

var quiet = slog.New(slog.DiscardHandler)

func TestNotifierWithoutSystemd(t *testing.T) {
	n := newNotifier(func(string) string { return "" }, 1, quiet)
	n.send(notifyReady)
	n.watch(t.Context(), func(context.Context) error { t.Error("asked without a watchdog"); return nil })
}

func TestWatchdogIsForOnePid(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"30000000", "", 30 * time.Second}, {"30000000", "7", 30 * time.Second}, {"30000000", "8", 0}, {"", "", 0}, {"x", "", 0}, {"-1", "", 0},
	} {
		env := map[string]string{"WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}
		if got := newNotifier(func(n string) string { return env[n] }, 7, quiet).watchdog; got != c.want {
			t.Errorf("usec %q, pid %q: %s, want %s", c.usec, c.pid, got, c.want)
		}
	}
}

// The watchdog hears from us only while the daemon answers itself.
func TestWatchdogFollowsLiveness(t *testing.T) {
	s := newSystemd(t)
	n := newNotifier(s.env(map[string]string{"WATCHDOG_USEC": "20000"}), 1, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	alive, asked := true, make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		n.watch(ctx, func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if !alive {
				select {
				case asked <- struct{}{}:
				default:
				}
				return errors.New("stuck")
			}
			return nil
		})
	})
	for range 3 {
		if got := s.next(t); got != "WATCHDOG=1" {
			t.Fatalf("systemd was told %q", got)
		}
	}
	mu.Lock()
	alive = false
	mu.Unlock()
	<-asked // one check fails: what was sent before it is older than the mark
	s.mark(t, "stuck")
	for s.next(t) != "stuck" {
	}
	<-asked
	<-asked
	s.mark(t, "still stuck")
	if got := s.next(t); got != "still stuck" {
		t.Errorf("the watchdog heard %q from a daemon that is stuck", got)
	}
	cancel()
	wg.Wait()
}

func TestExtend(t *testing.T) {
	s := newSystemd(t)
	n := newNotifier(s.env(nil), 1, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { n.extend(ctx) })
	if got, want := s.next(t), fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extendBy.Microseconds()); got != want {
		t.Errorf("systemd was told %q, want %q", got, want)
	}
	cancel()
	wg.Wait()
}

func TestSlots(t *testing.T) {
	s := newTaskSlots(2)
	for i, want := range []bool{true, true, false} {
		if got := s.TryAcquire(); got != want {
			t.Errorf("slot %d: %t, want %t", i, got, want)
		}
	}
	s.Release()
	if !s.TryAcquire() {
		t.Error("a slot given back is not free")
	}
}
