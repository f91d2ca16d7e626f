package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/blocksd/blocksd/internal/shell"
)

// stateLock keeps a second daemon from the same state directory. The kernel drops it with the process, however that
// ends; the pid in the file is only for the message.
type stateLock struct{ file *os.File }

func lockState(dir string, log *slog.Logger) (*stateLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("use state directory %s: make it: %w: choose another with --state-dir", dir, bare(err))
	}
	if err := closeState(dir, log); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("use state directory %s: open its lock: %w: choose another with --state-dir", dir, bare(err))
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		pid, _ := io.ReadAll(io.LimitReader(f, 32))
		return nil, errors.Join(fmt.Errorf("use state directory %s: the daemon with pid %s holds it: stop that one or choose another with --state-dir",
			dir, orUnknown(strings.TrimSpace(string(pid)))), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("use state directory %s: lock it: %w", dir, err), f.Close())
	}
	// The file stays when we go: removing it would let two daemons lock two files of the same name.
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		return nil, errors.Join(fmt.Errorf("use state directory %s: write its lock: %w", dir, bare(err)), f.Close())
	}
	return &stateLock{f}, nil
}

// closeState takes the state directory from others who may write it: they could put another journal, other pins and other programs in
// place of ours. A directory that is everybody's by intent is left as it is, and not used.
func closeState(dir string, log *slog.Logger) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("use state directory %s: %w: choose another with --state-dir", dir, bare(err))
	}
	if info.Mode().Perm()&0o022 == 0 {
		return nil
	}
	if info.Mode()&fs.ModeSticky == 0 {
		if err = os.Chmod(dir, info.Mode().Perm()&^0o022); err == nil {
			log.Warn("the state directory could be written by others than its owner; its mode was corrected", "path", dir)
			return nil
		}
	}
	return fmt.Errorf("use state directory %s: its mode %04o lets others than its owner write to it: run chmod go-w %s, or choose one of its own with --state-dir", dir, info.Mode().Perm(), shell.Word(dir))
}

func (l *stateLock) release() error { return l.file.Close() }

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

// bare is the reason of an error of package os, without the operation and path that our sentence names.
func bare(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
