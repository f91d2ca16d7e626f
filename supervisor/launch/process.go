package launch

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Process is a started process, the leader of its own session and group.
type Process struct {
	// Stdout and Stderr are to be read to their ends and then closed. They end later than the process when something
	// that it started and that left its group still holds them.
	Stdout, Stderr *os.File

	child   child
	uid     int           // as this process sees it
	group   *group        // nil for none
	shim    *os.File      // says why the shim failed; nil when there is none
	mark    string        // "" for none
	done    chan struct{} // closed after exit is set
	cleaned chan struct{} // closed when nothing of the process is left
	forget  func()        // called then
	exit    Exit          // immutable once done is closed
}

// child is a process that was started, by this one or by a launcher.
type child interface {
	PID() int
	// Wait returns when it has ended and its process group was killed. atEnd is called when it has ended.
	Wait(atEnd func()) Exit
	// Signal signals its process group; one that has ended is no error.
	Signal(sig syscall.Signal) error
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
	p.exit = p.child.Wait(func() {
		if p.group != nil {
			p.group.kill()
		}
	})
	if p.group != nil {
		p.exit.OutOfMemory = p.group.outOfMemory()
	}
	close(p.done)
	if p.group != nil {
		_ = p.group.remove() // what cannot be removed now is removed by the next daemon
	} else {
		killMarked(p.mark, p.PID())
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

// UID is the user that the process runs as, as this process sees it: where that knows no others, they all have one number.
func (p *Process) UID() int { return p.uid }

// PID of the process, also the number of its group.
func (p *Process) PID() int { return p.child.PID() }

// ResidentBytes is the memory of the process, with what it has started, by its control group; 0 when that is unknown.
func (p *Process) ResidentBytes() int64 {
	if p.group == nil {
		return 0
	}
	return p.group.residentBytes()
}

// CPUTime is what the process and all that it has started have used, by its control group; false when that is unknown.
func (p *Process) CPUTime() (time.Duration, bool) {
	if p.group == nil {
		return 0, false
	}
	return p.group.cpuTime()
}

// Done is closed when the process has ended and its group was killed.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how it ended; call it only after Done.
func (p *Process) Exit() Exit { return p.exit }

// Signal sends sig to the whole group. A process that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	if sig == syscall.SIGKILL && p.group != nil {
		p.group.kill()
	}
	return p.child.Signal(sig)
}

// Owns reports whether pid is the process, in its session or control group, or was started below it.
func (p *Process) Owns(pid int) bool {
	if pid <= 0 {
		return false
	}
	return p.group != nil && p.group.has(pid) || descends(pid, p.leads)
}

// leads reports whether pid is the process or in its session.
func (p *Process) leads(pid int) bool { return pid == p.PID() || inSession(pid, p.PID()) }
