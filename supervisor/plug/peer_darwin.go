package plug

import "golang.org/x/sys/unix"

// askPeer asks the kernel who is at the other end of a Unix socket.
func askPeer(fd int) (credential, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return credential{}, err
	}
	pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	if err != nil {
		return credential{}, err
	}
	return credential{int32(pid), cred.Uid}, nil
}
