package savedir

import (
	"os"

	"golang.org/x/sys/unix"
)

const canLock = true

// lock locks a file until unlock, also beyond its Close, and ends with the process. locked is false where somebody else
// has it.
func lock(f *os.File) (unlock func(), locked bool) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		unix.Close(fd)
		return nil, false
	}
	return func() { unix.Close(fd) }, true
}
