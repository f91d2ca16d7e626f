package catalog

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAwaitClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("machine: the file system knows no leases")
	}
	_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	began := time.Now()
	if err := awaitClosed(path); err != nil || time.Since(began) < inherited {
		t.Errorf("a file that is open for writing: %v after %v", err, time.Since(began))
	}
	f.Close()
	if err := awaitClosed(path); err != nil {
		t.Error(err)
	}
}
