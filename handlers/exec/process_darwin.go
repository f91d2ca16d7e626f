package main

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup is a process group of its own for a program. Here it does not end with its starter.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func awaitExit(pid int) error {
	queue, err := unix.Kqueue()
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	defer unix.Close(queue)
	watched := make([]unix.Kevent_t, 1)
	unix.SetKevent(&watched[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	watched[0].Fflags = unix.NOTE_EXIT
	_, err = unix.Kevent(queue, watched, make([]unix.Kevent_t, 1), nil)
	if errors.Is(err, unix.ESRCH) { // it has ended already
		return nil
	}
	return err
}
