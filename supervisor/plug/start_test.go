package plug

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/internal/testutil"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/unit"
)

// Each mistake at the start has its class and one sentence, and leaves neither a process nor a directory.
func TestBadStarts(t *testing.T) {
	r := newFixture(t)
	r.Timeouts.ExitDrain, r.Timeouts.ExitNotice = patience, patience // on a busy machine
	r.Timeouts.ExitDoubt = time.Nanosecond
	const short = 5 * time.Second // for those that never get further
	tests := []struct {
		alias  string
		reason unit.Reason
		text   string
	}{
		{"never-answers", unit.StartTimeout, `could not be started because it printed no handshake within 5s \(is standard output flushed, and does the line end\?\)$`},
		{"not-a-plugin", unit.Handshake, `it is not a Blocks handler: it printed "Hello! I am an ordinary program." instead of a handshake; its last line was`},
		{"chatty", unit.Handshake, `it is not a Blocks handler: it printed "Hello! I am an ordinary program."`},
		{"exit-at-start", unit.ExitCode, `it ended with exit code 3 before its handshake; its last line was "cannot find my model file"$`},
		{"lingers-at-start", unit.ExitCode, `it ended with exit code 3 before its handshake; its last line was "cannot find my model file"$`},
		{"closes-stdout", unit.Handshake, `it closed its standard output without a handshake$`},
		{"lingers-at-describe", unit.ExitCode, `it ended with exit code 1$`},
		{"kill-at-start", unit.Signal, `it was ended by signal 9 \(killed\) before its handshake$`},
		{"wrong-version", unit.Handshake, `it speaks version 99 of the handler protocol and this daemon speaks 1: rebuild it`},
		{"unflushed", unit.StartTimeout, `because it printed no handshake within 5s \(is standard output flushed, and does the line end\?\)$`},
		{"no-health", unit.Health, `because it serves no health service: serve grpc.health.v1.Health$`},
		{"health-of-another-name", unit.Health, `because its health service does not know the service "plugin": set that one to SERVING$`},
		{"health-without-words", unit.Health, `because its health check failed: gRPC error PermissionDenied$`},
		{"not-serving", unit.Health, `because its health is NOT_SERVING instead of SERVING$`},
		{"describe-without-words", unit.Describe, `because it failed to describe itself: gRPC error InvalidArgument$`},
		{"tcp", unit.Handshake, `it listens on a "tcp" address: only Unix sockets are allowed`},
		{"elsewhere", unit.Handshake, `its socket "/run/other.sock" is outside of its own directory`},
		{"no-socket", unit.Handshake, `its socket cannot be connected to: no such file or directory`},
		{"deaf", unit.StartTimeout, `its connection did not work within 5s`},
		{"unasked-certificate", unit.Handshake, `because it wants an encrypted connection that is not configured for it: set mtls for it, or build it without TLS$`},
		{"wrong-cookie", unit.ExitCode, `it ended with exit code 1 before its handshake`},
		{"flood-at-start", unit.Handshake, `it is not a Blocks handler: it printed "still not ready"`},
		{"fork-at-start", unit.ExitCode, `it ended with exit code 1 before its handshake$`},
		{"long-first-line", unit.Handshake, `it is not a Blocks handler: it printed "xxxx`},
	}
	for _, tt := range tests {
		t.Run(tt.alias, func(t *testing.T) {
			t.Parallel()
			r := *r
			if tt.reason == unit.StartTimeout || tt.alias == "closes-stdout" {
				r.Timeouts.Handshake = short
			}
			c, err := r.start(t, "badhandler", tt.alias)
			if err == nil {
				c.Kill()
				c.Close()
				t.Fatal("it started")
			}
			var f *Failure
			if !errors.As(err, &f) || f.Reason != tt.reason || !regexp.MustCompile(tt.text).MatchString(f.Text) {
				t.Errorf("failure %v: %v", f.Reason, err)
			}
			if strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "handler badhandler-"+tt.alias+" could not be started because ") {
				t.Errorf("not one sentence: %v", err)
			}
		})
	}
}

// A process that is slow to answer its first health check may be one of a busy machine: it has as long as for its description.
func TestFirstHealthCheck(t *testing.T) {
	r := newFixture(t)
	r.Timeouts.Health = time.Nanosecond
	r.conn(t, "badhandler", "")
}

