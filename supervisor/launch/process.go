package launch

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a started process, the leader of its own session and group.
type Process struct {
	// Stdout and Stderr are to be read to their ends and then closed. They end later than the process when something
	// that it started and that left its group still holds them.
	Stdout, Stderr *os.File

	proc    *os.Process
	uid     int
	group   *group        // nil for none
	shim    *os.File      // says why the shim failed; nil when there is none
	mark    string        // "" for none
	done    chan struct{} // closed after exit is set
	cleaned chan struct{} // closed when nothing of the process is left
	forget  func()        // called then

	// mu orders signals and reaping: once the process is reaped its number may be that of another one.
	mu     sync.Mutex
	reaped bool // guarded by mu
	exit   Exit // immutable once done is closed
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit code, -1 when a signal ended the process.
	Code   int
	Signal syscall.Signal // 0 when there was none
	// OutOfMemory: the kernel ended it, or something it had started, because its memory limit was reached.
	OutOfMemory bool
}

func (e Exit) String() string {
	if e.OutOfMemory {
		return "the kernel, because it reached its memory limit"
	}
	if e.Signal != 0 {
		return fmt.Sprintf("signal %d (%s)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// wait ends when the process does, whatever its descendants do with the pipes.
func (p *Process) wait() {
	pid := p.proc.Pid
	// Look without reaping: the number of the process, and so of its group, stays ours until the whole group is dead.
	awaitEnd(pid)
	p.mu.Lock()
	_ = unix.Kill(-pid, unix.SIGKILL)
	if p.group != nil {
		p.group.kill()
	}
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
	if p.group != nil {
		p.exit.OutOfMemory = p.group.outOfMemory()
	}
	close(p.done)
	if p.group != nil {
		_ = p.group.remove() // what cannot be removed now is removed by the next daemon
	} else {
		killMarked(p.mark, pid)
	}
	p.forget()
	close(p.cleaned)
}

// becomes waits until the shim has become the handler.
func (p *Process) becomes(ctx context.Context) error {
	if p.shim == nil {
		return nil
	}
	defer p.shim.Close()
	stop := context.AfterFunc(ctx, func() { _ = p.shim.SetReadDeadline(time.Now()) })
	defer stop()
	err := shimAnswer(p.shim)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// killTimeout is how long discard waits for the kernel to end a killed process.
const killTimeout = 5 * time.Second

// discard ends a process that has failed because of err, and frees what belongs to it.
func (p *Process) discard(err error) error {
	_ = p.Signal(syscall.SIGKILL)
	timer := time.NewTimer(killTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		p.Close()
		return err
	case <-timer.C:
		return fmt.Errorf("%w; process %d could not be ended, even by SIGKILL, and is left behind: find out what it waits for", err, p.PID())
	}
}

// cleanTimeout is how long Close waits for what a process has started. Looking at a process can take as long as that one
// wants.
const cleanTimeout = removeTimeout + time.Second

// Close frees the pipes of a process that has ended, and waits until everything that it started has ended, as far as we
// can see, and not for long.
func (p *Process) Close() {
	p.Stdout.Close()
	p.Stderr.Close()
	timer := time.NewTimer(cleanTimeout)
	defer timer.Stop()
	select {
	case <-p.cleaned:
	case <-timer.C:
	}
}

// UID is the user that the process runs as.
func (p *Process) UID() int { return p.uid }

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
	if sig == syscall.SIGKILL && p.group != nil {
		p.group.kill()
	}
	if err := unix.Kill(-p.proc.Pid, sig); err != nil && err != unix.ESRCH {
		return fmt.Errorf("send %v to process group %d: %w", sig, p.proc.Pid, err)
	}
	return nil
}

// Owns reports whether pid is the process, in its session or control group, or was started below it.
func (p *Process) Owns(pid int) bool {
	if pid <= 0 {
		return false
	}
	return p.group != nil && p.group.has(pid) || descends(pid, p.leads)
}

// leads reports whether pid is the process or in its session.
func (p *Process) leads(pid int) bool { return pid == p.proc.Pid || inSession(pid, p.proc.Pid) }
