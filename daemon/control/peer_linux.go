package control

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// askPeer asks the kernel who is at the other end of a Unix socket.
func askPeer(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, Groups: append(peerGroups(fd), cred.Gid)}, nil
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