// An encrypted connection works with the SDK, is not taken from one that has none, and carries tasks like any other.
func TestMTLS(t *testing.T) {
	r := newFixture(t)
	r.MTLS = true
	c := r.conn(t, "echo", "")
	if p, f := do(t, c, "t", "hi"); f != nil || len(p.artifacts) != 1 {
		t.Errorf("task over mTLS: %v", f)
	}
	if !c.Stop() {
		t.Error("not stopped")
	}
	for alias, want := range map[string]string{
		"minimal":         "because it offers no certificate: build it with an SDK that knows AutoMTLS of go-plugin, or set mtls to false for it",
		"bad-certificate": "because the certificate in its handshake cannot be read: x509: malformed certificate",
	} {
		_, err := r.start(t, "badhandler", alias)
		var f *Failure
		if !errors.As(err, &f) || f.Reason != unit.Handshake || err.Error() != "handler badhandler-"+alias+" could not be started "+want {
			t.Errorf("%s: %v", alias, err)
		}
	}
}

// A handler with a user of its own gets sockets that it can use, and still only its own.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	r := newFixture(t)
	r.Machine = launch.Probe(shim(t), "off")
	r.Limits = launch.Limits{User: "54330"}
	if err := os.Chmod(plugins.Dir(t), 0o755); err != nil {
		t.Fatal(err)
	}
	c := r.conn(t, "badhandler", "")
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", c.PID()), &st); err != nil || st.Uid != 54330 {
		t.Errorf("runs as user %d: %v", st.Uid, err)
	}
	if p, f := do(t, c, "t1", "publish 3"); f != nil || len(p.artifacts) != 1 { // over the host service
		t.Errorf("task of another user: %v", f)
	}
	// Our own process is a stranger to its host service, even as root and with the right socket.
	conn, err := net.Dial("unix", c.host.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := checkPeer(conn, c, 54330); err == nil {
		t.Error("the daemon's socket passed for the handler's")
	}
	if !c.Stop() {
		t.Error("not stopped")
	}
}

func TestRefusedLimits(t *testing.T) {
	r := newFixture(t)
	r.Limits = launch.Limits{CPUPercent: 50, Strict: true}
	_, err := r.start(t, "echo", "")
	var f *Failure
	if !errors.As(err, &f) || f.Reason != unit.Refused || err.Error() != "handler echo is not started because the limits are strict and this machine cannot keep them: processor time is not limited because there are no control groups; its isolation would be none instead of landlock: the handler may do whatever the daemon's user may because there is no launch program" {
		t.Errorf("error %v", err)
	}
	r.Limits.Strict = false
	c, err := r.start(t, "echo", "")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Skipped()) != 1 {
		t.Errorf("skipped %v", c.Skipped())
	}
	c.Kill()
	<-c.Done()
	c.Close()
}

