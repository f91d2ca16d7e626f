//go:build linux

package launch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// chain makes directories in each other, each with a mode in the end, and with a link in each.
func chain(dir string, depth int, mode uint32) error {
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range depth {
		if err != nil {
			return err
		}
		next := -1
		if err = unix.Mkdirat(at, "d", 0o700); err == nil {
			next, err = unix.Openat(at, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
		if err == nil {
			err = errors.Join(unix.Symlinkat("/", at, "link"), unix.Fchmod(at, mode))
		}
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	return err
}

// few leaves this process only some descriptors more than it has.
func few(t *testing.T) {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(len(open)) + 32, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
}

// asNobody runs f on a thread without the rights of root.
func asNobody(f func() error) error {
	if os.Geteuid() != 0 {
		return f()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		_ = unix.Setfsuid(54391)
		result <- f()
	}()
	return <-result
}

// However deep a tree is, and whatever its owner has closed, it is removed with a few descriptors.
func TestRemoveTree(t *testing.T) {
	few(t)
	for name, mode := range map[string]uint32{"deep": 0o700, "closed": 0, "for reading only": 0o500, "for writing only": 0o300} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			dir := filepath.Join(base, "p-1")
			for d := base; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
				if err := os.Chmod(d, 0o777); err != nil {
					t.Fatal(err)
				}
			}
			err := asNobody(func() error {
				if err := errors.Join(os.Mkdir(dir, 0o700), chain(dir, 2000, mode)); err != nil {
					return err
				}
				return RemoveTree(dir, nil)
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
		})
	}
}

func TestRemoveTreeOfManyFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "p-1")
	for i := range 3 {
		sub := filepath.Join(dir, fmt.Sprint("sub", i), "sub")
		if err := os.MkdirAll(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		for j := range maxNames + 5 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(j)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := RemoveTree(dir, nil); err != nil {
		t.Fatal(err)
	}
	if err := RemoveTree(dir, nil); err != nil {
		t.Errorf("one that is gone: %v", err)
	}
}

// A link in the place of the directory is left alone, and so is where it leads.
func TestRemoveTreeFollowsNoLink(t *testing.T) {
	base := t.TempDir()
	kept, link := filepath.Join(base, "kept"), filepath.Join(base, "p-1")
	if err := errors.Join(os.Mkdir(kept, 0o700), os.WriteFile(filepath.Join(kept, "file"), nil, 0o600), os.Symlink(kept, link)); err != nil {
		t.Fatal(err)
	}
	if err := RemoveTree(link, nil); err == nil {
		t.Error("a link counts as a directory")
	}
	if _, err := os.Stat(filepath.Join(kept, "file")); err != nil {
		t.Error(err)
	}
}

func TestRemoveTreeIsGivenUp(t *testing.T) {
	stop := make(chan struct{})
	close(stop)
	for depth, want := range map[int]error{10: nil, 1000: errGivenUp} {
		dir := filepath.Join(t.TempDir(), "p-1")
		if err := errors.Join(os.Mkdir(dir, 0o700), chain(dir, depth, 0o700)); err != nil {
			t.Fatal(err)
		}
		if err := RemoveTree(dir, stop); !errors.Is(err, want) {
			t.Errorf("%d directories: %v", depth, err)
		}
		if err := RemoveTree(dir, nil); err != nil {
			t.Error(err)
		}
	}
}

// Nothing that a handler has left keeps a daemon from starting.
func TestWhatIsLeftKeepsNobodyFromStarting(t *testing.T) {
	few(t)
	base := t.TempDir()
	left := filepath.Join(base, "p-1")
	if err := errors.Join(os.Mkdir(left, 0o700), chain(left, 1000, 0o700)); err != nil {
		t.Fatal(err)
	}
	d, err := OpenSocketDirs(base, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := RemoveTree(left, nil); err != nil { // if there was no time
		t.Error(err)
	}
}
