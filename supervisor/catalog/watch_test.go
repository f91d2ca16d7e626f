package catalog

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// One call after each burst of changes, and some while changes do not end.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changes := make(chan struct{}, 1)
		began := time.Now()
		var fired []time.Duration
		go debounce(ctx, changes, 500*time.Millisecond, 5*time.Second, func() { fired = append(fired, time.Since(began)) })
		burst := func(n int) {
			for range n {
				changes <- struct{}{}
				time.Sleep(100 * time.Millisecond)
			}
		}
		burst(3) // at 0, 100 and 200 ms
		time.Sleep(9700 * time.Millisecond)
		burst(60) // from 10 s to 15.9 s
		time.Sleep(time.Minute)
		cancel()
		synctest.Wait()
		want := []time.Duration{700 * time.Millisecond, 15 * time.Second, 16400 * time.Millisecond}
		if d := cmp.Diff(want, fired); d != "" {
			t.Error(d)
		}
	})
}

func TestWatch(t *testing.T) {
	dir := plugins(t)
	late := filepath.Join(dir, "late")
	changed := make(chan struct{}, 10000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, WatchConfig{
			Dirs: []string{dir, late}, Log: slog.New(slog.DiscardHandler), Quiet: time.Millisecond, Rescan: time.Hour,
			Changed: func() { changed <- struct{}{} },
		})
	}()
	defer func() { cancel(); <-done }()
	await := func(what string) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("not told about %s", what)
		}
	}
	await("the beginning")
	file(t, filepath.Join(dir, "new"), "x", 0o755)
	await("a new file")
	if err := os.Remove(filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	await("a file that is gone")
	if err := os.Mkdir(late, 0o755); err != nil {
		t.Fatal(err)
	}
	await("a new directory")
	file(t, filepath.Join(late, "new"), "x", 0o755)
	await("a file in it")
}

// Of a file's directory only the file counts.
func TestWatchFile(t *testing.T) {
	dir := plugins(t)
	changed := make(chan struct{}, 10000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, WatchConfig{
			Files: []string{filepath.Join(dir, "pins")}, Log: slog.New(slog.DiscardHandler), Quiet: 500 * time.Millisecond, Rescan: time.Hour,
			Changed: func() { changed <- struct{}{} },
		})
	}()
	defer func() { cancel(); <-done }()
	<-changed // the beginning
	// Others change all the time, which must not hold back the news about this one.
	stop := make(chan struct{})
	noise := make(chan struct{})
	go func() {
		defer close(noise)
		for {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(filepath.Join(dir, "journal"), nil, 0o600)
			}
		}
	}()
	file(t, filepath.Join(dir, "pins"), "x", 0o644)
	select {
	case <-changed:
	case <-time.After(20 * time.Second):
		t.Error("not told")
	}
	close(stop)
	<-noise
	if n := len(changed); n > 1 {
		t.Errorf("told %d times more", n)
	}
}
