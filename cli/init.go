package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// initMark is in the environment of a process whose parent acts as process 1 for it.
const initMark = "BLOCKSD_UNDER_INIT"

// runAsInit acts as process 1 of a container: it runs the program again as a child, forwards signals to it, and reaps
// orphans, which is what every grandchild of a handler becomes. It needs a separate process, because a process that reaps
// every child takes the exits that package os/exec waits for. It returns the child's exit code.
func runAsInit(stderr io.Writer) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGCHLD)
	defer signal.Stop(signals)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), initMark+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(stderr, "blocksd: start it again as a child of process 1: %s\n", err)
		return exitFailure
	}
	for s := range signals {
		if s != syscall.SIGCHLD {
			_ = cmd.Process.Signal(s) // it may have ended; then SIGCHLD follows
			continue
		}
		if code, ended := reap(cmd.Process.Pid); ended {
			return code
		}
	}
	return exitFailure // not reached: signals is never closed
}

// reap waits for all children that have ended. ended is true if child is one of them; code is then its exit code.
func reap(child int) (code int, ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil, pid == 0:
			return code, ended
		case pid == child && status.Signaled():
			code, ended = 128+int(status.Signal()), true
		case pid == child:
			code, ended = status.ExitStatus(), true
		}
	}
}
