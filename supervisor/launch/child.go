package launch

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Child is a process that this one has started, the leader of its own session and group.
type Child struct {
	proc *os.Process

	// mu orders signals and reaping: once the process is reaped its number may be that of another one.
	mu     sync.Mutex
	reaped bool // guarded by mu
}

// StartChild starts a process. Somebody must Wait for it.
func StartChild(path string, argv []string, attr *os.ProcAttr) (*Child, error) {
	proc, err := os.StartProcess(path, argv, attr)
	if err != nil {
		return nil, plain(err)
	}
	return &Child{proc: proc}, nil
}

// PID is its number, also that of its group.
func (c *Child) PID() int { return c.proc.Pid }

// Wait returns when the process has ended, whatever its descendants do, and its group was killed. atEnd is called in between.
func (c *Child) Wait(atEnd func()) Exit {
	pid := c.proc.Pid
	// Look without reaping: the number of the process, and so of its group, stays ours until the whole group is dead.
	awaitEnd(pid)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = unix.Kill(-pid, unix.SIGKILL)
	atEnd()
	state, err := c.proc.Wait() // at once: it has ended
	c.reaped = true
	exit := Exit{Code: -1}
	if err == nil {
		ws := state.Sys().(syscall.WaitStatus)
		exit.Code = ws.ExitStatus()
		if ws.Signaled() {
			exit.Signal = ws.Signal()
		}
	}
	return exit
}

// Signal sends sig to the whole group. A process that has ended is no error.
func (c *Child) Signal(sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return nil
	}
	if err := unix.Kill(-c.proc.Pid, sig); err != nil && err != unix.ESRCH {
		return fmt.Errorf("send %v to process group %d: %w", sig, c.proc.Pid, err)
	}
	return nil
}
