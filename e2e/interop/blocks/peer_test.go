package blocks

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
	"github.com/blocksd/blocksd/internal/testutil"
)

// operationDeadline bounds one operation of the consumer. The longest ones wait for a pipe's minute to pass.
const operationDeadline = 6 * time.Minute

// process is a running program of the SDK's side. Its end is waited for when the test ends.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	exited chan struct{}
	output testutil.Buffer
}

// start starts a program. Each line of its standard output goes to line; what that does not take, and what goes to standard
// error, is kept for the log of a failed test.
func start(t testing.TB, name string, cmd *exec.Cmd, line func(string) bool) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, exited: make(chan struct{})}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = &p.output
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		r := bufio.NewReader(out)
		for {
			s, err := r.ReadString('\n')
			if err != nil {
				break
			}
			if !line(s) {
				_, _ = p.output.Write([]byte(s))
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.log())
		}
	})
	return p
}

func (p *process) log() string {
	s := p.output.String()
	if len(s) > 16<<10 {
		return "…" + s[len(s)-16<<10:]
	}
	return s
}

// end closes the program's input, which asks it to end, and kills it when it does not.
func (p *process) end() {
	p.stdin.Close()
	p.endWith(nil, lingering)
}

func (p *process) kill() { p.endWith(os.Kill, lingering) }

// lingering is how long a program may take to end where nobody looks at how it ends.
const lingering = 15 * time.Second

// endWith sends a signal, if any, and waits; a program that does not end in time is killed.
func (p *process) endWith(sig os.Signal, limit time.Duration) {
	if sig != nil {
		_ = p.cmd.Process.Signal(sig)
	}
	select {
	case <-p.exited:
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// provide starts the agents of the cards in one process with a release of the SDK, and returns when they are started.
func provide(t testing.TB, version string, env system.Env, cards ...string) *process {
	t.Helper()
	started := make(chan string, 1)
	cmd := exec.Command(cached(t, "blocks-"+version+"/bin/python"), append([]string{filepath.Join(here(t), "provider.py")}, cards...)...)
	cmd.Env = pythonEnv(t, env)
	p := start(t, "provider.py with "+version, cmd, func(line string) bool {
		if !strings.HasPrefix(line, `{"started"`) {
			return false
		}
		started <- line
		return true
	})
	p.await(t, started)
	return p
}

// run starts `blocks-run` in a directory of its own, with a card and our handler.
func run(t testing.TB, version string, env system.Env, card string) *process {
	t.Helper()
	dir := t.TempDir()
	copyFile(t, card, filepath.Join(dir, "agent-card.json"))
	copyFile(t, filepath.Join(here(t), "handler.py"), filepath.Join(dir, "handler.py"))
	started := make(chan string, 1)
	cmd := exec.Command(cached(t, "blocks-"+version+"/bin/blocks-run"))
	cmd.Dir, cmd.Env = dir, pythonEnv(t, env)
	p := start(t, "blocks-run of "+version, cmd, func(line string) bool {
		if strings.Contains(line, "agent_instance_started") {
			select {
			case started <- line:
			default:
			}
		}
		return false
	})
	p.await(t, started)
	// The runner listens to signals, not to its input.
	t.Cleanup(func() { p.endWith(syscall.SIGTERM, lingering) })
	return p
}

func (p *process) await(t testing.TB, line <-chan string) {
	t.Helper()
	select {
	case <-line:
	case <-p.exited:
		t.Fatalf("%s ended with %s before it had started:\n%s", p.name, p.cmd.ProcessState, p.log())
	case <-time.After(system.StartDeadline):
		t.Fatalf("%s did not start within %s:\n%s", p.name, system.StartDeadline, p.log())
	}
}

// consumer is a process that does what an application with the SDK's TaskClient does.
type consumer struct {
	*process
	mu      sync.Mutex // guards what follows, and writes to stdin
	next    int
	pending map[int]chan<- reply
}

type reply struct {
	ID    int             `json:"id"`
	Said  json.RawMessage `json:"said"`
	Error string          `json:"error"`
}

// consume starts a consumer with a release of the SDK.
func consume(t testing.TB, version string, env system.Env) *consumer {
	t.Helper()
	c := &consumer{pending: map[int]chan<- reply{}}
	cmd := exec.Command(cached(t, "blocks-"+version+"/bin/python"), filepath.Join(here(t), "consumer.py"))
	cmd.Env = pythonEnv(t, env)
	c.process = start(t, "consumer.py with "+version, cmd, func(line string) bool {
		var r reply
		if json.Unmarshal([]byte(line), &r) != nil {
			return false
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if ch := c.pending[r.ID]; ch != nil {
			delete(c.pending, r.ID)
			ch <- r
		}
		return true
	})
	return c
}

// do has the consumer do one operation and decodes what it says into said.
func (c *consumer) do(op string, args args, said any) error {
	answered := make(chan reply, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.pending[id] = answered
	if args == nil {
		args = map[string]any{}
	}
	request, err := json.Marshal(map[string]any{"id": id, "op": op, "args": args})
	if err == nil {
		_, err = c.stdin.Write(append(request, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("ask the consumer for %s: %w", op, err)
	}
	select {
	case r := <-answered:
		if r.Error != "" {
			return fmt.Errorf("%s: %s", op, r.Error)
		}
		return json.Unmarshal(r.Said, said)
	case <-c.exited:
		return fmt.Errorf("the consumer ended with %s during %s", c.cmd.ProcessState, op)
	case <-time.After(operationDeadline):
		return fmt.Errorf("%s did not end within %s", op, operationDeadline)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
