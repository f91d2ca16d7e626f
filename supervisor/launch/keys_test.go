//go:build linux

package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// keys is a stand-in for a daemon that was started from a session with a key in its keyring: it shows which keys a handler with a
// user of its own sees. "join" makes the session, for which a process must be executed anew.
func keys() {
	err := func() error {
		if os.Getenv("LAUNCH_TEST_KEYS") == "join" {
			runtime.LockOSThread()
			if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
				return err
			}
			if _, err := unix.AddKey("user", "secret-of-the-session", []byte("x"), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
				return err
			}
			if err := os.Setenv("LAUNCH_TEST_KEYS", "spawn"); err != nil {
				return err
			}
			return syscall.Exec(os.Args[0], os.Args, os.Environ())
		}
		own, err := os.ReadFile("/proc/keys")
		if err != nil {
			return err
		}
		if !strings.Contains(string(own), "secret-of-the-session") {
			return errors.ErrUnsupported
		}
		s := NewSpawner()
		go func() { _ = s.Run(context.Background()) }()
		plan, err := Limits{User: "54323"}.Plan(Probe(self, "off"))
		if err != nil {
			return err
		}
		p, err := s.Spawn(context.Background(), Spec{Path: "/bin/cat", Args: []string{"/proc/keys"}, Plan: plan})
		if err != nil {
			return err
		}
		_, err = io.Copy(os.Stdout, p.Stdout)
		return err
	}()
	if err != nil {
		fmt.Println("error:", err)
	}
}

// A handler does not get the keys of the session that the daemon was started from.
func TestKeysOfTheSession(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so no other user can be had")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "LAUNCH_TEST_KEYS=join")
	out, err := cmd.CombinedOutput()
	switch text := string(out); {
	case err != nil:
		t.Errorf("%v: %s", err, text)
	case strings.HasPrefix(text, "error:"):
		t.Skip("machine: keys cannot be kept in the kernel")
	case strings.Contains(text, "secret-of-the-session") || !strings.Contains(text, "keyring"):
		t.Errorf("a handler sees these keys:\n%s", text)
	}
}
