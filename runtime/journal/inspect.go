package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Condition is how a journal was found.
type Condition struct {
	// Missing: there is none yet. InUse: a daemon has it open, so nothing else is known.
	Missing, InUse bool
	Size           int64
	// NoKey: the file that opens it is missing. It is no fault where the key is a credential.
	NoKey bool
}

// Inspect looks at the journal in dir without changing it. It holds no lock while it reads, so a daemon can start
// meanwhile; a journal that changed under its eyes counts as in use. The error says what is wrong with the file; it
// matches fs.ErrPermission where this user may not read it.
func Inspect(dir string) (Condition, error) {
	path := filepath.Join(dir, FileName)
	before, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Condition{Missing: true}, nil
	}
	if err != nil {
		return Condition{}, fmt.Errorf("look at journal %s: %w", path, bare(err))
	}
	c := Condition{Size: before.Size()}
	if _, err := os.Stat(filepath.Join(dir, KeyFileName)); errors.Is(err, fs.ErrNotExist) {
		c.NoKey = true
	}
	if c.InUse, err = locked(path); c.InUse || err != nil {
		return c, err
	}
	damage := verify(path)
	if damage == nil {
		return c, nil
	}
	after, err := os.Stat(path)
	if err != nil || after.ModTime() != before.ModTime() || after.Size() != before.Size() {
		c.InUse = true
		return c, nil
	}
	return c, fmt.Errorf("look at journal %s: %w", path, bare(damage))
}

// locked reports whether another process has the journal open.
func locked(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("look at journal %s: %w", path, bare(err))
	}
	defer f.Close() // gives the lock up
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
