package link

import (
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A dead path cannot be made on one machine without privileges; that the kernel was asked to find it can be seen.
func TestDeadPathsAreFoundByTheKernel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := newTransport().DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	option := func(name int) (v int) {
		if err := raw.Control(func(fd uintptr) { v, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, name) }); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if got := time.Duration(option(unix.TCP_USER_TIMEOUT)) * time.Millisecond; got != deadPath {
		t.Errorf("unacknowledged bytes are given up after %v", got)
	}
	idle, interval, count := option(unix.TCP_KEEPIDLE), option(unix.TCP_KEEPINTVL), option(unix.TCP_KEEPCNT)
	if total := time.Duration(idle+interval*count) * time.Second; total > deadPath {
		t.Errorf("a silent peer is given up after %v", total)
	}
}