func shim(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNoBinary(t *testing.T) {
	r := newFixture(t)
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("just text\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(name, content string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for path, want := range map[string]string{
		script("crlf", "#!/bin/sh\r\n"):                   "its first line ends with a carriage return, as in files of Windows, so it names \"/bin/sh\\r\"",
		script("env-crlf", "#!/usr/bin/env sh\r\n"):       "its first line ends with a carriage return, as in files of Windows, so it names \"sh\\r\"",
		script("missing", "#!/nowhere/python\n"):          "its first line names the interpreter /nowhere/python, which does not exist",
		script("env-missing", "#!/usr/bin/env python9\n"): "its first line has /usr/bin/env look for python9, which is not in its PATH",
	} {
		c := r.Config
		c.Handler, c.Path = "h", path
		if _, err := Start(t.Context(), c); err == nil || !strings.HasPrefix(err.Error(), "handler h could not be started because "+want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	for path, want := range map[string]string{"/nowhere": "no such file or directory", text: "exec format error", "/tmp": "permission denied"} {
		c := r.Config
		c.Handler, c.Path = "h", path
		_, err := Start(t.Context(), c)
		var f *Failure
		if !errors.As(err, &f) || f.Reason != unit.Spawn || err.Error() != "handler h could not be started: start "+path+": "+want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A handler that says itself why it cannot work is not started again for nothing, and its words are the reason.
func TestOwnReason(t *testing.T) {
	r := newFixture(t)
	for script, want := range map[string]struct {
		reason unit.Reason
		text   string
	}{
		"echo begin >&2; echo 'the package x is not installed: install x' >&2; exit 78": {unit.Refused, "handler h is not started because the package x is not installed: install x"},
		"exit 78":             {unit.ExitCode, "handler h could not be started because it ended with exit code 78 before its handshake"},
		"echo no >&2; exit 1": {unit.ExitCode, "handler h could not be started because it ended with exit code 1 before its handshake; its last line was \"no\""},
	} {
		c := r.Config
		c.Handler, c.Path, c.Args = "h", "/bin/sh", []string{"-c", script}
		_, err := Start(t.Context(), c)
		var f *Failure
		if !errors.As(err, &f) || f.Reason != want.reason || f.Text != want.text {
			t.Errorf("%s: %v", script, err)
		}
	}
}

func TestDescription(t *testing.T) {
	r := newFixture(t)
	d := r.conn(t, "echo", "").Description()
	if d.Name != "echo" || d.Version == "" || d.SDK == "" || len(d.Cards) != 1 || !d.Cancel || !d.Idempotent || !d.Described {
		t.Errorf("description %+v", d)
	}
	if d := r.conn(t, "badhandler", "minimal").Description(); d.Described || d.Cancel {
		t.Errorf("description of the minimal handler %+v", d)
	}
}

func TestStopLadder(t *testing.T) {
	r := newFixture(t)
	r.Timeouts.Terminate = 300 * time.Millisecond
	for _, alias := range []string{"", "minimal"} { // with Shutdown, and without
		stop(t, r.conn(t, "badhandler", alias))
	}
	// A frozen process answers nothing and cannot even take SIGTERM.
	r.Timeouts.Stop = 300 * time.Millisecond
	c := r.conn(t, "badhandler", "")
	testutil.Freeze(t, c.PID())
	if !c.Stop() {
		t.Fatal("not stopped")
	}
	if f := c.Exit(); f.Reason != unit.Signal || f.Text != "it was ended by signal 9 (killed)" {
		t.Errorf("exit %v", f)
	}
}

func FuzzHandshake(f *testing.F) {
	for _, s := range []string{"1|1|unix|/a/b|grpc|", "1|1|unix|/a/b|grpc||true", "1|99|unix|/x|grpc|", "|||||", "1|1|tcp|x|grpc"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		socket, err := parseHandshake(line)
		if err == nil && !filepath.IsAbs(socket) {
			t.Errorf("socket %q", socket)
		}
		if err != nil && (socket != "" || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q: %v", socket, err)
		}
	})
}

// A start ends in time although something that the process has started holds its socket, and outlives it.
func TestStartWithAnHeir(t *testing.T) {
	r := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := r.startWith(ctx, t, "badhandler", "heir")
		failed <- err
	}()
	var heir int
	testutil.Eventually(t, patience, "the process has shaken hands and has an heir", func() bool {
		_, err := fmt.Sscanf(regexp.MustCompile(`heir \d+`).FindString(r.logs.String()), "heir %d", &heir)
		return err == nil && heir != 0
	})
	t.Cleanup(func() { _ = syscall.Kill(heir, syscall.SIGKILL) })
	cancel()
	select {
	case err := <-failed:
		if err == nil {
			t.Error("started")
		}
	case <-time.After(patience):
		t.Error("the start does not end")
	}
}

// A handler's socket gets a name that others cannot see in the kernel's list.
func TestSocketMovesOutOfSight(t *testing.T) {
	r := newFixture(t)
	c := r.conn(t, "echo", "")
	listed, err := os.ReadFile("/proc/self/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(regexp.QuoteMeta(c.dir)+`/\S+`).FindAllString(string(listed), -1)
	if len(names) == 0 {
		t.Fatal("the kernel lists no socket of the handler")
	}
	for _, name := range names {
		conn, err := net.Dial("unix", name)
		if err == nil {
			conn.Close()
			if name != c.host.path { // which knows its callers
				t.Errorf("a stranger connects to %s", name)
			}
		}
	}
	if err := c.Check(t.Context(), patience); err != nil {
		t.Error(err)
	}
}
