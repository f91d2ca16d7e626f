//go:build linux

package launch

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What is given to a handler's user is what was made for it, whatever that user puts in its place.
func TestGive(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("machine: the tests do not run as root, so nothing can be given to others")
	}
	const somebody = 54391
	dir := t.TempDir()
	victim, socket := filepath.Join(dir, "victim"), filepath.Join(dir, "socket")
	if err := os.WriteFile(victim, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, place := range map[string]func(path string) error{
		"a symbolic link": func(path string) error { return os.Symlink(victim, path) },
		"a hard link":     func(path string) error { return os.Link(victim, path) },
		"its own": func(path string) error {
			return errors.Join(os.Mkdir(path, 0o700), os.Chown(path, somebody, somebody))
		},
	} {
		path := filepath.Join(dir, name)
		if err := place(path); err != nil {
			t.Fatal(err)
		}
		if err := Give(path, somebody+1, somebody+1); !errors.Is(err, errTaken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Give(socket, somebody, somebody); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]uint32{victim: 0, socket: somebody} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != want {
			t.Errorf("%s belongs to %d instead of %d", path, uid, want)
		}
	}
}
