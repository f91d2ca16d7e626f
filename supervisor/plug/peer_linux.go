package plug

import "golang.org/x/sys/unix"

// askPeer asks the kernel who is at the other end of a Unix socket.
func askPeer(fd int) (credential, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return credential{}, err
	}
	return credential{cred.Pid, cred.Uid}, nil
}
