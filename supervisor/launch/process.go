package launch

import (
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is a started process, the leader of its own group.
type Process struct {
	// Stdout and Stderr are to be read to their ends and then closed. They end later than the process when something
	// that it started and that left its group still holds them.
	Stdout, Stderr *os.File

	proc *os.Process
	done chan struct{} // closed after exit is set

	// mu orders signals and reaping: once the process is reaped its number may belong to somebody else.
	mu     sync.Mutex
	reaped bool // guarded by mu
	exit   Exit // immutable once done is closed
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code, -1 when a signal ended the process.
	Code   int
	Signal syscall.Signal // 0 when there was none
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return fmt.Sprintf("signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// wait ends when the process does, whatever its descendants do with the pipes.
func (p *Process) wait() {
	pid := p.proc.Pid
	// Look without reaping: the number of the process, and so of its group, stays ours until the whole group is dead.
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	p.mu.Lock()
	_ = unix.Kill(-pid, unix.SIGKILL)
	state, err := p.proc.Wait() // at once: it has ended
	p.reaped = true
	p.mu.Unlock()

	p.exit = Exit{Code: -1}
	if err == nil {
		ws := state.Sys().(syscall.WaitStatus)
		p.exit.Code = ws.ExitStatus()
		if ws.Signaled() {
			p.exit.Signal = ws.Signal()
		}
	}
	close(p.done)
}

// PID of the process, also the number of its group.
func (p *Process) PID() int { return p.proc.Pid }

// Done is closed when the process has ended and its group was killed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how it ended; call it only after Done.
func (p *Process) Exit() Exit { return p.exit }

// Signal sends sig to the whole group. A process that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return nil
	}
	if err := unix.Kill(-p.proc.Pid, sig); err != nil && err != unix.ESRCH {
		return fmt.Errorf("send %v to process group %d: %w", sig, p.proc.Pid, err)
	}
	return nil
}

// Owns reports whether pid is the process or a member of its group.
func (p *Process) Owns(pid int) bool {
	if pid <= 0 {
		return false
	}
	if pid == p.proc.Pid {
		return true
	}
	group, err := unix.Getpgid(pid)
	return err == nil && group == p.proc.Pid
}
