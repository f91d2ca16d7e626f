//go:build linux

package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

// raw is a connection whose other end may be anything.
func raw(t *testing.T, dir string) *wire.Conn {
	t.Helper()
	c, err := net.Dial(wire.Network, filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return wire.NewConn(c.(*net.UnixConn))
}

func TestBadMessagesEndTheConnection(t *testing.T) {
	dir := serve(t)
	hello := wire.Request{Call: 1, Hello: &wire.Hello{Version: wire.Version}}
	for name, messages := range map[string][]any{
		"no greeting":     {wire.Request{Call: 1, Make: &wire.Make{UID: first, GID: first}}},
		"two greetings":   {hello, wire.Request{Call: 2, Hello: &wire.Hello{Version: wire.Version}}},
		"the same number": {hello, wire.Request{Call: 1, Make: &wire.Make{UID: first, GID: first}}},
		"not a request":   {hello, "what"},
		"root":            {hello, wire.Request{Call: 2, Make: &wire.Make{UID: 0, GID: first}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := raw(t, dir)
			for _, m := range messages {
				if err := c.Send(m); err != nil {
					t.Fatal(err)
				}
			}
			for {
				message, _, err := c.Receive()
				if err != nil {
					break // io.EOF, or a reset because something was left unread
				}
				if a, err := wire.DecodeAnswer(message); err != nil || a.Call != 1 {
					t.Errorf("it is answered: %s, %v", message, err)
				}
			}
		})
	}
}

func TestOnlyASocketIsShared(t *testing.T) {
	dir := serve(t)
	g := daemon(t, dir)
	plan := g.spec(t, first, "").Plan
	secret, link, socket := filepath.Join(dir, "secret"), filepath.Join(dir, "link"), filepath.Join(dir, "s")
	if err := errors.Join(os.WriteFile(secret, nil, 0o600), os.Symlink(socket, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{secret, link} {
		if err := plan.ShareSocket(path); err == nil {
			t.Errorf("%s is shared", path)
		}
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := plan.ShareSocket(socket); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info, err)
	}
}

// A daemon that was taken over sends descriptors that are not what they should be.
func TestWrongDescriptors(t *testing.T) {
	dir := serve(t)
	c := raw(t, dir)
	if err := c.Send(wire.Request{Call: 1, Hello: &wire.Hello{Version: wire.Version}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Receive(); err != nil {
		t.Fatal(err)
	}
	open := func(path string) *os.File {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	program, elsewhere := open("/bin/true"), open("/")
	call := uint64(1)
	for name, tt := range map[string]struct {
		files []*os.File
		says  string
	}{
		"a file for standard output": {[]*os.File{program, w, w, program}, "descriptor 0 is not what it should be"},
		"a directory as the program": {[]*os.File{w, w, w, elsewhere}, "descriptor 3 is not what it should be"},
		"no control group":           {[]*os.File{w, w, w, program, elsewhere}, "the control group does not belong to the daemon"},
		"the group of all":           {[]*os.File{w, w, w, program, open("/proc/self")}, "the control group does not belong to the daemon"},
	} {
		call++
		start := &wire.Start{UID: first, GID: first, Args: wire.TextsOf([]string{"x"}), Dir: "/"}
		if err := c.Send(wire.Request{Call: call, Start: start}, tt.files...); err != nil {
			t.Fatal(err)
		}
		message, _, err := c.Receive()
		var a wire.Answer
		if err != nil || json.Unmarshal(message, &a) != nil || a.Error != tt.says {
			t.Errorf("%s: %s, %v", name, message, err)
		}
	}
}

// What a process has started is ended as a whole only in a control group of the daemon, so none starts outside of one.
func TestProcessesNeedAGroup(t *testing.T) {
	dir := base(t)
	s, err := newServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Ungrouped = false
	run(t, s)
	g := daemon(t, dir)
	p, err := g.Spawn(t.Context(), g.spec(t, first, "setsid sleep 600 & exit 0"))
	if err == nil {
		ended(t, p)
		p.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "only in control groups of the daemon") {
		t.Errorf("a process without a group: %v", err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	dir := serve(t)
	if err := os.Chmod(filepath.Join(dir, "s"), 0o666); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "LAUNCHER_TEST_STRANGER="+filepath.Join(dir, "s"))
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "refused\n" {
		t.Errorf("a stranger is answered: %s, %v", out, err)
	}
}

// stranger greets a launcher and says whether that answers.
func stranger(socket string) {
	c, err := net.Dial(wire.Network, socket)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	conn := wire.NewConn(c.(*net.UnixConn))
	_ = conn.Send(wire.Request{Call: 1, Hello: &wire.Hello{Version: wire.Version}}) // it may be closed by now
	if message, _, err := conn.Receive(); err == nil {
		fmt.Printf("%s\n", message)
		return
	}
	fmt.Println("refused")
}

func TestWhatALauncherNeeds(t *testing.T) {
	dir := base(t)
	s, err := newServer(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.cfg.Listener.Close()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"a directory that is not private": func(c *Config) { c.Dirs = open },
		"no directory":                    func(c *Config) { c.Dirs = filepath.Join(dir, "none") },
		"users of the system":             func(c *Config) { c.First = 0 },
		"no users":                        func(c *Config) { c.Last = c.First - 1 },
		"anybody":                         func(c *Config) { c.Peer = nil },
	} {
		c := s.cfg
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: it is made", name)
		}
	}
}
