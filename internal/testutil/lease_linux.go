package testutil

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// NeedLeases skips a test where the file system of f, which is open for writing, has no leases.
func NeedLeases(t testing.TB, f *os.File) {
	t.Helper()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("machine: the file system knows no leases")
	}
	_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
}
