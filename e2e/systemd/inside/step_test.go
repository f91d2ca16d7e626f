package inside_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/blocksd/blocksd/e2e/internal/system"
)

// deadline is how long anything may take here. The machine is emulated, and the one around it may be busy: it bounds hangs.
const deadline = 10 * time.Minute

// step runs one step. If it fails, what the journal has of it is shown.
func step(t *testing.T, name string, f func(t *testing.T)) bool {
	t.Helper()
	return t.Run(name, func(t *testing.T) {
		since := now()
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("the journal of this step:\n%s", run(t, "journalctl", "--no-pager", "-o", "short-monotonic", "--since="+since, "-n", "150").out)
			}
		})
		f(t)
	})
}

// must runs a step without which the others have no sense.
func must(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	if !step(t, name, f) {
		t.FailNow()
	}
}

// result is the end of a command.
type result struct {
	code     int
	out, err string
}

// command is a command with what it may be given.
type command struct {
	name  string
	args  []string
	dir   string
	stdin string
	env   []string
}

// run runs a command to its end, whatever that is.
func run(t testing.TB, name string, args ...string) result {
	t.Helper()
	return command{name: name, args: args}.run(t)
}

func (c command) run(t testing.TB) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Dir, cmd.Stdin, cmd.Env = c.dir, strings.NewReader(c.stdin), append(os.Environ(), c.env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %s did not end within %v\n%s%s", c.name, strings.Join(c.args, " "), deadline, &out, &said)
	}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%s %s: %v", c.name, strings.Join(c.args, " "), err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), said.String()}
}

// ok runs a command that has to succeed and returns what it wrote.
func ok(t testing.TB, name string, args ...string) string {
	t.Helper()
	return command{name: name, args: args}.ok(t)
}

func (c command) ok(t testing.TB) string {
	t.Helper()
	r := c.run(t)
	if r.code != 0 {
		t.Fatalf("%s %s ends with %d\n%s%s", c.name, strings.Join(c.args, " "), r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	system.Eventually(t, deadline, what, cond)
}

// property of the unit.
func property(t testing.TB, name string) string {
	t.Helper()
	return ok(t, "systemctl", "show", "-P", name, "blocksd")
}

// now is this moment, as journalctl understands it. A cursor would not do: behind one, journalctl of systemd 252 leaves out the
// first entry that its other arguments ask for.
func now() string { return fmt.Sprintf("@%.6f", float64(time.Now().UnixMicro())/1e6) }

// errorsSince are the messages of the unit with priority err, as the manual has an operator read them.
func errorsSince(t testing.TB, since string) string {
	t.Helper()
	return ok(t, "journalctl", "-u", "blocksd", "-p", "err", "--no-pager", "-o", "cat", "--since="+since)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
