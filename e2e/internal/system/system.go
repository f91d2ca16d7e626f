// Package system starts the real binaries for whole-system tests and drives them the way users do: by commands, signals,
// env files and the machine-readable forms.
package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/blocksd/blocksd/internal/testutil"
)

// Deadlines of whole-system tests. They bound hangs on a busy machine; no test measures time with them.
const (
	StartDeadline = 2 * time.Minute
	CallDeadline  = 2 * time.Minute
	StopDeadline  = 2 * time.Minute
)

// Binaries is a directory that `make build` filled.
type Binaries struct{ Dir string }

// Build runs `make build` into a new directory, which the caller removes.
func Build(root string) (Binaries, error) {
	dir, err := os.MkdirTemp("", "blocksd-e2e-")
	if err != nil {
		return Binaries{}, err
	}
	cmd := exec.Command("make", "-s", "build", "BIN="+dir)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return Binaries{}, fmt.Errorf("make build: %w\n%s", err, out)
	}
	return Binaries{Dir: dir}, nil
}

// Blocksd is the path of the daemon's binary.
func (b Binaries) Blocksd() string { return filepath.Join(b.Dir, "blocksd") }

// Plugins is the directory of the reference handlers.
func (b Binaries) Plugins() string { return filepath.Join(b.Dir, "plugins") }

// TestPlugins is the directory of the fixtures.
func (b Binaries) TestPlugins() string { return filepath.Join(b.Dir, "testplugins") }

// PluginDir makes a plugins directory of copies: to name of the copy, from path of the binary. The card beside the
// binary is copied too, changed by edit if that is not nil.
func PluginDir(t testing.TB, copies map[string]string, edit func(name string, card map[string]any)) string {
	t.Helper()
	dir := t.TempDir()
	for name, from := range copies {
		copyFile(t, from, filepath.Join(dir, name), 0o755)
		doc, err := os.ReadFile(from + ".agent-card.json")
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			var card map[string]any
			if err := json.Unmarshal(doc, &card); err != nil {
				t.Fatal(err)
			}
			edit(name, card)
			if doc, err = json.Marshal(card); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name+".agent-card.json"), doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func copyFile(t testing.TB, from, to string, mode os.FileMode) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, mode); err != nil {
		t.Fatal(err)
	}
}

// Process is a running command.
type Process struct {
	Cmd    *exec.Cmd
	name   string
	output *testutil.Buffer
	exited chan struct{} // closed when the process has been waited for
}

// Start starts a command of blocksd. It is stopped, and its output logged if the test failed, at the end of the test.
func (b Binaries) Start(t testing.TB, env []string, args ...string) *Process {
	t.Helper()
	return b.StartAs(t, b.Blocksd(), env, os.Geteuid(), args...)
}

// StartAs starts a copy of blocksd as another user, in that user's group alone.
func (b Binaries) StartAs(t testing.TB, program string, env []string, uid int, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(CleanEnv(), env...)
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	p := &Process{Cmd: cmd, name: "blocksd " + args[0], output: new(testutil.Buffer), exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output, p.output
	// A handler that outlived its daemon would hold the pipe; Wait must not wait for it forever. The last lines may take a while
	// on a busy machine.
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.name, p.Output())
		}
	})
	return p
}

// CleanEnv is the environment of the test without what would steer blocksd.
func CleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "BLOCKS") && !strings.HasPrefix(kv, "LOG_LEVEL=") && !strings.HasPrefix(kv, "NOTIFY_SOCKET=") {
			env = append(env, kv)
		}
	}
	return env
}

// Output is what the process wrote so far.
func (p *Process) Output() string { return p.output.String() }

// HoldOutput stops reading what the process writes, until release is called. Output must not be called meanwhile.
func (p *Process) HoldOutput() (release func()) { return p.output.Hold() }

// PID of the process.
func (p *Process) PID() int { return p.Cmd.Process.Pid }

// Signal sends sig to the process alone.
func (p *Process) Signal(sig syscall.Signal) { _ = p.Cmd.Process.Signal(sig) }

// Kill ends the process at once and waits for it.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.exited
}

// Wait waits for the end of the process and returns its exit code.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(StopDeadline):
		t.Fatalf("%s did not end within %s", p.name, StopDeadline)
	}
	return p.Cmd.ProcessState.ExitCode()
}

