package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData makes what was written into the file durable, and leaves out the time of the change.
func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
