package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/blocksd/blocksd/daemon/config"
	"github.com/blocksd/blocksd/supervisor/launch"
	"github.com/blocksd/blocksd/supervisor/launch/launcher"
	"github.com/blocksd/blocksd/supervisor/launch/wire"
)

// launcherOptions are the flags of launcher, all of them root's word.
type launcherOptions struct {
	socket, dirs, users, daemonUser, daemonUnit, config string
}

func newLauncher(a *app) *cobra.Command {
	var o launcherOptions
	cmd := &cobra.Command{
		Use: "launcher", Short: "Start handlers as users of their own for the daemon", Args: argsOfUse,
		Long: "Start handlers as users of their own for a daemon that does not run as root. The unit blocksd-launcher.service runs it, as root\n" +
			"with no right but to change users; nothing else needs it.",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.launcher(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.socket, "socket", "", "Unix socket to listen at (default: the one that systemd passes)")
	f.StringVar(&o.dirs, "dirs", "/run/blocksd-launcher", "directory of the private directories of handlers")
	f.StringVar(&o.users, "users", config.DefaultUsers, "numbers of the users that handlers may get")
	f.StringVar(&o.daemonUser, "daemon-user", "blocksd", "user of the daemon, the only one that may connect")
	f.StringVar(&o.daemonUnit, "daemon-unit", "", "unit of the daemon, if only processes of it may connect, and no handlers")
	f.StringVar(&o.config, "config", "", "configuration file, whose handlers may also have the users that it names (default: the daemon's)")
	return cmd
}

func (a *app) launcher(ctx context.Context, o launcherOptions) error {
	first, last, err := config.Isolation{Users: o.users}.UserRange()
	if err != nil || last == 0 {
		return usagef("launcher: --users must be two numbers of at least 1000, like 60600-61183, not %q", o.users)
	}
	peer, err := daemonOnly(o)
	if err != nil {
		return err
	}
	log, _, err := a.newLog(config.Log{Level: "info", Format: "auto"}, a.Stderr, a.Stderr)
	if err != nil {
		return err
	}
	if err := hideProcess(); err != nil {
		return err
	}
	unix.Umask(0o007) // what it makes is for the user that it makes it for, and for the daemon's group
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("give up the groups of root: %w: the launcher must run as root, with the right to change users", err)
	}
	listener, err := a.launcherListener(o.socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	s, err := launcher.New(launcher.Config{
		Listener: listener, Shim: "/proc/self/exe", Dirs: o.dirs, First: first, Last: last, Peer: peer, Log: log,
		Named: func(uid, gid uint32) bool { return namedUser(o.config, uid, gid) },
		// Where there is no unit there may be no control groups at all.
		Ungrouped: o.daemonUnit == "",
	})
	if err != nil {
		return err
	}
	running, stop := a.interruptible(ctx)
	defer stop()
	return s.Run(running)
}

// daemonOnly lets the daemon connect, and nobody else.
func daemonOnly(o launcherOptions) (func(pid int, uid uint32) error, error) {
	daemon, _, err := launch.LookUpUser(o.daemonUser)
	if err != nil {
		return nil, err
	}
	inUnit := func(int) error { return nil }
	if o.daemonUnit != "" {
		if inUnit, err = launch.DaemonOfUnit(o.daemonUnit); err != nil {
			return nil, err
		}
	}
	return func(pid int, uid uint32) error {
		if uid != daemon {
			return fmt.Errorf("it is not of user %s", o.daemonUser)
		}
		return inUnit(pid)
	}, nil
}

// launcherListener listens at a path, or takes the socket of systemd over.
func (a *app) launcherListener(path string) (*net.UnixListener, error) {
	if path != "" {
		l, err := net.ListenUnix(wire.Network, &net.UnixAddr{Name: path, Net: wire.Network})
		if err != nil {
			return nil, fmt.Errorf("listen at %s: %w", path, err)
		}
		return l, nil
	}
	if a.getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) || a.getenv("LISTEN_FDS") != "1" {
		return nil, usagef("launcher: there is no socket: systemd passes it, or --socket names it")
	}
	const first = 3
	unix.CloseOnExec(first)
	f := os.NewFile(first, "socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take the socket of systemd over: %w", err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok || ul.Addr().Network() != wire.Network {
		return nil, errors.Join(fmt.Errorf("take the socket of systemd over: it must be a sequential packet socket"), l.Close())
	}
	return ul, nil
}

// namedUser reports whether the configuration gives a handler this user. Only what root alone may write counts.
func namedUser(file string, uid, gid uint32) bool {
	file = config.FindFile(file) // "" where there are only fragments
	fragments := config.FragmentsOf(file)
	files, err := filepath.Glob(filepath.Join(fragments, "*"))
	if err != nil {
		return false
	}
	if file != "" {
		files = append(files, file)
	}
	for _, path := range append(files, fragments, filepath.Dir(fragments)) {
		if !ofRootAlone(path) {
			return false
		}
	}
	c, _, err := config.Load(config.Sources{File: file, Fragments: fragments})
	if err != nil {
		return false
	}
	for _, h := range c.Handlers {
		if h.User == "" {
			continue
		}
		if u, g, err := launch.LookUpUser(h.User); err == nil && u == uid && g == gid {
			return true
		}
	}
	return false
}

// ofRootAlone reports whether only root can change a file or directory, or there is none.
func ofRootAlone(path string) bool {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return errors.Is(err, unix.ENOENT)
	}
	return st.Uid == 0 && st.Mode&0o022 == 0
}
