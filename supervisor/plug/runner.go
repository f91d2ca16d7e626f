package plug

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/blocksd/blocksd/supervisor/launch"
)

// processRunner is what go-plugin gets instead of a command: it owns nothing. Process, pipes, deadlines and kill are ours;
// go-plugin sees one checked handshake line and an empty standard error, because its own log parser can be made to panic.
type processRunner struct {
	name string
	dir  string // the only place for sockets
	// begin starts the process and waits for its handshake line.
	begin   func() (*launch.Process, string, error)
	process *launch.Process // set by Start
	line    string          // set by Start
	moved   string          // set by checkSocket; where the handler's socket is now
}

func (r *processRunner) Start(context.Context) (err error) {
	r.process, r.line, err = r.begin()
	return err
}

func (r *processRunner) Stdout() io.ReadCloser {
	return io.NopCloser(strings.NewReader(r.line + "\n"))
}
func (r *processRunner) Stderr() io.ReadCloser           { return io.NopCloser(strings.NewReader("")) }
func (r *processRunner) Name() string                    { return r.name }
func (r *processRunner) Diagnose(context.Context) string { return "" }

func (r *processRunner) Wait(context.Context) error {
	<-r.process.Done()
	return nil
}

func (r *processRunner) Kill(context.Context) error {
	if r.process == nil {
		return nil
	}
	return r.process.Signal(syscall.SIGKILL)
}

func (r *processRunner) ID() string {
	if r.process == nil {
		return ""
	}
	return strconv.Itoa(r.process.PID())
}

// PluginToHost is called with the address of the handshake before anything is dialed.
func (r *processRunner) PluginToHost(network, address string) (string, string, error) {
	if err := r.checkSocket(network, address); err != nil {
		return "", "", err
	}
	return network, address, nil
}

func (r *processRunner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

func (r *processRunner) checkSocket(network, address string) error {
	if network != "unix" {
		return fmt.Errorf("it listens on a %q address: only Unix sockets are allowed", network)
	}
	if filepath.Dir(filepath.Clean(address)) != r.dir {
		return fmt.Errorf("its socket %q is outside of its own directory, the one that PLUGIN_UNIX_SOCKET_DIR names", shorten(address))
	}
	conn, err := r.dial(context.Background(), "")
	if err != nil {
		return err
	}
	conn.Close()
	return r.moveAway(address)
}

// moveAway gives the handler's socket a name that nobody else knows. The kernel shows the name under which a socket was made
// to every process of the machine, and not every handler looks who connects.
func (r *processRunner) moveAway(address string) error {
	moved := filepath.Join(r.dir, rand.Text()[:secretName])
	if err := os.Rename(address, moved); err != nil {
		return fmt.Errorf("its socket cannot be moved out of sight: %w", err)
	}
	r.moved = moved
	return nil
}

// secretName is how long the name of a socket is: not longer than that of go-plugin's server, because paths of sockets are
// short of room, and 80 bits.
const secretName = 16

// dial connects to the handler's socket and checks by SO_PEERCRED, each time, that the handler listens there.
func (r *processRunner) dial(ctx context.Context, _ string) (net.Conn, error) {
	socket, err := parseHandshake(r.line)
	if err != nil {
		return nil, err
	}
	if r.moved != "" {
		socket = r.moved
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		var sys syscall.Errno
		if errors.As(err, &sys) {
			err = sys
		}
		return nil, fmt.Errorf("its socket cannot be connected to: %w", err)
	}
	if err := checkPeer(conn, r.process, r.process.UID()); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
