package e2e

import (
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
	"github.com/rogpeppe/go-internal/testscript"
)

// terminal is a command on a pseudo-terminal, and what its screen shows.
type terminal struct {
	cmd    *exec.Cmd
	device *os.File
	screen vt10x.Terminal
	mu     sync.Mutex // guards raw
	raw    []byte
	ended  chan struct{} // closed when the command has ended and everything was read
}

// typed runs a command of a shell in the environment and the directory of the script, on a terminal of that size.
func typed(ts *testscript.TestScript, columns, rows int, command string) *terminal {
	p := &terminal{cmd: exec.Command("sh", "-c", command), screen: vt10x.New(vt10x.WithSize(columns, rows)), ended: make(chan struct{})}
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = []string{"TERM=xterm-256color", "NO_COLOR=1", "LANG=C.UTF-8"}
	for _, name := range []string{"PATH", "HOME", "BLOCKS_API_KEY", "BLOCKS_CDM_URL", "BLOCKSD_PUBNUB_ORIGIN", "BLOCKSD_SOCKET"} {
		if value := ts.Getenv(name); value != "" {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	var err error
	p.device, err = pty.StartWithSize(p.cmd, &pty.Winsize{Cols: uint16(columns), Rows: uint16(rows)})
	ts.Check(err)
	go p.read()
	return p
}

func (p *terminal) read() {
	defer close(p.ended)
	b := make([]byte, 32<<10)
	for {
		n, err := p.device.Read(b)
		p.mu.Lock()
		p.raw = append(p.raw, b[:n]...)
		p.mu.Unlock()
		_, _ = p.screen.Write(b[:n])
		if err != nil { // no process has the terminal any more
			_ = p.cmd.Wait()
			return
		}
	}
}

func (p *terminal) written() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.raw)
}

// wait waits for the end of the command.
func (p *terminal) wait(ts *testscript.TestScript) {
	select {
	case <-p.ended:
	case <-time.After(screenLimit):
		ts.Fatalf("%s did not end within %v: %q", p.cmd, screenLimit, p.written())
	}
}

// stop ends the command, if it runs still.
func (p *terminal) stop() {
	_ = p.cmd.Process.Kill() // it may have ended
	p.device.Close()
	<-p.ended
}
