//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package launch

import "golang.org/x/sys/unix"

// awaitEnd waits until a process of ours has ended, without reaping it.
func awaitEnd(pid int) {
	queue, err := unix.Kqueue()
	if err != nil {
		return // the wait that follows ends with it as well
	}
	defer unix.Close(queue)
	var end unix.Kevent_t
	unix.SetKevent(&end, pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	end.Fflags = unix.NOTE_EXIT
	for {
		// An error other than an interruption says that it has ended already.
		if _, err := unix.Kevent(queue, []unix.Kevent_t{end}, make([]unix.Kevent_t, 1), nil); err != unix.EINTR {
			return
		}
	}
}
