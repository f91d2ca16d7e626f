package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

const (
	socketMode = 0o660
	// dirMode of a directory that we have to make ourselves: under systemd it exists.
	dirMode = 0o750
)

// Listen opens the control socket. A socket that a dead daemon left is replaced; one with a live owner is not.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return nil, fmt.Errorf("open control socket %s: make its directory: %w: choose another path with --socket", path, err)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket %s: %w: choose another path with --socket", path, cause(err))
	}
	// Between the two calls the mode is what the umask leaves; changing things also needs the right user.
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("open control socket %s: %w", path, cause(err)), l.Close())
	}
	return l, nil
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("open control socket %s: %w: choose another path with --socket", path, cause(err))
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("open control socket %s: there is a file of another kind: remove it or choose another path with --socket", path)
	}
	var d net.Dialer // connecting to a Unix socket never waits
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) { // refused: nobody listens. Anything else: somebody may.
		return fmt.Errorf("open control socket %s: another daemon answers on it: stop that one or choose another path with --socket", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("open control socket %s: remove what a dead daemon left: %w", path, cause(err))
	}
	return nil
}

// cause is the innermost reason of an error of net or os, without the operation and path that our sentence names.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