// Stop sends SIGTERM, waits, and fails the test unless the process ends with 0.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(t); code != 0 {
		t.Fatalf("%s ended with %d after SIGTERM", p.name, code)
	}
}

// Exited reports whether the process has ended.
func (p *Process) Exited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// EnvFile waits for the env file of p and returns its lines.
func (p *Process) EnvFile(t testing.TB, path string) Env {
	t.Helper()
	Eventually(t, StartDeadline, p.name+" writes "+path, func() bool {
		if p.Exited() {
			t.Fatalf("%s ended with %d before it wrote %s:\n%s", p.name, p.Cmd.ProcessState.ExitCode(), path, p.Output())
		}
		_, err := os.Stat(path)
		return err == nil
	})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Env(strings.Fields(string(b)))
}

// Env is a list of KEY=value.
type Env []string

// Get returns the value of a key.
func (e Env) Get(key string) string {
	for _, kv := range e {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return strings.Trim(v, `'"`)
		}
	}
	return ""
}

// With returns the list with a key replaced or added.
func (e Env) With(key, value string) Env {
	var out Env
	for _, kv := range e {
		if k, _, _ := strings.Cut(kv, "="); k != key {
			out = append(out, kv)
		}
	}
	return append(out, key+"="+value)
}

// Network is a running sandbox with a daemon on it.
type Network struct {
	Binaries
	*Process
	Env      Env
	StateDir string
}

// Dev starts `blocksd dev` on the plugins of dir and waits until everything works.
func (b Binaries) Dev(t testing.TB, dir string, args ...string) *Network {
	t.Helper()
	return b.DevWith(t, nil, dir, args...)
}

// DevWith is Dev with variables for the daemon.
func (b Binaries) DevWith(t testing.TB, env Env, dir string, args ...string) *Network {
	t.Helper()
	state := t.TempDir()
	p := b.Start(t, env, append([]string{"dev", "--plugins", dir, "--state-dir", state, "--listen", "127.0.0.1:0"}, args...)...)
	return &Network{Binaries: b, Process: p, StateDir: state, Env: p.EnvFile(t, filepath.Join(state, "dev.env"))}
}

// Sandbox starts `blocksd sandbox` with the cards of dir.
func (b Binaries) Sandbox(t testing.TB, cards string, args ...string) (*Process, Env) {
	t.Helper()
	env := filepath.Join(t.TempDir(), "env")
	p := b.Start(t, nil, append([]string{"sandbox", "--listen", "127.0.0.1:0", "--agents", cards, "--env-file", env}, args...)...)
	return p, p.EnvFile(t, env)
}

// Daemon starts `blocksd run` on a network and waits until its control socket answers, then until it is ready.
func (b Binaries) Daemon(t testing.TB, env Env, plugins string, args ...string) *Network {
	t.Helper()
	state := t.TempDir()
	n := &Network{Binaries: b, StateDir: state}
	socket := filepath.Join(state, "s")
	n.Process = b.Start(t, env, append([]string{"run", "--plugins", plugins, "--state-dir", state, "--socket", socket}, args...)...)
	n.Env = env.With("BLOCKSD_SOCKET", socket)
	n.WaitReady(t)
	return n
}

// WaitReady waits until `status --json` says ready.
func (n *Network) WaitReady(t testing.TB) {
	t.Helper()
	Eventually(t, StartDeadline, "daemon is ready", func() bool {
		if n.Exited() {
			t.Fatalf("%s ended with %d before it was ready:\n%s", n.name, n.Cmd.ProcessState.ExitCode(), n.Output())
		}
		s, err := n.status(t)
		return err == nil && s.Ready
	})
}

// Result is the end of a command.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a command of blocksd in the network's environment to its end.
func (b Binaries) Run(t testing.TB, env Env, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), CallDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.Blocksd(), args...)
	cmd.Env = append(CleanEnv(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("blocksd %s did not end within %s\nstdout: %s\nstderr: %s", strings.Join(args, " "), CallDeadline, &stdout, &stderr)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("blocksd %s: %v", strings.Join(args, " "), err)
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// Eventually waits until cond holds and fails the test if it does not within limit. It is for what happens in other
// processes, which a test can only ask.
func Eventually(t testing.TB, limit time.Duration, what string, cond func() bool) {
	t.Helper()
	testutil.Eventually(t, limit, what, cond)
}

// Alive reports whether a process runs. A zombie does not.
func Alive(pid int) bool {
	return testutil.Alive(pid)
}
