package link

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// boundUnacknowledged makes the kernel give up a connection on which sent bytes stay unacknowledged. Keepalive alone
// does not: it is not sent while data is outstanding.
func boundUnacknowledged(_, _ string, c syscall.RawConn) error {
	// A kernel that refuses the option only makes detection slower.
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPath.Milliseconds()))
	})
}
