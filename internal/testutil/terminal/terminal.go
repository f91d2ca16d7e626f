// Package terminal runs a program on a pseudo-terminal, for tests of what is on its screen.
package terminal

import (
	"io"
	"os"
	"os/exec"
	"sync"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
)

// Terminal is a program on a pseudo-terminal.
type Terminal struct {
	// Screen is what a person sees.
	Screen vt10x.Terminal

	cmd    *exec.Cmd
	device *os.File
	ended  chan struct{} // closed when the program has ended and everything was read

	mu      sync.Mutex
	written []byte // guarded by mu
}

// Start starts a program on a terminal of that size. Stop must follow.
func Start(cmd *exec.Cmd, columns, rows int) (*Terminal, error) {
	device, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
	if err != nil {
		return nil, err
	}
	t := &Terminal{Screen: vt10x.New(vt10x.WithSize(columns, rows)), cmd: cmd, device: device, ended: make(chan struct{})}
	go t.read()
	return t, nil
}

func (t *Terminal) read() {
	defer close(t.ended)
	b := make([]byte, 32<<10)
	for {
		n, err := t.device.Read(b)
		t.mu.Lock()
		t.written = append(t.written, b[:n]...)
		t.mu.Unlock()
		_, _ = t.Screen.Write(b[:n])
		if err != nil { // no process has the terminal any more
			_ = t.cmd.Wait()
			return
		}
	}
}

// Written is all that the program has written.
func (t *Terminal) Written() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.written)
}

// Press sends keys.
func (t *Terminal) Press(keys string) error {
	_, err := io.WriteString(t.device, keys)
	return err
}

// Resize changes the size of the terminal; the program gets SIGWINCH.
func (t *Terminal) Resize(columns, rows int) error {
	t.Screen.Resize(columns, rows)
	return pty.Setsize(t.device, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
}

// Ended is closed when the program has ended and everything that it wrote was read. Then its ExitCode is known.
func (t *Terminal) Ended() <-chan struct{} { return t.ended }

// ExitCode is that of the program, -1 if a signal has ended it.
func (t *Terminal) ExitCode() int { return t.cmd.ProcessState.ExitCode() }

// Stop ends the program, if it runs still.
func (t *Terminal) Stop() {
	_ = t.cmd.Process.Kill() // it may have ended
	t.device.Close()
	<-t.ended
}
