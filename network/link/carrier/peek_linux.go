package carrier

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// rawPeek looks whether anything has come on a connection, without waiting and without taking it.
type rawPeek struct {
	look   func(fd uintptr) bool
	buffer [1]byte
	quiet  bool
}

// silent reports whether nothing has come, not even the end.
func (p *rawPeek) silent(c syscall.RawConn) bool {
	if c == nil {
		return true
	}
	if p.look == nil { // once, because it costs memory
		p.look = func(fd uintptr) bool {
			_, _, err := unix.Recvfrom(int(fd), p.buffer[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			p.quiet = err == unix.EAGAIN || err == unix.EINTR
			return true
		}
	}
	return c.Read(p.look) == nil && p.quiet
}
