package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup is a process group of its own for a program, which ends with its starter.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func awaitExit(pid int) error {
	return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
}
