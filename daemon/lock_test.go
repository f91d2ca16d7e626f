package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStateLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := lockState(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the state directory %v, %v", info.Mode(), err)
	}
	_, err = lockState(dir, slog.New(slog.DiscardHandler))
	want := fmt.Sprintf("use state directory %s: the daemon with pid %d holds it: stop that one or choose another with --state-dir", dir, os.Getpid())
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	second, err := lockState(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("a released state directory is not free: %v", err)
	}
	if err := second.release(); err != nil {
		t.Fatal(err)
	}
}

func TestStateLockOnWhatIsNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := lockState(file, slog.New(slog.DiscardHandler))
	if want := "use state directory " + file + ": make it: not a directory: choose another with --state-dir"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// A state directory that others may write to is taken from them, and one that is everybody's by intent is not used.
func TestStateDirectoryIsClosed(t *testing.T) {
	for mode, want := range map[os.FileMode]os.FileMode{0o770: 0o750, 0o777: 0o755, 0o755: 0o755, 0o700: 0o700, 0o777 | os.ModeSticky: 0} {
		dir := t.TempDir()
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		l, err := lockState(dir, slog.New(slog.NewTextHandler(&log, nil)))
		if want == 0 {
			if err == nil || !strings.Contains(err.Error(), "lets others than its owner write to it: run chmod go-w") {
				t.Errorf("mode %v: %v", mode, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("mode %v: %v", mode, err)
		}
		info, err := os.Stat(dir)
		if err = errors.Join(err, l.release()); err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want || (log.Len() > 0) != (want != mode) {
			t.Errorf("mode %v became %v, and the log says %q", mode, info.Mode(), &log)
		}
	}
}
