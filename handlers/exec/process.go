package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// starter starts programs from one thread that never ends: the kernel ends a program when the thread that started it does.
type starter struct{ requests chan func() }

func newStarter() *starter {
	s := &starter{requests: make(chan func())}
	go func() { // for the whole life of the process
		runtime.LockOSThread()
		for start := range s.requests {
			start()
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	s.requests <- func() { done <- cmd.Start() }
	return <-done
}

// process is a program that runs for one task, in a process group of its own.
type process struct {
	cmd            *exec.Cmd
	stdin          io.WriteCloser
	stdout, stderr io.ReadCloser
}

// drainTime is how long what a program has started may hold its output open after it has ended itself.
const drainTime = 2 * time.Second

func (s *starter) run(argv []string, dir string, env []string) (*process, error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...)}
	p.cmd.Dir, p.cmd.Env = dir, env
	p.cmd.SysProcAttr = ownGroup()
	var err1, err2, err3 error
	p.stdin, err1 = p.cmd.StdinPipe()
	p.stdout, err2 = p.cmd.StdoutPipe()
	p.stderr, err3 = p.cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return p, s.start(p.cmd)
}

// signal reaches the program and everything that it has started.
func (p *process) signal(sig syscall.Signal) { _ = syscall.Kill(-p.cmd.Process.Pid, sig) }

// stopAfter asks the program to end when ctx does, and ends it after a time. The returned function must be called once the
// program has ended.
func (p *process) stopAfter(ctx context.Context, limit time.Duration) (ended func()) {
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-over:
			return
		case <-ctx.Done():
		}
		p.signal(syscall.SIGTERM)
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-over:
		case <-timer.C:
			p.signal(syscall.SIGKILL)
		}
	})
	return func() {
		close(over)
		watching.Wait()
	}
}

// wait returns when the program has ended. It is not forgotten yet, so that its number and that of its group are no
// others' until reap.
func (p *process) wait() error {
	for {
		if err := awaitExit(p.cmd.Process.Pid); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// kill ends the program and everything that it has started. It must not be called after reap.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

// reap says how the program has ended.
func (p *process) reap() (*os.ProcessState, error) {
	// Not cmd.Wait, which closes the pipes that are still being read.
	return p.cmd.Process.Wait()
}

// outcome says how a program ended: nil for success. public is for the consumer.
func outcome(state *os.ProcessState, errorTexts map[int]string, lastLine string) (public string, err error) {
	status, _ := state.Sys().(syscall.WaitStatus)
	switch {
	case status.Signaled():
		return "The program was ended by a signal.", withLine(fmt.Errorf("the program was ended by %v", status.Signal()), lastLine)
	case status.ExitStatus() == 0:
		return "", nil
	}
	code := status.ExitStatus()
	public = errorTexts[code]
	if public == "" {
		public = fmt.Sprintf("The program ended with exit code %d.", code)
	}
	return public, withLine(fmt.Errorf("the program ended with exit code %d", code), lastLine)
}

func withLine(err error, line string) error {
	if line = strings.TrimSpace(line); line == "" {
		return err
	}
	return fmt.Errorf("%w; its last line was %q", err, line)
}
