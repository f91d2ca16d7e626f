package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Network is the kind of socket, as package net calls it.
const Network = "unixpacket"

// writeTimeout is how long the other end may leave a message unread before the connection counts as lost.
const writeTimeout = 10 * time.Second

// Conn is one end of a connection. One goroutine may receive while others send.
type Conn struct {
	uc     *net.UnixConn
	buffer []byte // only the receiver uses it
}

// NewConn takes a connection over.
func NewConn(uc *net.UnixConn) *Conn {
	return &Conn{uc: uc, buffer: make([]byte, MaxMessage+1)}
}

// Close ends the connection; a Receive that waits returns.
func (c *Conn) Close() error { return c.uc.Close() }

// ErrTooLong is returned for a message that the other end would not take.
var ErrTooLong = fmt.Errorf("it needs more than %d bytes", MaxMessage)

// Send sends a message with copies of descriptors.
func (c *Conn) Send(message any, files ...*os.File) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > MaxMessage {
		return ErrTooLong
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	if err := c.uc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	n, _, err := c.uc.WriteMsgUnix(b, rights, nil)
	if err == nil && n != len(b) {
		err = io.ErrShortWrite
	}
	return err
}

// Receive waits for a message, whose bytes are good until the next call. The files belong to the caller. At the end of the
// connection the error is io.EOF.
func (c *Conn) Receive() (message []byte, files []*os.File, err error) {
	rights := make([]byte, unix.CmsgSpace(4*StartFiles))
	n, nr, flags, _, err := c.uc.ReadMsgUnix(c.buffer, rights)
	if err != nil {
		return nil, nil, err
	}
	files, err = received(rights[:nr])
	switch {
	case err != nil:
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || n > MaxMessage:
		err = errors.New("a message is too long, or has too many descriptors")
	case n == 0: // messages are never empty
		err = io.EOF
	default:
		return c.buffer[:n], files, nil
	}
	CloseAll(files)
	return nil, nil, err
}

func received(rights []byte) (files []*os.File, err error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, rightsErr := unix.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
		if rightsErr != nil {
			err = rightsErr
		}
	}
	return files, err
}

// CloseAll closes files.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Peer is the user and the process at the other end.
func (c *Conn) Peer() (pid int, uid uint32, err error) {
	raw, err := c.uc.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	var credErr error
	if err := raw.Control(func(fd uintptr) { pid, uid, credErr = peer(int(fd)) }); err != nil {
		return 0, 0, err
	}
	return pid, uid, credErr
}
