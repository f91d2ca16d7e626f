package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Peer is who is at the other end of a control connection, as the kernel noted it when that was made.
type Peer struct {
	PID int32
	UID uint32
	// Groups are all groups that it was in.
	Groups []uint32
	// Handler: it is a process that a handler is or has started, or one that ended before that could be seen.
	Handler bool
}

// peerInfo carries the Peer of a connection through gRPC.
type peerInfo struct {
	credentials.CommonAuthInfo
	Peer
}

func (peerInfo) AuthType() string { return "peercred" }

// peerCredentials are transport credentials of the server that put nothing on the wire: they ask the kernel once per
// connection.
type peerCredentials struct {
	// owned reports whether a process belongs to a handler; nil when there are none.
	owned func(pid int) bool
}

func (c peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	known, ok := conn.(*knownConn)
	if !ok {
		p, err := peerOfConn(conn, c.owned)
		if err != nil {
			return nil, nil, err
		}
		known = &knownConn{peer: p}
	}
	return conn, peerInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		Peer:           known.peer,
	}, nil
}

// peerOfConn asks the kernel who is at the other end of a connection, and owned whether that is a handler.
func peerOfConn(conn net.Conn, owned func(pid int) bool) (Peer, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, errors.New("control connection is not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var groups []uint32
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		if cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); credErr == nil {
			groups = peerGroups(int(fd))
		}
	}); err != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", err)
	}
	if credErr != nil {
		return Peer{}, fmt.Errorf("read peer credentials: %w", credErr)
	}
	p := Peer{PID: cred.Pid, UID: cred.Uid, Groups: append(groups, cred.Gid)}
	if owned != nil && p.PID > 0 { // the number is 0 for a process outside of our container
		// One that has ended may have been anything's, and left its connection to it.
		p.Handler = owned(int(p.PID)) || errors.Is(unix.Kill(int(p.PID), 0), unix.ESRCH)
	}
	return p, nil
}

// maxPeerGroups is more groups than a user has; with more than the kernel's answer has room for, a peer counts as in none.
const maxPeerGroups = 1024

// peerGroups are the supplementary groups of the peer of a Unix socket (SO_PEERGROUPS). A kernel that does not tell them
// makes nobody an operator.
func peerGroups(fd int) []uint32 {
	gids := make([]uint32, maxPeerGroups)
	size := uint32(len(gids)) * 4
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&gids[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	return gids[:size/4]
}

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer credentials are for the server")
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

func (c peerCredentials) Clone() credentials.TransportCredentials { return c }

func (peerCredentials) OverrideServerName(string) error { return nil }

// peerOf returns the peer of a call.
func peerOf(ctx context.Context) (Peer, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, false
	}
	info, ok := p.AuthInfo.(peerInfo)
	return info.Peer, ok
}
